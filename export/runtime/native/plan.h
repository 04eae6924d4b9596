// Turns a graph into a short list of steps, gives every tensor that must exist a place in memory, and runs the list.
//
// Fusion. A step starts where values must come from memory (a convolution, a window, or an existing tensor) and
// absorbs the element-wise operators that follow: its result stays in registers while scales, gates, PReLU,
// shortcuts, batch norms and logistic functions are applied. On the way it can store the value (where others read it),
// pack its signs (for the next binary convolution) and sum it over the image (for the next gate). So a Real-to-Binary
// half block becomes one bconv step: popcounts -> x gate -> PReLU -> + shortcut -> store -> batch norm -> sum and sign
// bits. An operator is absorbed only if its other operand does not wait, through any step, for the step that would
// absorb it.
//
// A window (max pooling) that alone reads a convolution takes it in as its feeder: the convolution's rows are computed
// when the window needs them and live in a ring of a few rows, which stays in the cache where the whole tensor would
// not. Of a window of maxima three wide and two apart, the ring holds the maxima of the columns, which are taken while
// the row is in registers; and a PReLU that nowhere falls is applied to the maximum instead of to each value.
//
// Memory. Tensors inside a step never exist. The others share one arena by lifetime; a sum may overwrite its
// shortcut. Inputs of padded convolutions get a border ("halo") of zero bits or zeros around each image, so that
// convolutions never test for edges; since nothing may overwrite the border such tensors do not share memory.
// For several threads, a tensor of several blocks of channels lies in rows of blocks where nobody outside sees it and
// all who use it can: threads that share a row's channels then work in separate runs of memory, and their cores do not
// fetch each other's lines ahead. (One thread finds the pixels' channels side by side a little faster.) The plan owns
// all of it: an interpreter allocates nothing for tensors inside a delegated partition.
//
// Threads. All threads run all steps, each its share of the output rows (or of the channels, where rows are few), with
// a barrier between steps, except between those so small that one thread does them all. Who is done first takes over
// rows that another has not begun (work_sharing.h). Whoever does which rows, results are those of one thread, to the
// last bit: a sum over an image adds pixel after pixel from the first row on, as long as one thread has the rows that
// follow; the values of all other rows are kept apart, and added in order once all rows are there. What has been added
// and what is kept apart is noted with the sums, since other steps may run before somebody needs them. Where the blocks
// of channels divide among the threads, each thread begins with all rows of its own channels, so that little is kept
// apart. Threads that share a pixel's channels share the cache lines of
// its packed bits too, and taking a line from another core for one word costs as much as the products behind the word:
// each thread writes a plane of its own channels' words, and once all are done, they merge the planes, each some rows.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph.h"
#include "kernels/kernels.h"
#include "limits.h"
#include "thread_pool.h"
#include "work_sharing.h"

namespace r2b {

// A stage before its pointers are known.
struct StagePlan {
  Stage::Kind kind;
  float lo = 0, hi = 0;
  int tensor = -1;                               // operand or target; -1: `constant` or the step's sums
  std::shared_ptr<std::vector<float>> constant;  // one vector over the channels
  bool per_image = false, per_pixel = false;     // how the operand varies
  int before = 0, windows = 0;                   // kMaxColumns
};

struct Step {
  enum Kind : uint8_t {
    kBconv,
    kFconv,
    kPool,
    kLoad,
    kBmaxPool,
    kFinishSum,
    kDense,
    kLogistic,
    kSoftmax,
    kCopy,
    kPad,
    kUnpack,
    kPackBytes,
    kBinary
  };
  Kind kind;
  std::vector<int> ops;  // indices into graph.ops, in order; ops[0] is the root (none for kPad and kFinishSum)
  int input = -1;        // tensor read by the root
  int output = -1;       // tensor written, for kinds without stages
  std::vector<StagePlan> stages;
  Shape out;           // of the values in registers
  int sums = -1;       // index of the partial sums written by (or, kFinishSum, read) this step
  int sum_stage = -1;  // the stage that adds to them
  bool meet = false;   // whether threads wait for each other after it
  // What the root needs, by kind.
  std::shared_ptr<std::vector<uint8_t>> packed;  // weights
  ptrdiff_t block_bytes = 0;
  int groups = 1;
  const Kernels* kernels = nullptr;
  std::vector<float> multiplier, bias;  // groups padded to whole blocks
  bool unscaled = false, clamp = false;
  float lo = 0, hi = 0;
  std::vector<ptrdiff_t> segments;
  int run_length = 0;
  Extent extent_h{0, 0}, extent_w{0, 0};
  // Border corrections: `correction_rows[y]` selects a table of `width` pointers (null inside the image).
  std::vector<float> corrections;
  std::vector<int> correction_rows;
  std::vector<const float*> correction_tables;
  std::vector<int> window_begin, window_end;  // kPool: clipped columns
  std::vector<Step> feeder;                   // kPool: the convolution (one, or none) that computes its input
  Shape ring;                                 // the rows between a window and its feeder: how many, and how wide
  int splits = 1;                             // channel shares, for threads
  int turn = -1;                              // how many steps of rows come before it; -1: it is none
  int planes_stage = -1;         // the stage that stores bits, where splits keep theirs apart until the end
  std::vector<uint32_t> planes;  // [split][row][pixel][word]
  bool alone = false;            // one thread does it; neighbours of the kind need no barrier between them
  double seconds = 0;            // accumulated when profiling
  int64_t runs = 0;
};

// Where a tensor lives. Strides are in bytes; contiguous unless the tensor has a halo or rows of blocks.
struct Storage {
  uint8_t* base = nullptr;  // first element of the first image
  ptrdiff_t pixel = 0, row = 0, image = 0;
  ptrdiff_t gap = 0;      // between blocks of channels (see kernels.h)
  bool external = false;  // bound by the caller for each run
  int top = 0, left = 0, bottom = 0, right = 0;
  int alias = -1;  // lives in this tensor's memory
  size_t offset = 0, bytes = 0;
  bool bordered() const { return top || left || bottom || right; }
};

class Plan {
 public:
  Plan(Graph graph, const Kernels* kernels, bool profile);
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  // Sets an input's shape for the next Prepare().
  void SetDims(int tensor, const int* dims, int rank);
  // For the next Prepare().
  void SetLimits(const Limits& limits) { limits_ = limits; }
  // Infers shapes, fuses, allocates. May be called again after shapes changed. False, with the reason, where the graph
  // cannot be run, or not within the limits.
  bool Prepare(int threads, std::string* error);
  // What the last Prepare() took of the limits.
  const Budget& budget() const { return budget_; }
  const std::vector<int>& dims(int tensor) const { return graph_.tensors[tensor].dims; }
  void Bind(int tensor, void* data);
  // All inputs and outputs must be bound. The pool's size must be the `threads` given to Prepare(), or less.
  void Run(ThreadPool* pool);

