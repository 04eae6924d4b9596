#include "plan.h"

#include <algorithm>

namespace r2b {
namespace {
constexpr size_t kAlign = 64;
constexpr size_t kSlack = 256;         // vectors may be read whole at the end of a buffer
constexpr int64_t kSmallWork = 16384;  // products that one thread has done before another is there to help
size_t RoundUp(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

uint8_t* Aligned(std::vector<uint8_t>& buffer) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(buffer.data());
  return buffer.data() + (kAlign - at % kAlign) % kAlign;
}

// Computed row by row, from tensors of any strides.
bool RunsByRows(Step::Kind kind) {
  return kind == Step::kBconv || kind == Step::kFconv || kind == Step::kPool || kind == Step::kLoad ||
         kind == Step::kBmaxPool || kind == Step::kPad;
}
bool IsStore(Stage::Kind kind) {
  return kind == Stage::kStoreFloat || kind == Stage::kStoreBits || kind == Stage::kStoreInt8;
}

// The first stage of that kind, or -1.
int FindStage(const Step& step, Stage::Kind kind) {
  const auto found =
      std::find_if(step.stages.begin(), step.stages.end(), [&](const StagePlan& s) { return s.kind == kind; });
  return found == step.stages.end() ? -1 : int(found - step.stages.begin());
}

// All tensors that a step reads from memory.
std::vector<int> Reads(const Step& step, const Graph& graph) {
  std::vector<int> reads;
  const Step& root = step.feeder.empty() ? step : step.feeder[0];
  if (step.kind != Step::kFinishSum) reads.push_back(root.input);
  for (const Step* part : {&step, &root})
    for (const StagePlan& stage : part->stages)
      if (stage.tensor >= 0 && !IsStore(stage.kind)) reads.push_back(stage.tensor);
  if (step.kind == Step::kBinary)
    for (int t : graph.ops[step.ops[0]].in) reads.push_back(t);
  return reads;
}
std::vector<int> Writes(const Step& step) {
  std::vector<int> writes;
  for (const StagePlan& stage : step.stages)
    if (IsStore(stage.kind)) writes.push_back(stage.tensor);
  if (step.kind != Step::kBconv && step.kind != Step::kFconv && step.kind != Step::kPool && step.kind != Step::kLoad)
    writes.push_back(step.output);
  return writes;
}
}  // namespace

Plan::Plan(Graph graph, const Kernels* kernels, bool profile)
    : graph_(std::move(graph)), kernels_(kernels), profile_(profile), graph_tensors_(graph_.tensors.size()) {}

void Plan::SetDims(int tensor, const int* dims, int rank) { graph_.tensors[tensor].dims.assign(dims, dims + rank); }

bool Plan::Prepare(int threads, std::string* error) {
  budget_.Begin(limits_);
  try {
    return PrepareAll(threads, error);
  } catch (const Refused& refused) {
    *error = refused.what();
    return false;
  }
}

bool Plan::PrepareAll(int threads, std::string* error) {
  graph_.tensors.resize(graph_tensors_);
  if (!InferShapes(&graph_, error)) return false;
  TakeOperators(graph_, &budget_);
  int sums = 0;
  if (!Fuse(graph_, &steps_, &sums, error)) return false;
  sums_ = std::vector<Sums>(size_t(sums));
  for (Step& step : steps_) PrepareStep(&step);
  FeedWindows();
  InsertPads();
  PlaceTensors();
  if (threads > 1) LayInBlocks();
  AllocateArena();

  size_t scratch = 0, ring = 0, stages = 0, lines = 0;
  for (Step& step : steps_) {
    const int op = step.ops.empty() ? -1 : step.ops[0];
    const size_t known = scratch;
    stages = std::max(stages, step.stages.size());
    for (const Step& feeder : step.feeder) stages = std::max(stages, feeder.stages.size());
    if (step.kind == Step::kBconv || step.kind == Step::kFconv)
      scratch = std::max(scratch, PrepareRuns(&step, threads));
    budget_.TakeMemory(op, Count(int64_t(scratch - known)) * threads, "scratch memory for each thread");
    if (step.kind == Step::kPool) {
      SplitChannels(&step, threads);
      lines = std::max(lines, size_t(AsImage(graph_.tensors[graph_.ops[op].in[0]].dims).h));
    }
    if (!step.feeder.empty()) {
      PrepareRuns(&step.feeder[0], 1);
      const Count bytes = Count(step.ring.h) * step.ring.w * step.ring.c * sizeof(float);
      budget_.TakeMemory(op, bytes * threads, "the rows of its window, for each thread,");
      ring = std::max(ring, size_t(bytes.value()));
    }
    if (step.sums >= 0 && step.kind != Step::kFinishSum) PrepareSums(&step, threads);
  }
  row_steps_.clear();
  for (size_t i = 0; i < steps_.size(); ++i)
    if (RunsByRows(steps_[i].kind)) {
      steps_[i].turn = int(row_steps_.size());
      row_steps_.push_back(int(i));
    }
  for (WorkSharing& sharing : sharing_) sharing.Resize(threads);
  for (Step& step : steps_) step.alone = Alone(step);
  for (size_t s = 0; s < steps_.size(); ++s) steps_[s].meet = Meets(s);
  budget_.TakeMemory(-1, Count(int64_t(lines)) * sizeof(void*) * threads, "the rows of windows, for each thread,");
  workspaces_.assign(size_t(threads), {});
  for (Workspace& workspace : workspaces_) {
    workspace.scratch.assign(scratch + kSlack, 0);
    workspace.ring.assign(ring + kSlack, 0);
    workspace.lines.assign(lines, nullptr);
    workspace.stages.resize(stages);
    workspace.feeder_stages.resize(stages);
  }
  return true;
}

// Strides and sizes, borders included; bytes that the budget does not have are refused before they are multiplied out.
void Plan::PlaceTensors() {
  std::vector<int> readers(graph_.tensors.size(), -1);  // of tensors with borders: a convolution that wants them
  for (const Step& whole : steps_) {
    const Step& step = whole.feeder.empty() ? whole : whole.feeder[0];
    if (step.kind == Step::kBconv || step.kind == Step::kFconv) readers[step.input] = step.ops[0];
  }
  storage_.resize(graph_.tensors.size());
  for (size_t t = 0; t < graph_.tensors.size(); ++t) {
    Storage& s = storage_[t];
    const Tensor& tensor = graph_.tensors[t];
    const Shape shape = AsImage(tensor.dims);
    const int64_t width = int64_t(shape.w) + s.left + s.right, height = int64_t(shape.h) + s.top + s.bottom;
    if (s.bordered())
      budget_.TakeMemory(readers[t], Count(shape.n) * height * width * shape.c * ByteSize(tensor.type),
                         "the input " + DimsText(tensor.dims) + ", padded to " + std::to_string(height) + "x" +
                             std::to_string(width) + ",");
    s.pixel = ptrdiff_t(shape.c) * ByteSize(tensor.type);
    s.row = ptrdiff_t(width) * s.pixel;
    s.image = ptrdiff_t(height) * s.row;
    // [N, C] is read both as one image of N pixels and as N images of one.
    if (tensor.dims.size() <= 2) s.row = s.image = s.pixel;
    s.bytes = size_t(shape.n) * size_t(height) * size_t(width) * size_t(shape.c) * size_t(ByteSize(tensor.type));
    if (tensor.constant) s.base = static_cast<uint8_t*>(const_cast<void*>(tensor.constant));
  }
  for (const auto* list : {&graph_.inputs, &graph_.outputs})
    for (int t : *list) {
      storage_[t].external = true;
      const Tensor& tensor = graph_.tensors[t];
      budget_.TakeMemory(
          -1, Elements(tensor.dims) * ByteSize(tensor.type),
          std::string(list == &graph_.inputs ? "an input" : "an output") + " of " + DimsText(tensor.dims));
    }
}

void Plan::PrepareSums(Step* step, int threads) {
  Sums& s = sums_[step->sums];
  s.images = step->out.n;
  s.channels = step->out.c;
  const bool apart = threads > 1;
  budget_.TakeMemory(step->ops[0],
                     (Count(s.images) * s.channels + (apart ? step->out.count() : 0)) * sizeof(float) +
                         Count(s.images) * step->splits * sizeof(Sums::Added) + kAlign + kSlack,
                     "sums over its output");
  s.buffer.assign(size_t(s.images) * s.channels * sizeof(float) + kAlign + kSlack, 0);
  s.values = reinterpret_cast<float*>(Aligned(s.buffer));
  s.added.assign(size_t(s.images) * step->splits, {});
  s.step = int(step - steps_.data());
  step->sum_stage = FindStage(*step, Stage::kSum);
  s.apart.reset(apart ? new float[size_t(step->out.count())] : nullptr);
}

// Whether threads wait for each other between a step and the next.
bool Plan::Meets(size_t s) const {
  const Step& step = steps_[s];
  if (s + 1 == steps_.size()) return false;  // the pool itself meets at the end
  if (step.planes_stage < 0) return !(step.alone && steps_[s + 1].alone);
  // Sums do not wait until the planes are merged, nor does what one thread goes on with, unless it reads those bits.
  if (steps_[s + 1].kind != Step::kFinishSum) return true;
  const int bits = step.stages[size_t(step.planes_stage)].tensor;
  for (size_t next = s + 1; next < steps_.size() && steps_[next].alone; ++next)
    for (int t : Reads(steps_[next], graph_))
      if (t == bits) return true;
  return false;
}

// By what there is to do: where it is little, threads would wait for each other longer.
bool Plan::Alone(const Step& step) const {
  if (RunsByRows(step.kind)) return false;
  if (step.kind == Step::kFinishSum) return true;  // a value for each channel; rows kept apart are added in their order
  if (step.kind == Step::kDense) {
    const Tensor& weights = graph_.tensors[graph_.ops[step.ops[0]].in[1]];
    return int64_t(weights.dims[0]) * weights.dims[1] * Batch(graph_.ops[step.ops[0]]) <= kSmallWork;
  }
  const int64_t values =
      std::max(AsImage(graph_.tensors[step.input].dims).count(), AsImage(graph_.tensors[step.output].dims).count());
  const int products = step.kind == Step::kLogistic || step.kind == Step::kSoftmax ? 8 : 1;  // that take as long
  return values * products <= kSmallWork;
}

// How a convolution's rows are read and shared out; returns the scratch memory it needs.
size_t Plan::PrepareRuns(Step* step, int threads) {
  const Op& op = graph_.ops[step->ops[0]];
  const Storage& in = storage_[step->input];
  const bool per_row = op.dilation_w == 1 && step->groups == 1;
  const int unit = AsImage(graph_.tensors[step->input].dims).c / step->groups;
  step->segments.clear();
  for (int y = 0; y < op.kernel_h; ++y)
    for (int x = 0; x < (per_row ? 1 : op.kernel_w); ++x)
      step->segments.push_back(y * op.dilation_h * in.row + x * op.dilation_w * in.pixel);
  step->run_length = unit * (per_row ? op.kernel_w : 1);
  SplitChannels(step, threads);
  if (step->kind != Step::kBconv) return 0;
  const RunList runs{nullptr, op.stride_w * in.pixel, step->segments.data(), int(step->segments.size()),
                     step->run_length};
  return step->kernels->bconv_scratch(step->out.w, runs);
}

// How many shares a row's channels are cut into.
void Plan::SplitChannels(Step* step, int threads) {
  const int rows = step->out.n * step->out.h, blocks = (step->out.c + kBlock - 1) / kBlock;
  step->splits = 1;
  if (step->groups == 1) {
    if (step->sums >= 0 && blocks % threads == 0) {
      step->splits = threads;  // sums over an image want all rows of a channel in one thread
    } else if (step->kind != Step::kPool) {
      // Rows alone share the work unevenly where they are few. (A window's rows need rows that its feeder made before.)
      for (int s = 1; s <= blocks; ++s) {
        const double uneven = double((rows * s + threads - 1) / threads) * threads / (double(rows) * s);
        step->splits = s;
        if (uneven <= 1.04) break;
      }
    }
  }
  PreparePlanes(step);
}

void Plan::PreparePlanes(Step* step) {
  step->planes_stage = -1;
  if (step->splits == 1) return;
  step->planes_stage = FindStage(*step, Stage::kStoreBits);
  if (step->planes_stage < 0) return;
  const int64_t words = (step->out.c + kBlock - 1) / kBlock;
  budget_.TakeMemory(step->ops[0], Count(step->out.n) * step->out.h * step->out.w * words * sizeof(uint32_t),
                     "bits of its output, apart for each thread,");
  step->planes.assign(size_t(step->out.n) * step->out.h * step->out.w * ((step->out.c + kBlock - 1) / kBlock), 0);
}

void Plan::PrepareStep(Step* step) {
  if (step->ops.empty() || step->kind == Step::kLoad || step->kind == Step::kFinishSum) return;
  const Op& op = graph_.ops[step->ops[0]];
  if (step->kind == Step::kDense) {
    PackWeights(step, op);
    return PrepareBias(step, op);
  }
  if (op.kind != OpKind::kBconv && op.kind != OpKind::kConv && op.kind != OpKind::kBmaxPool &&
      step->kind != Step::kPool)
    return;
  const Shape in = AsImage(graph_.tensors[op.in[0]].dims);
  const bool whole = op.kind == OpKind::kMean;
  step->extent_h = WindowExtent(in.h, whole ? in.h : op.kernel_h, op.stride_h, op.dilation_h, op.same_padding);
  step->extent_w = WindowExtent(in.w, whole ? in.w : op.kernel_w, op.stride_w, op.dilation_w, op.same_padding);
  step->kernels = kernels_;
  if (step->kind == Step::kPool || step->kind == Step::kBmaxPool) {
    const int width = step->kind == Step::kPool ? step->out.w : AsImage(graph_.tensors[op.out].dims).w;
    for (int x = 0; x < width; ++x) {
      const int begin = x * op.stride_w - step->extent_w.before;
      step->window_begin.push_back(std::max(begin, 0));
      step->window_end.push_back(std::min(begin + (whole ? in.w : op.kernel_w), in.w));
    }
  } else {
    PackWeights(step, op);
    if (op.kind == OpKind::kBconv) {
      PrepareCorrections(step, op);
    } else {
      PrepareBias(step, op);
    }
  }
}

// Moves convolutions into the windows that alone read them.
void Plan::FeedWindows() {
  for (size_t s = 0; s < steps_.size(); ++s) {
    Step& pool = steps_[s];
    if (pool.kind != Step::kPool || graph_.ops[pool.ops[0]].kind == OpKind::kMean || !pool.feeder.empty()) continue;
    int readers = 0;
    for (const Step& step : steps_)
      for (int t : Reads(step, graph_)) readers += t == pool.input;
    for (int t : graph_.outputs) readers += t == pool.input;
    if (readers != 1) continue;
    for (size_t c = 0; c < s; ++c) {
      Step& conv = steps_[c];
      // The one thing the convolution leaves behind must be its last: the tensor that the window reads.
      if (conv.kind != Step::kFconv || conv.sums >= 0 || Writes(conv) != std::vector<int>{pool.input}) continue;
      if (conv.stages.back().kind != Stage::kStoreFloat || !(AsImage(graph_.tensors[pool.input].dims) == conv.out))
        continue;
      pool.feeder = {std::move(conv)};
      pool.ring = {1, graph_.ops[pool.ops[0]].kernel_h, pool.feeder[0].out.w, pool.out.c};
      Narrow(&pool);
      steps_.erase(steps_.begin() + ptrdiff_t(c));
      --s;
      break;
    }
  }
}

// Leaves to a window of maxima, and to its ring, less than all values of its feeder.
void Plan::Narrow(Step* pool) {
  const Op& op = graph_.ops[pool->ops[0]];
  if (op.kind != OpKind::kMaxPool) return;
  std::vector<StagePlan>& stages = pool->feeder[0].stages;
  const auto never_falls = [](const StagePlan& stage) {
    if ((stage.kind != Stage::kPrelu && stage.kind != Stage::kPreluMax) || !stage.constant) return false;
    return std::all_of(stage.constant->begin(), stage.constant->end(), [](float slope) { return slope >= 0; });
  };
  while (stages.size() > 1 && never_falls(stages[stages.size() - 2])) {
    pool->stages.insert(pool->stages.begin(), stages[stages.size() - 2]);
    stages.erase(stages.end() - 2);
  }
  if (op.kernel_w != 3 || op.stride_w != 2 || pool->extent_w.before > 1) return;
  stages.back().kind = Stage::kMaxColumns;
  stages.back().before = pool->extent_w.before;
  stages.back().windows = pool->ring.w = pool->out.w;
  for (int x = 0; x < pool->out.w; ++x) {
    pool->window_begin[x] = x;
    pool->window_end[x] = x + 1;
  }
}

// Gives inputs of padded convolutions their border: on the tensor itself where its producer and all its readers can
// work with strides, else on a copy made by a step of its own.
void Plan::InsertPads() {
  storage_.assign(graph_.tensors.size(), Storage{});
  std::vector<bool> fixed(graph_.tensors.size(), true);
  for (const Step& step : steps_)
    for (int t : Writes(step)) {
      const Shape shape = AsImage(graph_.tensors[t].dims);
      const bool image = shape.n == step.out.n && shape.h == step.out.h && shape.w == step.out.w;
      if (image && (!step.stages.empty() || step.kind == Step::kBmaxPool)) fixed[t] = false;
    }
  for (const Step& step : steps_)
    for (int t : Reads(step, graph_))
      if (!RunsByRows(step.kind)) fixed[t] = true;
  for (int t : graph_.inputs) fixed[t] = true;
  for (int t : graph_.outputs) fixed[t] = true;
  for (size_t t = 0; t < graph_.tensors.size(); ++t)
    if (graph_.tensors[t].constant || graph_.tensors[t].dims.size() != 4) fixed[t] = true;

  std::vector<Step> all;
  std::vector<std::pair<int, int>> copies;  // (tensor, its copy)
  for (Step& whole : steps_) {
    Step& step = whole.feeder.empty() ? whole : whole.feeder[0];
    if (step.kind == Step::kBconv || step.kind == Step::kFconv) {
      const Op& op = graph_.ops[step.ops[0]];
      const Shape in = AsImage(graph_.tensors[step.input].dims);
      auto after = [](int in_size, const Extent& e, int kernel, int stride, int dilation) {
        return std::max(0, (e.out - 1) * stride + (kernel - 1) * dilation + 1 - in_size - e.before);
      };
      const int bottom = after(in.h, step.extent_h, op.kernel_h, op.stride_h, op.dilation_h);
      const int right = after(in.w, step.extent_w, op.kernel_w, op.stride_w, op.dilation_w);
      if (step.extent_h.before || step.extent_w.before || bottom || right) {
        int target = step.input;
        if (fixed[target]) {
          auto copy = std::find_if(copies.begin(), copies.end(), [&](auto& c) { return c.first == step.input; });
          if (copy == copies.end()) {
            target = int(graph_.tensors.size());
            Tensor tensor = graph_.tensors[step.input];
            tensor.constant = nullptr;
            graph_.tensors.push_back(tensor);
            storage_.push_back(Storage{});
            copies.emplace_back(step.input, target);
            Step pad{};
            pad.kind = Step::kPad;
            pad.input = step.input;
            pad.output = target;
            pad.out = in;
            all.push_back(pad);
          } else {
            target = copy->second;
          }
        }
        step.input = target;
        Storage& s = storage_[target];
        s.top = std::max(s.top, step.extent_h.before);
        s.left = std::max(s.left, step.extent_w.before);
        s.bottom = std::max(s.bottom, bottom);
        s.right = std::max(s.right, right);
      }
    }
    all.push_back(std::move(whole));
  }
  steps_ = std::move(all);
}

// Finds the tensors that steps read and write only in whole blocks of channels, and puts the blocks apart.
void Plan::LayInBlocks() {
  std::vector<bool> blocks(graph_.tensors.size());
  for (size_t t = 0; t < blocks.size(); ++t) {
    const Tensor& tensor = graph_.tensors[t];
    const Storage& s = storage_[t];
    blocks[t] = tensor.type == DType::kFloat && tensor.dims.size() == 4 && tensor.dims[3] > kBlock &&
                tensor.dims[3] % kBlock == 0 && tensor.dims[2] > 1 && !tensor.constant && !s.external &&
                !s.bordered();  // of one column, blocks are what they were
  }
  const auto stays = [&](int t, const Step& step) {
    return step.groups != 1 || !(AsImage(graph_.tensors[t].dims) == step.out);
  };
  for (const Step& whole : steps_) {
    const Step& root = whole.feeder.empty() ? whole : whole.feeder[0];
    for (const Step* step : {&whole, &root}) {
      for (const StagePlan& stage : step->stages)
        if (stage.tensor >= 0 && stays(stage.tensor, *step)) blocks[stage.tensor] = false;
      const bool takes_blocks = step->kind == Step::kPool || (step->kind == Step::kLoad && !stays(step->input, *step));
      if (!takes_blocks && step->input >= 0) blocks[step->input] = false;
      if (step->stages.empty() && step->output >= 0) blocks[step->output] = false;
    }
    if (whole.kind == Step::kBinary)
      for (int t : graph_.ops[whole.ops[0]].in)
        if (t >= 0) blocks[t] = false;
  }
  for (size_t t = 0; t < blocks.size(); ++t) {
    if (!blocks[t]) continue;
    Storage& s = storage_[t];
    s.pixel = kBlock * ptrdiff_t(sizeof(float));
    s.gap = (graph_.tensors[t].dims[2] - 1) * s.pixel;
  }
}

// Greedy placement of lifetimes, largest tensor first.
void Plan::AllocateArena() {
  const int count = int(graph_.tensors.size());
  std::vector<int> first(count, -1), last(count, -1);
  for (int s = 0; s < int(steps_.size()); ++s) {
    for (int t : Writes(steps_[s])) {
      if (first[t] < 0) first[t] = s;
      last[t] = std::max(last[t], s);
    }
    for (int t : Reads(steps_[s], graph_)) last[t] = std::max(last[t], s);
  }
  auto movable = [&](int t) {
    return first[t] >= 0 && !storage_[t].external && !graph_.tensors[t].constant && !storage_[t].bordered();
  };
  // y = f(x) + shortcut: y may take the shortcut's place, pixel by pixel, if nobody reads the shortcut later.
  for (int s = 0; s < int(steps_.size()); ++s) {
    const Step& step = steps_[s];
    for (const StagePlan& store : step.stages) {
      if (store.kind != Stage::kStoreFloat || !movable(store.tensor) || first[store.tensor] != s) continue;
      for (const StagePlan& operand : step.stages) {
        if (&operand == &store) break;  // it must have been read before
        const int o = operand.tensor;
        if (o < 0 || IsStore(operand.kind) || !operand.per_pixel || !movable(o) || last[o] != s || first[o] == s)
          continue;
        if (o == step.input && step.kind != Step::kLoad) continue;
        if (std::any_of(step.feeder.begin(), step.feeder.end(), [&](const Step& feeder) {
              const std::vector<int> reads = Reads(feeder, graph_);
              return std::find(reads.begin(), reads.end(), o) != reads.end();
            }))
          continue;  // it reads rows before and after that of y
        const StagePlan* end = step.stages.data() + step.stages.size();
        if (std::any_of(&store, end, [&](const StagePlan& later) { return &later != &store && later.tensor == o; }))
          continue;
        if (storage_[o].bytes != storage_[store.tensor].bytes || storage_[store.tensor].alias >= 0) continue;
        if (storage_[o].gap != storage_[store.tensor].gap) continue;
        int root = o;
        while (storage_[root].alias >= 0) root = storage_[root].alias;
        storage_[store.tensor].alias = root;
        last[root] = std::max(last[root], last[store.tensor]);
        // The operand's own last reading stays known through `root`; a second taker must not match it.
        last[o] = std::max(last[o], last[store.tensor]);
        break;
      }
    }
  }
  std::vector<int> order;
  for (int t = 0; t < count; ++t)
    if (movable(t) && storage_[t].alias < 0) order.push_back(t);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return storage_[a].bytes > storage_[b].bytes; });
  std::vector<int> placed;
  size_t total = 0;
  for (int t : order) {
    std::vector<std::pair<size_t, size_t>> taken;
    for (int p : placed)
      if (first[p] <= last[t] && first[t] <= last[p])
        taken.emplace_back(storage_[p].offset, storage_[p].offset + RoundUp(storage_[p].bytes + kSlack));
    std::sort(taken.begin(), taken.end());
    size_t at = 0;
    for (const auto& [begin, end] : taken) {
      if (at + RoundUp(storage_[t].bytes + kSlack) <= begin) break;
      at = std::max(at, end);
    }
    storage_[t].offset = at;
    const Count end = Count(int64_t(at)) + RoundUp(storage_[t].bytes + kSlack);
    if (end > int64_t(total)) {
      budget_.TakeMemory(steps_[first[t]].ops.empty() ? -1 : steps_[first[t]].ops[0],
                         Count(end.value() - int64_t(total)), "memory for " + DimsText(graph_.tensors[t].dims));
    }
    total = std::max(total, at + RoundUp(storage_[t].bytes + kSlack));
    placed.push_back(t);
  }
  arena_.assign(total + kAlign, 0);
  uint8_t* base = Aligned(arena_);
  halos_.clear();
  for (int t = 0; t < count; ++t) {
    Storage& s = storage_[t];
    if (graph_.tensors[t].constant || s.external) continue;
    if (s.bordered()) {
      halos_.emplace_back(s.bytes + kAlign + kSlack, uint8_t(0));
      s.base = Aligned(halos_.back()) + s.top * s.row + s.left * s.pixel;
    } else if (first[t] >= 0) {
      s.base = base + storage_[s.alias >= 0 ? s.alias : t].offset;
    }
  }
}

}  // namespace r2b
