// The root of a step that takes maxima or averages over windows. The step may absorb the convolution that computes its
// input, as its feeder (see program.h).
#include <algorithm>

#include "memory.h"
#include "steps/roots.h"
#include "steps/window.h"

namespace r2b {
namespace {

class Pool : public RowRoot {
 public:
  Pool(const Graph& graph, const Op& op) : op_(op), window_(graph, op) {}
  const char* name() const override { return "pool"; }
  Reads reads() const override { return Reads::kWindow; }
  // Not kFreely: a thread can reuse the feeder's rows of the window above only if it has just computed that window, for
  // the same channels.
  Splits splits() const override { return Splits::kForSums; }

  bool takes_feeder() const { return op_.kind != OpKind::kMean; }
  void TakeFeeder(Step* pool, Step convolution);

  WorkspaceSize Lay(const Step& step, const Memory& memory) override;
  void Run(const RowRun& run, const Epilogue& epilogue) const override;

 private:
  void Narrow(Step* pool);
  void FillRing(const RowRun& run, int begin, int end) const;
  ptrdiff_t ring_pixel() const { return PixelStride(ring_.c * ptrdiff_t(sizeof(float))); }
  uint8_t* RingRow(const RowRun& run, int y) const {
    return run.workspace->ring.data() + y % ring_.h * (ring_.w * ring_pixel());
  }