  const Graph& graph() const { return graph_; }
  const std::vector<Step>& steps() const { return steps_; }
  std::string Describe(const Step& step) const;

 private:
  struct Sums {
    int images = 0, channels = 0;
    float* values = nullptr;  // in `buffer`, from the start of a cache line, so that no two threads' channels share one
    std::vector<uint8_t> buffer;
    int step = -1;  // which step adds to them
    // [image][split]: how many of the image's rows, from the first on, `values` has. Only the thread that adds them
    // writes it before all have met; on a cache line of its own.
    struct alignas(64) Added {
      int rows = 0;
    };
    std::vector<Added> added;
    // Values of the other rows, [row][pixel][channel]; null for one thread. Not initialised: few pages of it are ever
    // touched.
    std::unique_ptr<float[]> apart;
  };
  // What a thread has for itself.
  struct Workspace {
    std::vector<uint8_t> scratch;
    std::vector<uint8_t> ring;          // rows between a window and its feeder
    std::vector<const uint8_t*> lines;  // the rows of a high window
    std::vector<Stage> stages, feeder_stages;
  };

  bool PrepareAll(int threads, std::string* error);
  void PlaceTensors();
  void PrepareSums(Step* step, int threads);
  void PrepareStep(Step* step);
  size_t PrepareRuns(Step* step, int threads);
  void SplitChannels(Step* step, int threads);
  void PreparePlanes(Step* step);
  void PrepareCorrections(Step* step, const Op& op);
  void PackWeights(Step* step, const Op& op);
  void PrepareBias(Step* step, const Op& op);
  int Batch(const Op& dense) const;
  void RunDense(const Step& step, int thread, int threads);
  void FinishSum(const Step& step);
  void RunBinary(const Step& step, int thread, int threads);
  void RunPlain(const Step& step, int thread, int threads);
  void FeedWindows();
  void Narrow(Step* pool);
  void InsertPads();
  void LayInBlocks();
  void AllocateArena();
  bool Meets(size_t step) const;
  void RunStep(Step& step, int thread, int threads);
  bool Alone(const Step& step) const;
  void AssignRows(size_t turn, int thread, int threads);
  void RunRows(const Step& step, int thread);
  void PadRow(const Step& step, int image, int y);
  void AddApart(Sums* sums);
  void MergePlanes(const Step& step, int thread, int threads);
  void RunConvRow(const Step& step, int image, int y, int c0, int c1, const Epilogue& epilogue, int thread);
  void RunPoolRow(const Step& step, int image, int y, int c0, int c1, const Epilogue& epilogue, int thread,
                  int* computed);
  void ResolveStage(const Step& step, const StagePlan& plan, int image, int y, Stage* stage) const;
  Epilogue ResolveStages(const Step& step, int image, int y, std::vector<Stage>* stages) const;

  Graph graph_;
  Limits limits_;
  Budget budget_{graph_};
  const Kernels* kernels_;
  bool profile_;
  std::vector<Step> steps_;
  std::vector<Storage> storage_;
  std::vector<Sums> sums_;
  std::vector<uint8_t> arena_;
  std::vector<std::vector<uint8_t>> halos_;
  std::vector<Workspace> workspaces_;  // per thread
  std::vector<int> row_steps_;         // by turn
  WorkSharing sharing_[2];             // of this turn, and of the next
  size_t graph_tensors_ = 0;           // tensors beyond are copies made by InsertPads
  // By tensor, not by its memory, which tensors of other shapes may share.
  enum class Packing : uint8_t { kBits, kFloats, kDense };
  struct PackedWeights {
    int tensor;
    Packing packing;
    int chunk_bits;
    int groups;
    std::shared_ptr<std::vector<uint8_t>> bytes;
    ptrdiff_t block_bytes;
  };
  std::vector<PackedWeights> packed_;  // survives Prepare()
};

// Builds the steps (fuse.cc).
bool Fuse(const Graph& graph, std::vector<Step>* steps, int* sums, std::string* error);

}  // namespace r2b
