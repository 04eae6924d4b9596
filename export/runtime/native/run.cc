// Executes a plan's steps.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "arithmetic.h"
#include "plan.h"

namespace r2b {
namespace {

// A share of a row's channels, in blocks. A block's packed bits are one word.
struct Split {
  int begin, end;
};
Split SplitOf(const Step& step, int split) {
  const int blocks = (step.out.c + kBlock - 1) / kBlock;
  return {blocks * split / step.splits, blocks * (split + 1) / step.splits};
}

// Where a split's plane holds a row of bits.
const uint32_t* PlaneRow(const Step& step, const Split& blocks, int row) {
  const ptrdiff_t rows = step.out.n * step.out.h, words = blocks.end - blocks.begin;
  return step.planes.data() + (rows * blocks.begin + row * words) * step.out.w;
}

struct Share {
  int begin, end;
};
Share ShareOf(int items, int thread, int threads) {
  return {int(int64_t(items) * thread / threads), int(int64_t(items) * (thread + 1) / threads)};
}
// All of them where one thread does the step.
Share ShareOf(const Step& step, int items, int thread, int threads) {
  return step.alone ? Share{0, items} : ShareOf(items, thread, threads);
}

void RunBmaxPool(const Step& step, const Op& op, const Shape& in_shape, const Storage& in, const Storage& out,
                 int image, int y) {
  const int words = step.out.c, top = y * op.stride_h - step.extent_h.before;
  const int y0 = std::max(top, 0), y1 = std::min(top + op.kernel_h, in_shape.h);
  for (int x = 0; x < step.out.w; ++x) {
    uint32_t* z = reinterpret_cast<uint32_t*>(out.base + image * out.image + y * out.row + x * out.pixel);
    std::fill(z, z + words, ~uint32_t(0));  // the maximum is -1, bit 1, only if all are
    for (int i = y0; i < y1; ++i)
      for (int j = step.window_begin[x]; j < step.window_end[x]; ++j) {
        const uint32_t* v = reinterpret_cast<const uint32_t*>(in.base + image * in.image + i * in.row + j * in.pixel);
        for (int w = 0; w < words; ++w) z[w] &= v[w];
      }
  }
}

// Signs of int8 values (against the zero point) or of bools (true is +1).
void RunPackBytes(const Tensor& input, const uint8_t* in, int channels, int begin, int end, uint32_t* out) {
  const int words = (channels + 31) / 32;
  for (int pixel = begin; pixel < end; ++pixel) {
    const uint8_t* v = in + int64_t(pixel) * channels;
    for (int w = 0; w < words; ++w) {
      uint32_t bits = 0;
      for (int i = 0; i < 32 && w * 32 + i < channels; ++i) {
        const bool negative =
            input.type == DType::kBool ? v[w * 32 + i] == 0 : int8_t(v[w * 32 + i]) < input.zero_point;
        bits |= uint32_t(negative) << i;
      }
      out[int64_t(pixel) * words + w] = bits;
    }
  }
}

void RunUnpack(const Kernels* kernels, const Tensor& output, const uint32_t* in, int begin, int end, uint8_t* out) {
  const int channels = output.dims.back();
  in += int64_t(begin) * ((channels + 31) / 32);
  out += int64_t(begin) * channels * ByteSize(output.type);
  if (output.type == DType::kFloat) return kernels->unpack(in, end - begin, channels, reinterpret_cast<float*>(out));
  // int8: one, as near as the output's scale allows, on either side of zero. A bool is true where the bit is +1.
  const bool bytes = output.type == DType::kInt8;
  const int step = output.scale > 0 ? int(std::min(255.0f, std::round(1.0f / output.scale))) : 0;
  const int plus = bytes ? std::min(127, output.zero_point + step) : 1,
            minus = bytes ? std::max(-128, output.zero_point - step) : 0;
  kernels->unpack_bytes(in, end - begin, channels, int8_t(plus), int8_t(minus), reinterpret_cast<int8_t*>(out));
}

}  // namespace

void Plan::Bind(int tensor, void* data) { storage_[tensor].base = static_cast<uint8_t*>(data); }

// Fills in a stage's pointers for one row of outputs.
void Plan::ResolveStage(const Step& step, const StagePlan& plan, int image, int y, Stage* stage) const {
  stage->kind = plan.kind;
  stage->lo = plan.lo;
  stage->hi = plan.hi;
  stage->pixel = stage->gap = 0;
  stage->before = plan.before;
  stage->windows = plan.windows;
  // Kernels form addresses before they look at the kind; those of a stage without operands lead nowhere, not from
  // null though.
  stage->in = stage->out = reinterpret_cast<uint8_t*>(stage);
  if (plan.kind == Stage::kSum) {
    const Sums& sums = sums_[step.sums];
    stage->out = reinterpret_cast<uint8_t*>(sums.values + int64_t(image) * sums.channels);
  } else if (plan.constant) {
    stage->in = reinterpret_cast<const uint8_t*>(plan.constant->data());
  } else if (plan.tensor >= 0) {
    const Storage& s = storage_[plan.tensor];
    // Without a border, images are contiguous whatever shape the graph gives them.
    const ptrdiff_t row = s.bordered() || s.gap || !plan.per_pixel ? s.row : step.out.w * s.pixel;
    const ptrdiff_t next = s.bordered() || !plan.per_pixel ? s.image : step.out.h * row;
    // The tensor between a window and its feeder has no memory: the window has its rows.
    if (s.base) stage->in = stage->out = s.base + (plan.per_image ? image * next : 0) + (plan.per_pixel ? y * row : 0);
    stage->pixel = plan.per_pixel ? s.pixel : 0;
    stage->gap = s.gap;
  }
}

// `stages` has room for those of every step.
Epilogue Plan::ResolveStages(const Step& step, int image, int y, std::vector<Stage>* stages) const {
  for (size_t s = 0; s < step.stages.size(); ++s) ResolveStage(step, step.stages[s], image, y, &(*stages)[s]);
  return {stages->data(), int(step.stages.size())};
}

void Plan::RunConvRow(const Step& step, int image, int y, int c0, int c1, const Epilogue& epilogue, int thread) {
  const Op& op = graph_.ops[step.ops[0]];
  const Storage& in = storage_[step.input];
  const RunList runs{
      in.base + image * in.image + (y * op.stride_h - step.extent_h.before) * in.row - step.extent_w.before * in.pixel,
      op.stride_w * in.pixel, step.segments.data(), int(step.segments.size()), step.run_length};
  if (step.kind == Step::kFconv) {
    const uint8_t* weights = step.packed->data() + c0 / kBlock * step.block_bytes;
    kernels_->fconv({runs, reinterpret_cast<const float*>(weights), step.block_bytes, step.bias.data() + c0, step.out.w,
                     c0, c1 - c0},
                    epilogue);
    return;
  }
  const int in_group = step.out.c / step.groups, padded = (in_group + kBlock - 1) / kBlock * kBlock;
  const float* const* corrections = step.correction_tables.empty()
                                        ? nullptr
                                        : step.correction_tables.data() + size_t(step.correction_rows[y]) * step.out.w;
  for (int g = 0; g < step.groups; ++g) {
    BconvRow row{};
    row.input = runs;
    row.input.origin += g * (in.pixel / step.groups);
    const int slot = step.groups == 1 ? c0 : g * padded;  // where the group's channels begin in padded vectors
    row.weights = step.packed->data() + slot / kBlock * step.block_bytes;
    row.block_bytes = step.block_bytes;
    row.width = step.out.w;
    row.channel0 = step.groups == 1 ? c0 : g * in_group;
    row.channels = step.groups == 1 ? c1 - c0 : in_group;
    row.multiplier = step.multiplier.data() + slot;
    row.bias = step.bias.data() + slot;
    row.unscaled = step.unscaled;
    row.clamp = step.clamp;
    row.lo = step.lo;
    row.hi = step.hi;
    row.corrections = corrections;
    row.correction0 = slot;
    row.scratch = workspaces_[thread].scratch.data();
    step.kernels->bconv(row, epilogue);
  }
}

// `computed`: how many rows of the feeder the thread has computed for this image; the last few are in its ring.
void Plan::RunPoolRow(const Step& step, int image, int y, int c0, int c1, const Epilogue& epilogue, int thread,
                      int* computed) {
  const Op& op = graph_.ops[step.ops[0]];
  const Storage& in = storage_[step.input];
  const Shape shape = AsImage(graph_.tensors[step.input].dims);
  const bool whole = op.kind == OpKind::kMean;
  const int top = y * op.stride_h - step.extent_h.before;
  const int y0 = std::max(top, 0), y1 = whole ? shape.h : std::min(top + op.kernel_h, shape.h);
  const uint8_t* few[16];
  const uint8_t** lines = y1 - y0 > 16 ? workspaces_[thread].lines.data() : few;
  ptrdiff_t pixel = in.pixel, gap = in.gap;
  if (step.feeder.empty()) {
    for (int i = y0; i < y1; ++i) lines[i - y0] = in.base + image * in.image + i * in.row;
  } else {
    const Step& conv = step.feeder[0];
    uint8_t* ring = workspaces_[thread].ring.data();
    pixel = step.ring.c * ptrdiff_t(sizeof(float));
    gap = 0;
    const ptrdiff_t row = step.ring.w * pixel;
    for (int i = std::max(*computed, y0); i < y1; ++i) {
      std::vector<Stage>& stages = workspaces_[thread].feeder_stages;
      const Epilogue feeder = ResolveStages(conv, image, i, &stages);
      Stage& store = stages[conv.stages.size() - 1];  // FeedWindows saw that it is the last stage
      store.out = ring + i % step.ring.h * row;
      store.pixel = pixel;
      store.gap = gap;
      RunConvRow(conv, image, i, c0, c1, feeder, thread);
    }
    *computed = std::max(*computed, y1);
    for (int i = y0; i < y1; ++i) lines[i - y0] = ring + i % step.ring.h * row;
  }
  kernels_->pool({lines, y1 - y0, pixel, gap, step.window_begin.data(), step.window_end.data(), step.out.w, c0, c1,
                  op.kind == OpKind::kMaxPool},
                 epilogue);
}

void Plan::PadRow(const Step& step, int image, int y) {
  const Storage &in = storage_[step.input], &out = storage_[step.output];
  std::memcpy(out.base + image * out.image + y * out.row, in.base + image * in.image + y * in.row,
              size_t(step.out.w) * in.pixel);
}

// Gives a thread its share of the rows of that turn's step.
void Plan::AssignRows(size_t turn, int thread, int threads) {
  if (turn >= row_steps_.size()) return;
  const Step& step = steps_[row_steps_[turn]];
  const Share share = ShareOf(step.out.n * step.out.h * step.splits, thread, threads);
  sharing_[turn % 2].Assign(thread, share.begin, share.end);
}

// Does rows until there are none that nobody has begun.
void Plan::RunRows(const Step& step, int thread) {
  const int rows = step.out.n * step.out.h;
  std::vector<Stage>& stages = workspaces_[thread].stages;
  int computed = 0, expected = 0;  // of a window's feeder
  int following = -1;              // the item whose row comes after those that the thread has added to a sum
  WorkSharing& sharing = sharing_[step.turn % 2];
  for (int item = sharing.Take(thread); item >= 0; item = sharing.Take(thread)) {
    const int row = item % rows, image = row / step.out.h, y = row % step.out.h, split = item / rows;
    if (step.kind == Step::kPad) {
      PadRow(step, image, y);
      continue;
    }
    if (step.kind == Step::kBmaxPool) {
      const Op& op = graph_.ops[step.ops[0]];
      RunBmaxPool(step, op, AsImage(graph_.tensors[step.input].dims), storage_[step.input], storage_[step.output],
                  image, y);
      continue;
    }
    const Split blocks = SplitOf(step, split);
    const int c0 = blocks.begin * kBlock, c1 = std::min(blocks.end * kBlock, step.out.c);
    const Epilogue epilogue = ResolveStages(step, image, y, &stages);
    if (step.planes_stage >= 0) {
      Stage& bits = stages[step.planes_stage];
      bits.out = reinterpret_cast<uint8_t*>(const_cast<uint32_t*>(PlaneRow(step, blocks, row)) - blocks.begin);
      bits.pixel = (blocks.end - blocks.begin) * ptrdiff_t(sizeof(uint32_t));
    }
    if (step.sums >= 0) {
      Sums& sums = sums_[step.sums];
      if (y == 0 || item == following) {
        float* sum = sums.values + int64_t(image) * sums.channels;
        if (y == 0) std::fill(sum + c0, sum + c1, 0.0f);
        sums.added[size_t(image) * step.splits + split].rows = y + 1;
        following = item + 1;
      } else {
        Stage& stage = stages[step.sum_stage];
        stage.kind = Stage::kStoreFloat;
        stage.pixel = step.out.c * ptrdiff_t(sizeof(float));
        stage.out = reinterpret_cast<uint8_t*>(sums.apart.get()) + row * step.out.w * stage.pixel;
      }
    }
    if (step.kind == Step::kPool) {
      if (y == 0 || item != expected) computed = 0;
      expected = item + 1;
      RunPoolRow(step, image, y, c0, c1, epilogue, thread, &computed);
    } else if (step.kind == Step::kLoad) {
      const Storage& in = storage_[step.input];
      kernels_->load({in.base + image * in.image + y * in.row, in.pixel, in.gap, step.out.w, step.out.c}, epilogue);
    } else {
      RunConvRow(step, image, y, c0, c1, epilogue, thread);
    }
  }
}

// Adds the rows that were kept apart. Nothing is left to add when it is called again.
void Plan::AddApart(Sums* sums) {
  const Step& step = steps_[sums->step];
  const ptrdiff_t pixel = step.out.c * ptrdiff_t(sizeof(float));
  for (int image = 0; image < step.out.n; ++image)
    for (int split = 0; split < step.splits; ++split) {
      const Split blocks = SplitOf(step, split);
      const int c0 = blocks.begin * kBlock, c1 = std::min(blocks.end * kBlock, step.out.c);
      Stage add;
      add.kind = Stage::kSum;
      add.in = add.out = reinterpret_cast<uint8_t*>(sums->values + int64_t(image) * sums->channels + c0);
      for (int& y = sums->added[size_t(image) * step.splits + split].rows; y < step.out.h; ++y) {
        const ptrdiff_t row = int64_t(image) * step.out.h + y;
        const uint8_t* values = reinterpret_cast<const uint8_t*>(sums->apart.get() + c0) + row * step.out.w * pixel;
        kernels_->load({values, pixel, 0, step.out.w, c1 - c0}, {&add, 1});
      }
    }
}

// Puts the words of the splits' planes where the step's readers look for them.
void Plan::MergePlanes(const Step& step, int thread, int threads) {
  const Share share = ShareOf(step.out.n * step.out.h, thread, threads);
  for (int row = share.begin; row < share.end; ++row) {
    Stage bits;
    ResolveStage(step, step.stages[step.planes_stage], row / step.out.h, row % step.out.h, &bits);
    for (int s = 0; s < step.splits; ++s) {
      const Split blocks = SplitOf(step, s);
      const uint32_t* from = PlaneRow(step, blocks, row);
      uint8_t* to = bits.out + blocks.begin * sizeof(uint32_t);
      for (int x = 0; x < step.out.w; ++x, to += bits.pixel)
        for (int w = 0; w < blocks.end - blocks.begin; ++w) reinterpret_cast<uint32_t*>(to)[w] = *from++;
    }
  }
}

// One vector and several are added up in different orders: those of TensorFlow Lite (see kernels.h).
void Plan::RunDense(const Step& step, int thread, int threads) {
  const Op& op = graph_.ops[step.ops[0]];
  const Tensor& weights = graph_.tensors[op.in[1]];
  const int outputs = weights.dims[0], inputs = weights.dims[1], batch = Batch(op);
  const int unit = batch == 1 ? kDenseGroup : kBlock, groups = (outputs + unit - 1) / unit;
  Share share = ShareOf(step, groups, thread, threads);
  share = {std::min(share.begin * unit, outputs), std::min(share.end * unit, outputs)};
  const float* x = reinterpret_cast<const float*>(storage_[step.input].base);
  float* y = reinterpret_cast<float*>(storage_[step.output].base);
  if (batch == 1) {
    kernels_->dense(x, reinterpret_cast<const float*>(step.packed->data()), inputs, share.begin, share.end, y);
    for (int o = share.begin; o < share.end; ++o) y[o] += step.bias[o];
  } else if (share.begin < share.end) {
    const ptrdiff_t segment = 0;
    const RunList runs{reinterpret_cast<const uint8_t*>(x), inputs * ptrdiff_t(sizeof(float)), &segment, 1, inputs};
    Stage store;
    store.kind = Stage::kStoreFloat;
    store.out = reinterpret_cast<uint8_t*>(y);
    store.in = store.out;
    store.pixel = outputs * ptrdiff_t(sizeof(float));
    const uint8_t* packed = step.packed->data() + share.begin / kBlock * step.block_bytes;
    kernels_->fconv({runs, reinterpret_cast<const float*>(packed), step.block_bytes, step.bias.data() + share.begin,
                     batch, share.begin, share.end - share.begin},
                    {&store, 1});
  }
  if (op.clamp)
    for (int b = 0; b < batch; ++b)
      for (int o = share.begin; o < share.end; ++o) {
        float& v = y[int64_t(b) * outputs + o];
        v = std::min(std::max(v, op.lo), op.hi);
      }
}

void Plan::FinishSum(const Step& step) {
  AddApart(&sums_[step.sums]);
  const Sums& sums = sums_[step.sums];
  float* z = reinterpret_cast<float*>(storage_[step.output].base);
  const float area = float(step.out.h * step.out.w);
  for (int n = 0; n < sums.images; ++n, z += sums.channels) {
    const float* sum = sums.values + int64_t(n) * sums.channels;
    for (int c = 0; c < sums.channels; ++c) z[c] = sum[c] / area;
  }
}

void Plan::RunBinary(const Step& step, int thread, int threads) {
  const Op& op = graph_.ops[step.ops[0]];
  const int x = op.in[0], y = op.in.size() > 1 ? op.in[1] : x;
  const Broadcast values(AsImage(graph_.tensors[op.out].dims), AsImage(graph_.tensors[x].dims),
                         AsImage(graph_.tensors[y].dims));
  ArithmeticRun run{};
  run.kind = op.kind == OpKind::kMul     ? ArithmeticRun::kMul
             : op.kind == OpKind::kPrelu ? ArithmeticRun::kPrelu
             : op.kind != OpKind::kAdd   ? ArithmeticRun::kFirst
             : op.subtract               ? ArithmeticRun::kSub
                                         : ArithmeticRun::kAdd;
  run.clamp = op.clamp;
  run.lo = op.lo;
  run.hi = op.hi;
  run.x = reinterpret_cast<const float*>(storage_[x].base);
  run.y = reinterpret_cast<const float*>(storage_[y].base);
  run.out = reinterpret_cast<float*>(storage_[step.output].base);
  const Share share = ShareOf(step, int(values.items()), thread, threads);
  values.Run(kernels_, run, share.begin, share.end);
}

// Steps of contiguous tensors, each thread a run of pixels or values.
void Plan::RunPlain(const Step& step, int thread, int threads) {
  const Tensor &input = graph_.tensors[step.input], &output = graph_.tensors[step.output];
  const uint8_t* in = storage_[step.input].base;
  uint8_t* out = storage_[step.output].base;
  const int values = int(AsImage(input.dims).count());
  const bool by_value = step.kind == Step::kLogistic || step.kind == Step::kCopy;
  const Tensor& whole = step.kind == Step::kPackBytes ? input : output;  // the one whose channels are not packed
  const int channels = whole.dims.empty() ? 1 : whole.dims.back();
  const int pixels = int(AsImage(whole.dims).count() / channels);
  const Share share = ShareOf(step, by_value ? values : pixels, thread, threads);
  const int64_t first = by_value ? share.begin : int64_t(share.begin) * channels;
  const auto x = [&] { return reinterpret_cast<const float*>(in) + first; };
  const auto z = [&] { return reinterpret_cast<float*>(out) + first; };
  switch (step.kind) {
    case Step::kUnpack:
      return RunUnpack(kernels_, output, reinterpret_cast<const uint32_t*>(in), share.begin, share.end, out);
    case Step::kPackBytes:
      return RunPackBytes(input, in, channels, share.begin, share.end, reinterpret_cast<uint32_t*>(out));
    case Step::kLogistic: return kernels_->logistic(x(), share.end - share.begin, z());
    case Step::kSoftmax:
      return kernels_->softmax(x(), share.end - share.begin, channels, graph_.ops[step.ops[0]].beta, z());
    case Step::kCopy: {
      const int64_t size = ByteSize(input.type);
      std::memmove(out + share.begin * size, in + share.begin * size, size_t((share.end - share.begin) * size));
      return;
    }
    default: return;
  }
}

void Plan::RunStep(Step& step, int thread, int threads) {
  if (step.alone && thread != 0) return;
  switch (step.kind) {
    case Step::kBconv:
    case Step::kFconv:
    case Step::kPool:
    case Step::kLoad:
    case Step::kPad:
    case Step::kBmaxPool:
      RunRows(step, thread);
      AssignRows(size_t(step.turn) + 1, thread,
                 threads);  // others may look for rows as soon as they are past the barrier
      return;
    case Step::kDense: return RunDense(step, thread, threads);
    case Step::kFinishSum: return FinishSum(step);
    case Step::kBinary: return RunBinary(step, thread, threads);
    default: return RunPlain(step, thread, threads);
  }
}

void Plan::Run(ThreadPool* pool) {
  using Clock = std::chrono::steady_clock;
  const int threads = int(workspaces_.size());
  for (int thread = 0; thread < threads; ++thread) {
    for (WorkSharing& sharing : sharing_) sharing.Assign(thread, 0, 0);  // of a thread that the pool does not have
    if (thread < pool->size()) AssignRows(0, thread, pool->size());
  }
  pool->Run([&](int thread) {
    for (Step& step : steps_) {
      const bool timed = profile_ && thread == 0;
      const Clock::time_point start = timed ? Clock::now() : Clock::time_point();
      RunStep(step, thread, pool->size());
      if (step.planes_stage >= 0) {
        pool->Barrier();
        MergePlanes(step, thread, pool->size());
      }
      if (step.meet) pool->Barrier();
      if (timed) {
        step.seconds += std::chrono::duration<double>(Clock::now() - start).count();
        ++step.runs;
      }
    }
  });
}

std::string Plan::Describe(const Step& step) const {
  static const char* const kinds[] = {"bconv",    "conv",    "pool", "elementwise", "bmaxpool",   "mean",     "dense",
                                      "logistic", "softmax", "copy", "pad",         "dequantize", "quantize", "binary"};
  std::string text = kinds[step.kind];
  text += " " + std::to_string(step.out.n) + "x" + std::to_string(step.out.h) + "x" + std::to_string(step.out.w) + "x" +
          std::to_string(step.out.c) + ":";
  for (const Step& conv : step.feeder)
    for (int op : conv.ops) text += std::string(" ") + OpName(graph_.ops[op].kind);
  for (int op : step.ops) text += std::string(" ") + OpName(graph_.ops[op].kind);
  if (step.alone && workspaces_.size() > 1) text += " (one thread)";
  return text;
}

}  // namespace r2b
