// A step of a program has a root and stages. The root computes values from tensors in memory (or just loads them), and
// the values then pass through the stages in registers.
//
// Each kind of root is a class. It runs either row by row, on tensors of any strides (RowRoot), or on a range of items
// of contiguous tensors, without stages (FlatRoot). A step without a root divides a sum by the number of pixels
// (sums.h).
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
  int tensor = -1;                               // operand or target; -1: `constant`, the step's sums, or none
  std::shared_ptr<std::vector<float>> constant;  // one vector over the channels
  bool per_image = false, per_pixel = false;     // whether the operand or target differs between images, pixels
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
  AlignedBuffer ring;                 // rows that a root writes before it yields values: those of a feeder, for example
  std::vector<const uint8_t*> lines;  // pointers to the input rows of a window with many rows
  std::vector<Stage> stages, feeder_stages;
  int computed = 0;  // the feeder's first row that the thread has not computed yet; the ring has the last few before it
};

// How much of a workspace a step needs: bytes of `scratch` and `ring`, and the number of `lines`.
struct WorkspaceSize {
  size_t scratch = 0;
  Count ring = 0;
  size_t lines = 0;
};

// How many pixels around each image a root reads besides the image.
struct Border {
  int top = 0, left = 0, bottom = 0, right = 0;
  bool any() const { return top || left || bottom || right; }
};

// One row of outputs, for some of its channels.
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
  // What the root reads for one block of channels of an output pixel. kRuns: all channels of some pixels; they must be
  // contiguous. kWindow: only the same block of channels, of the pixels of a window. kPixel: only the same block of
  // the same pixel.
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
  // Whether a window may absorb it as its feeder.
  virtual bool may_feed() const { return false; }
  // Makes it yield sums from now on, and returns how the stage kNumbers requantises them. Returns null and changes
  // nothing if it does not yield int8 numbers, or if a later stage could not requantise the sums with the same result.
  virtual const Requantisation* LeaveUnfinished() { return nullptr; }
  // Makes it yield int8 numbers minus their zero point from now on. Returns false if it cannot.
  virtual bool OmitZeroPoint() { return false; }
  virtual Border border() const { return {}; }
  // The tensors that it reads besides Step::input.
  virtual std::vector<int> more_inputs() const { return {}; }
  // Packs weights and makes tables.
  virtual void Prepare(const Setting&) {}
  // Called once the input has its place in memory: works out how the root reads it. Returns the workspace that a thread
  // needs.
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
  // The number of items, which threads divide among themselves.
  virtual int items() const = 0;
  // The estimated time of all items, in units of one float product.
  virtual int64_t work() const = 0;
  virtual void Run(const FlatRun& run) const = 0;
};

struct Step {
  // Indices into graph.ops. The first is the root's operator or, if the root loads a tensor, the first operator that is
  // applied to it. Empty for a step that makes a padded copy.
  std::vector<int> ops;
  int input = -1;                 // tensor read by the root
  int output = -1;                // tensor written by a step without stages
  std::unique_ptr<RowRoot> rows;  // the root is `rows` or `flat`; without a root both are null
  std::unique_ptr<FlatRoot> flat;
  std::vector<StagePlan> stages;
  // The shape of the values in registers. Without stages: of the output; without a root: of the values in the sum.
  Shape out;
  int sums = -1;                 // index of the sums that it adds to or, without a root, divides
  std::unique_ptr<Step> feeder;  // of a window: the convolution that computes its input

  int op() const { return ops.empty() ? -1 : ops[0]; }  // for messages
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