  const Op& op_;
  Window window_;
  Shape ring_;  // of the ring between the feeder and the window: `h` rows of `w` pixels
};

void Pool::TakeFeeder(Step* pool, Step convolution) {
  pool->feeder = std::make_unique<Step>(std::move(convolution));
  ring_ = {1, op_.kernel_h, pool->feeder->out.w, pool->out.c};
  if (op_.kind == OpKind::kMaxPool) Narrow(pool);
}

bool NoneNegative(const StagePlan& stage) {
  return stage.constant &&
         std::all_of(stage.constant->begin(), stage.constant->end(), [](float value) { return value >= 0; });
}

// True for a PReLU that is non-decreasing.
bool NeverFalls(const StagePlan& stage) {
  return (stage.kind == Stage::kPrelu || stage.kind == Stage::kPreluMax) && NoneNegative(stage);
}

// True for a product or sum that is non-decreasing on int8 numbers. (On other floats, its result may be -0. The maximum
// of -0 and 0 may be either of them.)
bool MakesValues(const StagePlan& stage) {
  return stage.kind == Stage::kMul ? NoneNegative(stage) : stage.kind == Stage::kAdd && stage.constant;
}

// Moves the PReLUs directly before the feeder's store behind the maximum if they are non-decreasing. The result is the
// same, and they run on fewer values. If the feeder is an int8 convolution and all its other stages are non-decreasing,
// these stages and the requantisation move as well. If possible, the feeder also takes the maxima over columns, so that
// the ring is narrower.
void Pool::Narrow(Step* pool) {
  std::vector<StagePlan>& stages = pool->feeder->stages;
  auto first = stages.end() - 1;
  while (first != stages.begin() && NeverFalls(first[-1])) --first;
  if (std::all_of(stages.begin(), first, MakesValues)) {
    if (const Requantisation* output = pool->feeder->rows->LeaveUnfinished()) {
      first = stages.insert(stages.begin(), StagePlan{});
      first->kind = Stage::kNumbers;
      first->output = output;
    }
  }
  pool->stages.insert(pool->stages.begin(), first, stages.end() - 1);
  stages.erase(first, stages.end() - 1);
  if (op_.kernel_w != 3 || op_.stride_w != 2 || window_.w.before > 1) return;
  stages.back().kind = Stage::kMaxColumns;
  stages.back().before = window_.w.before;
  stages.back().windows = ring_.w = pool->out.w;
  for (int x = 0; x < pool->out.w; ++x) {
    window_.begin_columns[x] = x;
    window_.end_columns[x] = x + 1;
  }
}

WorkspaceSize Pool::Lay(const Step& step, const Memory& memory) {
  WorkspaceSize size;
  size.lines = size_t(window_.in.h);
  if (!step.feeder) return size;
  size.scratch = step.feeder->rows->Lay(*step.feeder, memory).scratch;
  size.ring = Count(ring_.h) * ring_.w * ring_pixel();
  return size;
}

void Pool::Run(const RowRun& run, const Epilogue& epilogue) const {
  const int begin = window_.FirstRow(run.y), end = window_.EndRow(run.y);
  const uint8_t* few[16];
  const uint8_t** lines = end - begin > 16 ? run.workspace->lines.data() : few;
  const Storage& in = run.memory[run.step.input];
  ptrdiff_t pixel = in.pixel, gap = in.gap;
  if (run.step.feeder) {
    FillRing(run, begin, end);
    for (int y = begin; y < end; ++y) lines[y - begin] = RingRow(run, y);
    pixel = ring_pixel();
    gap = 0;
  } else {
    for (int y = begin; y < end; ++y) lines[y - begin] = in.base + run.image * in.image + y * in.row;
  }
  run.kernels->pool({lines, end - begin, pixel, gap, window_.begin_columns.data(), window_.end_columns.data(),
                     run.step.out.w, run.begin_channel, run.end_channel, op_.kind == OpKind::kMaxPool},
                    epilogue);
}

// Makes sure that the ring holds the feeder's rows [begin, end): computes those that the thread has not computed yet.
void Pool::FillRing(const RowRun& run, int begin, int end) const {
  Workspace& workspace = *run.workspace;
  const Step& feeder = *run.step.feeder;
  if (!run.follows) workspace.computed = 0;
  const int start = std::max(workspace.computed, begin);
  for (int y = start; y < end; ++y) {
    const bool follows = y > start || (run.follows && y == workspace.computed);
    run.memory.Resolve(feeder, run.image, y, &workspace.feeder_stages);
    Stage& store = workspace.feeder_stages[feeder.stages.size() - 1];  // the last stage stores the rows: see Yields()
    store.out = RingRow(run, y);
    store.pixel = ring_pixel();
    store.gap = 0;
    feeder.rows->Run(
        {feeder, run.memory, run.kernels, run.workspace, run.image, y, run.begin_channel, run.end_channel, follows},
        Epilogue(workspace.feeder_stages.data(), int(feeder.stages.size())));
  }
  workspace.computed = std::max(workspace.computed, end);
}

// Counts the reads of a tensor, by steps and by the caller.
int Readers(const Graph& graph, const std::vector<Step>& steps, int tensor) {
  int readers = 0;
  for (const Step& step : steps)
    for (int t : step.Reads(graph)) readers += t == tensor;
  for (int t : graph.outputs) readers += t == tensor;
  return readers;
}

// True if the step may be a feeder, its last stage stores the whole tensor, and the step writes nothing else.
bool Yields(const Graph& graph, const Step& step, int tensor) {
  return step.rows && step.rows->may_feed() && step.sums < 0 && step.Writes() == std::vector<int>{tensor} &&
         step.stages.back().kind == Stage::kStoreFloat && AsImage(graph.tensors[tensor].dims) == step.out;
}

}  // namespace

std::unique_ptr<RowRoot> MakePool(const Graph& graph, const Op& op) { return std::make_unique<Pool>(graph, op); }

void FeedWindows(const Graph& graph, std::vector<Step>* steps) {
  for (size_t s = 0; s < steps->size(); ++s) {
    Step& step = (*steps)[s];
    Pool* pool = dynamic_cast<Pool*>(step.rows.get());
    if (!pool || !pool->takes_feeder() || Readers(graph, *steps, step.input) != 1) continue;
    const auto feeder = std::find_if(steps->begin(), steps->begin() + ptrdiff_t(s),
                                     [&](const Step& before) { return Yields(graph, before, step.input); });
    if (feeder == steps->begin() + ptrdiff_t(s)) continue;
    pool->TakeFeeder(&step, std::move(*feeder));
    steps->erase(feeder);
    --s;
  }
}

}  // namespace r2b
