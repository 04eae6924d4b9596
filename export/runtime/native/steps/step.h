// A step of a program has a root, which yields values from memory, and stages, through which they pass in registers.
//
// Each kind of root is a class, which says what it prepares and how it runs: row by row on tensors of any strides
// (RowRoot), or as a range of items of contiguous tensors (FlatRoot). A step without a root divides a sum by the number
// of pixels (sums.h).
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
  int tensor = -1;                               // operand or target; -1: `constant` or the step's sums
  std::shared_ptr<std::vector<float>> constant;  // one vector over the channels
  bool per_image = false, per_pixel = false;     // how the operand varies
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

// The buffers that each thread has for itself.
struct Workspace {
  AlignedBuffer scratch;
  AlignedBuffer ring;  // rows that a root makes first: those between a window and its feeder, for example
  std::vector<const uint8_t*> lines;  // the rows of a window with many rows
  std::vector<Stage> stages, feeder_stages;
  int computed = 0;  // the feeder's first row that the thread has not computed yet; the ring has the last few before it
};

// How much of a workspace a step needs: bytes, and how many lines.
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
  bool follows;                    // whether the thread's last row was the one above, of the same image and channels
};

class RowRoot {
 public:
  // What it reads for an output pixel: runs of all channels; a window, in separate blocks of channels; or the same
  // pixel, in separate blocks.
  enum class Reads : uint8_t { kRuns, kWindow, kPixel };
  // When threads may share a row's channels: never; only so that each thread adds up the sums of its own channels; or
  // also if that divides the work more evenly.
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
  // nothing if it does not make int8 numbers, or if their sums cannot be left to a later stage with the same result.
  virtual const Requantisation* LeaveUnfinished() { return nullptr; }
  // Makes it yield int8 numbers minus their zero point from now on. Returns false if it cannot.
  virtual bool OmitZeroPoint() { return false; }
  virtual Border border() const { return {}; }
  // The tensors that it reads besides Step::input.
  virtual std::vector<int> more_inputs() const { return {}; }
  // Packs weights and makes tables.
  virtual void Prepare(const Setting&) {}
  // Works out how it reads its input, once that has a place in memory. Returns the workspace that a thread needs.
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
  // The estimated time of all items, in float products.
  virtual int64_t work() const = 0;
  virtual void Run(const FlatRun& run) const = 0;
};

struct Step {
  std::vector<int> ops;           // indices into graph.ops, in order; ops[0] is the root (none for a step that pads)
  int input = -1;                 // tensor read by the root
  int output = -1;                // tensor written, for roots without stages
  std::unique_ptr<RowRoot> rows;  // the root is `rows` or `flat`; without a root both are null
  std::unique_ptr<FlatRoot> flat;
  std::vector<StagePlan> stages;
  Shape out;                     // of the values in registers
  int sums = -1;                 // index of the sums that it adds to or, without a root, divides
  std::unique_ptr<Step> feeder;  // of a window: the convolution that computes its input

  int op() const { return ops.empty() ? -1 : ops[0]; }  // for messages
  bool finishes_sum() const { return !rows && !flat; }
  const char* name() const { return rows ? rows->name() : flat ? flat->name() : "mean"; }
  // The part that reads the input from memory.
  const Step& source() const { return feeder ? *feeder : *this; }
  Step& source() { return feeder ? *feeder : *this; }
  // The index of the first stage of that kind, or -1.
  int FindStage(Stage::Kind kind) const;
  // All tensors that it reads from memory and writes to it.
  std::vector<int> Reads(const Graph& graph) const;
  std::vector<int> Writes() const;
};

// The number of blocks of 32 that hold so many channels.
inline int Blocks(int channels) { return (channels + kBlock - 1) / kBlock; }

}  // namespace r2b
