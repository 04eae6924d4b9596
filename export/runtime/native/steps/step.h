// Most steps of a program have a root and stages. The root computes values from tensors in memory, or loads them. The
// values then pass through the stages in registers.
//
// Each kind of root is a class. A RowRoot runs row by row, on tensors of any strides. A FlatRoot runs on a range of
// items of contiguous tensors, and its step has no stages. A step without a root divides the sums of another step by
// the number of pixels (sums.h).
#pragma once

#include <memory>
#include <vector>

#include "aligned_buffer.h"
#include "graph.h"
#include "kernels/kernels.h"
#include "limits.h"
#include "weights.h"

namespace r2b {

class Memory;
struct Storage;
struct Step;

// A stage before its pointers are known.
struct StagePlan {
  Stage::Kind kind;
  float lo = 0, hi = 0;
  float scale = 1;                               // kStoreInt8
  int32_t zero_point = 0;                        // kStoreInt8
  int tensor = -1;                               // read or written; -1: `constant`, Step::sums or nothing is used
  std::shared_ptr<std::vector<float>> constant;  // one operand for each channel
  bool per_image = false, per_pixel = false;     // whether `tensor` has values for each image, for each pixel
  const Requantisation* output = nullptr;        // kNumbers
  int before = 0, windows = 0;                   // kMaxColumns

  bool stores() const { return kind == Stage::kStoreFloat || kind == Stage::kStoreBits || kind == Stage::kStoreInt8; }
};

// What a root's Prepare() may use, once shapes are known.
struct Setting {
  const Graph& graph;
  const Kernels* kernels;
  WeightCache* weights;
};

// The buffers of one thread.
struct Workspace {
  AlignedBuffer scratch;
  AlignedBuffer ring;                 // rows that a root stores temporarily: those of a feeder, for example
  std::vector<const uint8_t*> lines;  // pointers to the input rows of a window with many rows
  std::vector<Stage> stages, feeder_stages;
  int computed = 0;  // one past the feeder's last row in `ring`; 0: the ring has no rows to reuse
};

// How much of a workspace a step needs: bytes of `scratch` and `ring`, and the number of `lines`.
struct WorkspaceSize {
  size_t scratch = 0;
  Count ring = 0;
  size_t lines = 0;
};

// How many pixels a root reads beyond each edge of an image.
struct Border {
  int top = 0, left = 0, bottom = 0, right = 0;
  bool any() const { return top || left || bottom || right; }
};

// A row of outputs, or some channels of it.
struct RowRun {
  const Step& step;
  const Memory& memory;
  const Kernels* kernels;
  Workspace* workspace;
  int image, y;
  int begin_channel, end_channel;  // begin_channel is a multiple of kBlock
  bool follows;                    // whether the thread has just run the row above, of the same image and channels
};

class RowRoot {
 public:
  // What the root reads to compute one block of channels of an output pixel. kRuns: all channels of some pixels; there
  // must be no gaps between the channels of a pixel, or between the pixels of a row. kWindow: the same block of
  // channels of the pixels in a window. kPixel: the same block of the same pixel.
  enum class Reads : uint8_t { kRuns, kWindow, kPixel };
  // When threads may share a row's channels. kForSums: only to let one thread add up all rows of a channel. kFreely:
  // also to divide the work more evenly.
  enum class Splits : uint8_t { kNever, kForSums, kFreely };

  virtual ~RowRoot() = default;
  virtual const char* name() const = 0;  // in profiles
  virtual Reads reads() const = 0;
  virtual Splits splits() const { return Splits::kNever; }
  // Whether its values pass through stages. False: it writes Step::output itself.
  virtual bool has_stages() const { return true; }
  // Whether the blocks of its values begin at multiples of kBlock channels.
  virtual bool whole_blocks() const { return true; }
  // Whether a pooling step may absorb it as its feeder.
  virtual bool may_feed() const { return false; }
  // Makes it yield 32-bit sums instead of int8 numbers, and returns how the stage kNumbers must requantise them.
  // Returns null and changes nothing if it does not yield int8 numbers, or if requantising in a later stage could
  // change the results.
  virtual const Requantisation* LeaveUnfinished() { return nullptr; }
  // Makes it yield int8 numbers minus their zero point. Returns false if it cannot.
  virtual bool OmitZeroPoint() { return false; }
  virtual Border border() const { return {}; }
  // The tensors that it reads besides Step::input.
  virtual std::vector<int> more_inputs() const { return {}; }
  // Packs weights and makes tables.
  virtual void Prepare(const Setting&) {}
  // Called when the input has its place in memory: computes how the root reads it. Returns the workspace that each
  // thread needs.
  virtual WorkspaceSize Lay(const Step&, const Memory&) { return {}; }
  virtual void Run(const RowRun& run, const Epilogue& epilogue) const = 0;
};

struct FlatRun {
  const Step& step;
  const Memory& memory;
  const Kernels* kernels;
  int begin, end;  // items
};

class FlatRoot {
 public:
  virtual ~FlatRoot() = default;
  virtual const char* name() const = 0;  // in profiles
  virtual void Prepare(const Setting&) {}
  // The number of items (values, pixels or groups of outputs) that threads divide among themselves.
  virtual int items() const = 0;
  // The estimated time of all items, in units of one float product.
  virtual int64_t work() const = 0;
  virtual void Run(const FlatRun& run) const = 0;
};

struct Step {
  // Indices into graph.ops. The first is the root's operator. If the root loads a tensor, it is the first operator that
  // is applied to the tensor; without a root, it is the operator that averages. A step that makes a padded copy has no
  // operators.
  std::vector<int> ops;
  int input = -1;                 // tensor read by the root
  int output = -1;                // tensor written by a step without stages
  std::unique_ptr<RowRoot> rows;  // the root is `rows` or `flat`; without a root both are null
  std::unique_ptr<FlatRoot> flat;
  std::vector<StagePlan> stages;
  // The shape of the values in registers. In a step without stages it is the shape of the output; in a step without a
  // root it is the shape of the values that were summed.
  Shape out;
  int sums = -1;                 // index of the sums to which the step adds, or that it divides; -1: none
  std::unique_ptr<Step> feeder;  // of a pooling step: the convolution that computes its input

  int op() const { return ops.empty() ? -1 : ops[0]; }  // the first operator, or -1
  bool finishes_sum() const { return !rows && !flat; }
  const char* name() const { return rows ? rows->name() : flat ? flat->name() : "mean"; }
  // The part of the step that reads the input from memory.
  const Step& source() const { return feeder ? *feeder : *this; }
  Step& source() { return feeder ? *feeder : *this; }
  // The index of the first stage of that kind, or -1.
  int FindStage(Stage::Kind kind) const;
  // All tensors that the step reads from memory, and all that it writes there.
  std::vector<int> Reads(const Graph& graph) const;
  std::vector<int> Writes() const;
};

// The number of blocks of kBlock channels that hold `channels` channels.
inline int Blocks(int channels) { return (channels + kBlock - 1) / kBlock; }

}  // namespace r2b
