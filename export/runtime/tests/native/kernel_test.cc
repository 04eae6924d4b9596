// Runs plans on every instruction set of this machine and compares them with the scalar specification: integers and
// element-wise float operators exactly, sums of floats within 1e-5. Prints which kernels ran; kernels named as arguments must be among them.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>

#include "convolution.h"
#include "kernels/reference.h"
#include "plan.h"
#include "resample.h"

using namespace r2b;

namespace {

int failures = 0, checks = 0;
std::mt19937 rng(1);
int Random(int low, int high) { return low + int(rng() % unsigned(high - low + 1)); }
float RandomFloat() { return float(int(rng() % 20001) - 10000) / 5000.0f; }

void Check(bool good, const std::string& what) {
  ++checks;
  if (good) return;
  if (++failures <= 20) std::printf("FAILED %s\n", what.c_str());
}

// Memory between guard bytes, at any multiple of 4 bytes, that checks itself.
class Guarded {
 public:
  explicit Guarded(size_t bytes, int misalign = 4 * Random(0, 15)) : size_(bytes), at_(64 + misalign), memory_(bytes + 256, 0xa5) {}
  size_t size() const { return size_; }
  template <class T> T* data() { return reinterpret_cast<T*>(memory_.data() + at_); }
  bool intact() const {
    for (size_t i = 0; i < memory_.size(); ++i)
      if ((i < size_t(at_) || i >= at_ + size_) && memory_[i] != 0xa5) return false;
    return true;
  }

 private:
  size_t size_;
  int at_;
  std::vector<uint8_t> memory_;
};

struct Builder {
  Graph graph;
  std::vector<std::unique_ptr<Guarded>> constants;
  int Tensor(DType type, std::vector<int> dims) {
    r2b::Tensor t;
    t.type = type;
    t.dims = std::move(dims);
    graph.tensors.push_back(t);
    return int(graph.tensors.size()) - 1;
  }
  template <class T> int Constant(DType type, std::vector<int> dims, const std::vector<T>& values) {
    const int t = Tensor(type, std::move(dims));
    constants.push_back(std::make_unique<Guarded>(values.size() * sizeof(T)));
    std::memcpy(constants.back()->data<T>(), values.data(), values.size() * sizeof(T));
    graph.tensors[t].constant = constants.back()->data<T>();
    return t;
  }
  Op& Add(OpKind kind, std::vector<int> in, int out) {
    Op op;
    op.kind = kind;
    op.in = std::move(in);
    op.out = out;
    op.node = int(graph.ops.size());
    graph.ops.push_back(op);
    return graph.ops.back();
  }
};

std::vector<float> Floats(size_t count) {
  std::vector<float> v(count);
  for (float& x : v) x = RandomFloat();
  return v;
}
// Bits beyond the channels are 0, as LCE writes them.
std::vector<uint32_t> Bits(int64_t pixels, int channels) {
  const int words = (channels + 31) / 32;
  std::vector<uint32_t> v(size_t(pixels) * words);
  for (size_t i = 0; i < v.size(); ++i) {
    v[i] = rng();
    if (i % words == size_t(words) - 1 && channels % 32) v[i] &= (1u << channels % 32) - 1;
  }
  return v;
}

template <class T>
std::vector<T> RunPlan(const Builder& b, const Kernels* kernels, int threads, const std::vector<std::pair<int, Guarded*>>& inputs, size_t count, const std::string& what) {
  Plan plan(b.graph, kernels, false);
  std::string error;
  if (!plan.Prepare(threads, &error)) {
    Check(false, what + ": " + error);
    return std::vector<T>(count);
  }
  ThreadPool pool(threads);
  Guarded out(count * sizeof(T));
  for (const auto& input : inputs) plan.Bind(input.first, input.second->data<void>());
  plan.Bind(b.graph.outputs[0], out.data<void>());
  for (int run = 0; run < 2; ++run) plan.Run(&pool);
  Check(out.intact(), what + ": wrote outside the output");
  for (const auto& input : inputs) Check(input.second->intact(), what + ": wrote outside an input");
  return std::vector<T>(out.data<T>(), out.data<T>() + count);
}

// One convolution in each output format.
void TestBconv(const Kernels* kernels, ReferenceConv s, bool same, int activation, int threads) {
  const Extent eh = WindowExtent(s.h, s.kernel_h, s.stride_h, s.dilation_h, same), ew = WindowExtent(s.w, s.kernel_w, s.stride_w, s.dilation_w, same);
  if (eh.out < 1 || ew.out < 1) return;
  s.out_h = eh.out, s.out_w = ew.out, s.top = eh.before, s.left = ew.before;
  char what[256];
  std::snprintf(what, sizeof what, "%s bconv %dx%dx%dx%d -> %d, groups %d, kernel %dx%d, stride %dx%d, dilation %dx%d, same %d, pad_one %d, activation %d, threads %d",
                kernels->name, s.n, s.h, s.w, s.channels, s.outputs, s.groups, s.kernel_h, s.kernel_w, s.stride_h, s.stride_w, s.dilation_h, s.dilation_w, same, s.pad_one, activation, threads);
  const std::vector<uint32_t> x = Bits(int64_t(s.n) * s.h * s.w, s.channels), f = Bits(int64_t(s.outputs) * s.kernel_h * s.kernel_w, s.channels / s.groups);
  const std::vector<int32_t> dot = ReferenceBconv(s, x.data(), f.data());
  std::vector<float> multiplier(s.outputs, 1), bias(s.outputs, 0), scales = Floats(s.outputs), biases = Floats(s.outputs);
  std::vector<int32_t> thresholds(s.outputs);
  const int depth = s.kernel_h * s.kernel_w * s.channels / s.groups;
  for (int32_t& t : thresholds) t = Random(depth / 2 - 3, depth / 2 + 3);
  thresholds[0] = INT32_MAX;
  thresholds[s.outputs - 1] = INT32_MIN;
  const float lo = activation == 2 ? -1.0f : 0.0f, hi = activation == 1 ? INFINITY : activation == 2 ? 1.0f : 6.0f;
  auto act = [&](int v) { return activation ? std::fmin(std::fmax(float(v), lo), hi) : float(v); };
  Guarded input(x.size() * 4);
  std::memcpy(input.data<void>(), x.data(), x.size() * 4);
  for (int format = 0; format < 4; ++format) {  // dot product, scaled float, int8, bits
    if (format == 3 && activation) continue;
    Builder b;
    const int in = b.Tensor(DType::kInt32, {s.n, s.h, s.w, (s.channels + 31) / 32});
    const int filter = b.Constant(DType::kInt32, {s.outputs, s.kernel_h, s.kernel_w, (s.channels / s.groups + 31) / 32}, f);
    const int mul = b.Constant(DType::kFloat, {s.outputs}, format ? scales : multiplier), add = b.Constant(DType::kFloat, {s.outputs}, format ? biases : bias);
    const int limit = b.Constant(DType::kInt32, {s.outputs}, thresholds);
    const int out = b.Tensor(format == 3 ? DType::kInt32 : format == 2 ? DType::kInt8 : DType::kFloat, {});
    b.graph.tensors[out].scale = 0.37f;
    b.graph.tensors[out].zero_point = -7;
    Op& op = b.Add(OpKind::kBconv, {in, filter, mul, add, limit}, out);
    op.kernel_h = s.kernel_h, op.kernel_w = s.kernel_w, op.stride_h = s.stride_h, op.stride_w = s.stride_w;
    op.dilation_h = s.dilation_h, op.dilation_w = s.dilation_w, op.same_padding = same, op.pad_one = s.pad_one, op.channels_in = s.channels;
    op.clamp = activation, op.lo = lo, op.hi = hi;
    b.graph.inputs = {in};
    b.graph.outputs = {out};
    const std::vector<std::pair<int, Guarded*>> inputs{{in, &input}};
    const size_t pixels = size_t(s.n) * s.out_h * s.out_w;
    bool equal = true;
    if (format <= 1) {
      const auto y = RunPlan<float>(b, kernels, threads, inputs, dot.size(), what);
      for (size_t i = 0; i < dot.size(); ++i) {
        const int o = int(i % s.outputs);
        const float exact = format ? act(dot[i]) * scales[o] + biases[o] : act(dot[i]);
        equal &= format ? std::fabs(y[i] - exact) <= 1e-5f * (std::fabs(exact) + float(depth) * std::fabs(scales[o])) : y[i] == exact;
      }
    } else if (format == 2) {
      const auto y = RunPlan<int8_t>(b, kernels, threads, inputs, dot.size(), what);
      for (size_t i = 0; i < dot.size(); ++i) {
        const int o = int(i % s.outputs);
        // LCE's formula, in its order: exact, ties included.
        const float m = float(-double(scales[o]) / double(0.37f)), c = float((double(biases[o]) + double(depth) * double(scales[o])) / double(0.37f) + -7.0);
        const float v = std::round((float(depth) - act(dot[i])) * m + c);
        equal &= y[i] == int8_t(std::fmin(std::fmax(v, -128.0f), 127.0f));
      }
    } else {
      const int words = (s.outputs + 31) / 32;
      const auto y = RunPlan<uint32_t>(b, kernels, threads, inputs, pixels * words, what);
      for (size_t p = 0; p < pixels; ++p)
        for (int o = 0; o < words * 32; ++o) {
          // popcount > threshold, where depth - dot = 2 * popcount
          const bool bit = o < s.outputs && int64_t(depth) - dot[p * s.outputs + o] > 2 * int64_t(thresholds[o]);
          equal &= bit == bool(y[p * words + o / 32] >> (o % 32) & 1);
        }
    }
    Check(equal, std::string(what) + ", format " + std::to_string(format));
  }
}

// A Real-to-Binary half block, fused, against its operators one by one: same roundings, so the same bits.
void TestHalfBlock(const Kernels* kernels, int n, int size, int channels, int threads) {
  const std::string what = std::string(kernels->name) + " half block " + std::to_string(n) + "x" + std::to_string(size) + "x" + std::to_string(channels) + ", threads " + std::to_string(threads);
  const int words = (channels + 31) / 32;
  ReferenceConv s{n, size, size, channels, channels, 1, 3, 3, 1, 1, 1, 1, size, size, 1, 1, true};
  const auto x = Bits(int64_t(n) * size * size, channels), f = Bits(int64_t(channels) * 9, channels);
  const size_t count = size_t(n) * size * size * channels;
  const auto shortcut = Floats(count), gate = Floats(size_t(n) * channels), mul = Floats(channels), add = Floats(channels), slope = Floats(channels), bn_mul = Floats(channels), bn_add = Floats(channels);
  Builder b;
  const int in = b.Tensor(DType::kInt32, {n, size, size, words}), skip = b.Tensor(DType::kFloat, {n, size, size, channels}), g = b.Tensor(DType::kFloat, {n, 1, 1, channels});
  int t[10];
  for (int& i : t) i = b.Tensor(DType::kFloat, {});
  const int bits = b.Tensor(DType::kInt32, {});
  Op& conv = b.Add(OpKind::kBconv, {in, b.Constant(DType::kInt32, {channels, 3, 3, words}, f), b.Constant(DType::kFloat, {channels}, mul), b.Constant(DType::kFloat, {channels}, add)}, t[0]);
  conv.kernel_h = conv.kernel_w = 3, conv.same_padding = conv.pad_one = true, conv.channels_in = channels;
  b.Add(OpKind::kMul, {t[0], g}, t[1]);
  b.Add(OpKind::kPrelu, {t[1], b.Constant(DType::kFloat, {1, 1, channels}, slope)}, t[2]);
  b.Add(OpKind::kAdd, {skip, t[2]}, t[3]);
  b.Add(OpKind::kMul, {t[3], b.Constant(DType::kFloat, {channels}, bn_mul)}, t[4]);
  b.Add(OpKind::kAdd, {t[4], b.Constant(DType::kFloat, {channels}, bn_add)}, t[5]);
  b.Add(OpKind::kQuantize, {t[5]}, bits);
  Op& pool = b.Add(OpKind::kAvgPool, {t[5]}, t[6]);
  pool.kernel_h = pool.kernel_w = pool.stride_h = pool.stride_w = size;
  // Two outputs are compared through one: the sum is multiplied into what the bits unpack to.
  b.graph.tensors[t[7]].dims = {n, size, size, channels};
  b.Add(OpKind::kDequantize, {bits}, t[7]);
  b.Add(OpKind::kMul, {t[7], t[6]}, t[8]);
  b.Add(OpKind::kAdd, {t[8], t[3]}, t[9]);
  b.graph.inputs = {in, skip, g};
  b.graph.outputs = {t[9]};
  Guarded gx(x.size() * 4), gs(count * 4), gg(gate.size() * 4);
  std::memcpy(gx.data<void>(), x.data(), x.size() * 4);
  std::memcpy(gs.data<void>(), shortcut.data(), count * 4);
  std::memcpy(gg.data<void>(), gate.data(), gate.size() * 4);
  const auto y = RunPlan<float>(b, kernels, threads, {{in, &gx}, {skip, &gs}, {g, &gg}}, count, what);

  const auto dot = ReferenceBconv(s, x.data(), f.data());
  std::vector<float> sum(size_t(n) * channels, 0), block(count), normed(count);
  for (size_t i = 0; i < count; ++i) {
    const int c = int(i % channels), image = int(i / (size_t(size) * size * channels));
    volatile float v = (9.0f * channels - dot[i]) * -mul[c];  // volatile: no fused multiply-add in the reference either
    v = v + float(double(add[c]) + 9.0 * channels * double(mul[c]));
    v = v * gate[size_t(image) * channels + c];
    if (v < 0) v = v * slope[c];
    v = v + shortcut[i];
    block[i] = v;
    v = v * bn_mul[c];
    v = v + bn_add[c];
    normed[i] = v;
    sum[size_t(image) * channels + c] += v;
  }
  bool equal = true;
  for (size_t i = 0; i < count; ++i) {
    const int c = int(i % channels), image = int(i / (size_t(size) * size * channels));
    const float mean = sum[size_t(image) * channels + c] / float(size * size);
    const float expected = (normed[i] < 0 ? -mean : mean) + block[i];
    equal &= std::fabs(y[i] - expected) <= 1e-4f * (1 + std::fabs(block[i]) + std::fabs(mean));
  }
  Check(equal, what);
}

// Plain C++ and ARMv7 round product and sum apart.
bool FusesProducts(const Kernels* kernels) {
#if defined(__x86_64__) || defined(__aarch64__)
  return std::string(kernels->name) != "portable";
#else
  (void)kernels;
  return false;
#endif
}

// A convolution and the window of maxima that takes it in, with a PReLU between them whose slopes begin at `least`.
struct Window { int kernel, stride; bool same; float least; };
void TestFloatConv(const Kernels* kernels, int n, int h, int w, int channels, int outputs, int kernel, int stride, bool same, int threads, const Window& window) {
  const Extent eh = WindowExtent(h, kernel, stride, 1, same), ew = WindowExtent(w, kernel, stride, 1, same);
  if (eh.out < 1 || ew.out < 1) return;
  const std::string what = std::string(kernels->name) + " conv " + std::to_string(h) + "x" + std::to_string(w) + "x" + std::to_string(channels) + " -> " + std::to_string(outputs) + " kernel " + std::to_string(kernel) + " stride " + std::to_string(stride) +
                           ", window " + std::to_string(window.kernel) + " stride " + std::to_string(window.stride) + (window.same ? " same" : " valid") + ", slopes from " + std::to_string(window.least);
  const auto x = Floats(size_t(n) * h * w * channels), f = Floats(size_t(outputs) * kernel * kernel * channels), bias = Floats(outputs);
  auto slopes = Floats(outputs);
  for (float& slope : slopes) slope = window.least + std::fabs(slope);
  Builder b;
  const int in = b.Tensor(DType::kFloat, {n, h, w, channels}), out = b.Tensor(DType::kFloat, {}), sloped = b.Tensor(DType::kFloat, {}), pooled = b.Tensor(DType::kFloat, {});
  Op& op = b.Add(OpKind::kConv, {in, b.Constant(DType::kFloat, {outputs, kernel, kernel, channels}, f), b.Constant(DType::kFloat, {outputs}, bias)}, out);
  op.kernel_h = op.kernel_w = kernel, op.stride_h = op.stride_w = stride, op.same_padding = same, op.clamp = true, op.lo = -6, op.hi = 6;
  b.Add(OpKind::kPrelu, {out, b.Constant(DType::kFloat, {1, 1, outputs}, slopes)}, sloped);
  Op& pool = b.Add(OpKind::kMaxPool, {sloped}, pooled);
  pool.kernel_h = pool.kernel_w = window.kernel, pool.stride_h = pool.stride_w = window.stride, pool.same_padding = window.same;
  b.graph.inputs = {in};
  b.graph.outputs = {pooled};
  Guarded gx(x.size() * 4);
  std::memcpy(gx.data<void>(), x.data(), x.size() * 4);
  std::vector<float> y(size_t(n) * eh.out * ew.out * outputs);
  for (int i = 0; i < n; ++i)
    for (int oy = 0; oy < eh.out; ++oy)
      for (int ox = 0; ox < ew.out; ++ox)
        for (int o = 0; o < outputs; ++o) {
          double sum = bias[o];
          for (int ky = 0; ky < kernel; ++ky)
            for (int kx = 0; kx < kernel; ++kx) {
              const int iy = oy * stride - eh.before + ky, ix = ox * stride - ew.before + kx;
              if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue;
              for (int c = 0; c < channels; ++c) sum += double(x[((size_t(i) * h + iy) * w + ix) * channels + c]) * f[((size_t(o) * kernel + ky) * kernel + kx) * channels + c];
            }
          y[((size_t(i) * eh.out + oy) * ew.out + ox) * outputs + o] = float(std::fmin(std::fmax(sum, -6), 6) * (sum < 0 ? slopes[o] : 1));
        }
  const Extent ph = WindowExtent(eh.out, window.kernel, window.stride, 1, window.same), pw = WindowExtent(ew.out, window.kernel, window.stride, 1, window.same);
  if (ph.out < 1 || pw.out < 1) return;
  const auto got = RunPlan<float>(b, kernels, threads, {{in, &gx}}, size_t(n) * ph.out * pw.out * outputs, what);
  bool equal = true;
  for (int i = 0; i < n; ++i)
    for (int py = 0; py < ph.out; ++py)
      for (int px = 0; px < pw.out; ++px)
        for (int o = 0; o < outputs; ++o) {
          float most = -INFINITY;
          for (int ky = 0; ky < window.kernel; ++ky)
            for (int kx = 0; kx < window.kernel; ++kx) {
              const int iy = py * window.stride - ph.before + ky, ix = px * window.stride - pw.before + kx;
              if (iy >= 0 && iy < eh.out && ix >= 0 && ix < ew.out) most = std::fmax(most, y[((size_t(i) * eh.out + iy) * ew.out + ix) * outputs + o]);
            }
          equal &= std::fabs(got[((size_t(i) * ph.out + py) * pw.out + px) * outputs + o] - most) <= 1e-5f * float(kernel * kernel * channels);
        }
  Check(equal, what);
}

// A dense layer, whose sums have a given order: of one vector four lanes, added in pairs, then what fills no four; of several
// one fused product after the other, from the bias.
void TestDense(const Kernels* kernels, int batch, int inputs, int outputs, int threads) {
  const std::string what = std::string(kernels->name) + " dense " + std::to_string(batch) + "x" + std::to_string(inputs) + " -> " + std::to_string(outputs) + ", threads " + std::to_string(threads);
  const auto x = Floats(size_t(batch) * inputs), w = Floats(size_t(outputs) * inputs), bias = Floats(outputs);
  Builder b;
  const int in = b.Tensor(DType::kFloat, {batch, inputs}), out = b.Tensor(DType::kFloat, {});
  b.Add(OpKind::kDense, {in, b.Constant(DType::kFloat, {outputs, inputs}, w), b.Constant(DType::kFloat, {outputs}, bias)}, out);
  b.graph.inputs = {in};
  b.graph.outputs = {out};
  Guarded gx(x.size() * 4);
  std::memcpy(gx.data<void>(), x.data(), x.size() * 4);
  const auto y = RunPlan<float>(b, kernels, threads, {{in, &gx}}, size_t(batch) * outputs, what);
  bool equal = true;
  for (int n = 0; n < batch; ++n)
    for (int o = 0; o < outputs; ++o) {
      const float *row = &x[size_t(n) * inputs], *weights = &w[size_t(o) * inputs];
      if (batch > 1) {
        double sum = bias[o], size = std::fabs(sum);
        float fused = bias[o];
        for (int i = 0; i < inputs; ++i) {
          const double product = double(row[i]) * weights[i];
          fused = std::fma(row[i], weights[i], fused);
          sum += product;
          size += std::fabs(product);
        }
        const float got = y[size_t(n) * outputs + o];
        equal &= FusesProducts(kernels) ? got == fused : std::fabs(got - sum) <= 1e-5 * size;
        continue;
      }
      volatile float lanes[4] = {}, product;  // volatile: every product and sum is rounded
      int i = 0;
      for (; i < inputs / 4 * 4; ++i) {
        product = row[i] * weights[i];
        lanes[i % 4] = lanes[i % 4] + product;
      }
      volatile float left = lanes[0] + lanes[1], right = lanes[2] + lanes[3], total = left + right;
      for (; i < inputs; ++i) {
        product = row[i] * weights[i];
        total = total + product;
      }
      total = total + bias[o];
      equal &= y[size_t(n) * outputs + o] == total;
    }
  Check(equal, what);
}

// Converters store equal constants once: tensors of other shapes then have the same memory, but not the same packing.
void TestSharedConstant(const Kernels* kernels) {
  const std::string what = std::string(kernels->name) + " one constant in two shapes";
  const auto x = Floats(8), w = Floats(9 * 8);
  Builder b;
  const int in = b.Tensor(DType::kFloat, {1, 8}), wide = b.Tensor(DType::kFloat, {}), out = b.Tensor(DType::kFloat, {});
  const int up = b.Constant(DType::kFloat, {9, 8}, w), down = b.Tensor(DType::kFloat, {8, 9});
  b.graph.tensors[down].constant = b.graph.tensors[up].constant;
  b.Add(OpKind::kDense, {in, up}, wide);
  b.Add(OpKind::kDense, {wide, down}, out);
  b.graph.inputs = {in};
  b.graph.outputs = {out};
  Guarded gx(x.size() * 4);
  std::memcpy(gx.data<void>(), x.data(), x.size() * 4);
  const auto y = RunPlan<float>(b, kernels, 1, {{in, &gx}}, 8, what);
  bool equal = true;
  for (int o = 0; o < 8; ++o) {
    double sum = 0, size = 0;
    for (int m = 0; m < 9; ++m)
      for (int i = 0; i < 8; ++i) {
        const double product = double(w[o * 9 + m]) * w[m * 8 + i] * x[i];
        sum += product;
        size += std::fabs(product);
      }
    equal &= std::fabs(y[o] - sum) <= 1e-5 * size;
  }
  Check(equal, what);
}

// Every item is done once, whatever the order; of its own, a thread does the first ones.
void TestWorkSharing() {
  WorkSharing sharing;
  sharing.Resize(2);
  sharing.Assign(0, 0, 10);
  sharing.Assign(1, 10, 12);
  std::vector<int> order;
  std::vector<bool> own;
  const auto take = [&](int thread) {
    const WorkSharing::Item item = sharing.Take(thread);
    order.push_back(item.index);
    own.push_back(item.own);
  };
  take(0);
  for (int i = 0; i < 8; ++i) take(1);  // its two; of 1 to 9, the upper half; of 1 to 4, again
  take(0), take(0), take(0);
  Check(order == std::vector<int>{0, 10, 11, 5, 6, 7, 8, 9, 3, 1, 2, 4}, "who is done takes the upper half");
  Check(own == std::vector<bool>{true, true, true, false, false, false, false, false, false, true, true, false}, "whose items they were");
  take(0), take(1);
  Check(order[12] == -1 && order[13] == -1, "no items are left");
  Check(sharing.Kept(0) == 3 && sharing.Kept(1) == 12, "the first ones of their own are kept");

  for (int threads : {1, 3, 4})
    for (int round = 0; round < 20; ++round) {
      const int items = 1000;
      std::vector<std::atomic<int>> done(items);
      std::vector<int> last(threads, -1);
      sharing.Resize(threads);
      for (int t = 0; t < threads; ++t) sharing.Assign(t, t == 0 ? 0 : items - 10 * (threads - t), items - 10 * (threads - 1 - t));
      ThreadPool(threads).Run([&](int thread) {
        for (WorkSharing::Item item = sharing.Take(thread); item.index >= 0; item = sharing.Take(thread)) {
          ++done[item.index];
          if (item.own) last[thread] = item.index;
        }
      });
      bool once = true;
      for (const auto& times : done) once &= times == 1;
      Check(once, "every item is done once");
      for (int t = 0; t < threads; ++t) Check(last[t] < 0 || last[t] + 1 == sharing.Kept(t), "what was kept has no gap");
    }
}

// Of `count` floats, `stride` apart, as ReferenceBconv reads them.
void AppendBits(const float* values, int count, int stride, std::vector<uint32_t>* bits) {
  for (int i = 0; i < count; ++i) {
    if (i % 32 == 0) bits->push_back(0);
    bits->back() |= uint32_t(values[i * stride] < 0) << i % 32;
  }
}

// With floats of either sign, and zeros of either.
void TestConvolver(Convolver* convolver, const char* kernels, const ConvolutionShape& s) {
  const Extent eh = WindowExtent(s.height, s.kernel_h, s.stride_h, 1, s.same_padding), ew = WindowExtent(s.width, s.kernel_w, s.stride_w, 1, s.same_padding);
  if (eh.out < 1 || ew.out < 1) return;
  const std::string what = std::string(kernels) + " convolver " + std::to_string(s.height) + "x" + std::to_string(s.width) + "x" + std::to_string(s.channels) + " -> " + std::to_string(s.outputs);
  const int pixels = s.images * s.height * s.width, taps = s.kernel_h * s.kernel_w;
  Guarded images(size_t(pixels) * s.channels * sizeof(float)), kernel(size_t(taps) * s.channels * s.outputs * sizeof(float));
  Guarded output(size_t(s.images) * eh.out * ew.out * s.outputs * sizeof(float));
  for (Guarded* floats : {&images, &kernel})
    for (size_t i = 0; i < floats->size() / sizeof(float); ++i) floats->data<float>()[i] = i % 5 ? RandomFloat() : i % 2 ? 0.0f : -0.0f;
  std::string error;
  Check(convolver->Run(s, images.data<float>(), kernel.data<float>(), output.data<float>(), &error), what + ": " + error);
  Check(output.intact() && images.intact() && kernel.intact(), what + ": wrote outside the output");
  std::vector<uint32_t> input, filter;
  for (int i = 0; i < pixels; ++i) AppendBits(images.data<float>() + i * s.channels, s.channels, 1, &input);
  for (int o = 0; o < s.outputs; ++o)
    for (int t = 0; t < taps; ++t) AppendBits(kernel.data<float>() + t * s.channels * s.outputs + o, s.channels, s.outputs, &filter);
  const ReferenceConv reference{s.images, s.height, s.width, s.channels, s.outputs, 1, s.kernel_h, s.kernel_w, s.stride_h, s.stride_w, 1, 1, eh.out, ew.out, eh.before, ew.before, false};
  const auto expected = ReferenceBconv(reference, input.data(), filter.data());
  Check(std::equal(expected.begin(), expected.end(), output.data<float>()), what + ": values");
}

// Samples and weights need not be those of an operator; every one has to be read where it is said to be.
void TestResample(const Kernels* k, int height, int width, int channels, int out_height, int out_width, bool cubic, bool bytes, bool normalised) {
  const std::string what = std::string(k->name) + (cubic ? " cubic " : " linear ") + (bytes ? "bytes " : "floats ") + std::to_string(height) + "x" + std::to_string(width) +
                           "x" + std::to_string(channels) + " -> " + std::to_string(out_height) + "x" + std::to_string(out_width);
  const int samples = cubic ? 4 : 2, weights = cubic ? 4 : 1, stride = width * channels + Random(0, 5), size = bytes ? 1 : int(sizeof(float));
  Guarded image(size_t(size) * ((height - 1) * stride + width * channels)), out(sizeof(float) * out_height * out_width * channels, Random(0, 1) ? 0 : 4 * Random(0, 15));
  std::vector<int> rows, columns;
  for (int i = 0; i < samples * out_height; ++i) rows.push_back(Random(0, height - 1));
  for (int i = 0; i < samples * out_width; ++i) columns.push_back(Random(0, width - 1) * channels);
  for (int i = 0; i < int(image.size()) / size; ++i)
    if (bytes) image.data<uint8_t>()[i] = uint8_t(Random(0, 255));
    else image.data<float>()[i] = RandomFloat();
  const auto row_weights = Floats(weights * out_height), column_weights = Floats(weights * out_width);
  const auto mean = Floats(channels * out_width), std = Floats(channels * out_width);
  Resample r{image.data<void>(), bytes, width * channels, stride, channels, out_height, out_width, cubic, rows.data(), row_weights.data(), columns.data(), column_weights.data(),
             nullptr, nullptr, nullptr, normalised ? mean.data() : nullptr, normalised ? std.data() : nullptr, nullptr, out.data<float>(), Random(0, 1) == 1};
  Guarded scratch(ResampleScratch(r) * sizeof(float));
  r.scratch = scratch.data<float>();
  k->resample(r);
  Check(out.intact() && image.intact() && scratch.intact(), what + ": wrote outside");
  bool equal = true;
  for (int y = 0; y < out_height; ++y)
    for (int x = 0; x < out_width; ++x)
      for (int c = 0; c < channels; ++c) {
        const float expected = ReferenceResample(r, y, x, c);
        equal &= !std::memcmp(&expected, out.data<float>() + (y * out_width + x) * channels + c, sizeof(float));
      }
  Check(equal, what + ": values");
}

// Samples as the operators have them: near each other, in order or mirrored, which some kernels make use of.
void TestResize(const Kernels* k, int channels, bool bilinear, bool bytes) {
  const int height = Random(1, 80), width = Random(1, 80), count = Random(1, 3), size = bytes ? 1 : int(sizeof(float));
  const int image_height = Random(1, 3 * height), image_width = Random(1, 3 * width), stride = image_width * channels + Random(0, 5);
  const std::vector<float> mean = Floats(channels), std = Floats(channels);
  const Resizing resizing{channels, bytes, height, width, bilinear, Random(0, 1), mean.data(), std.data()};
  std::vector<std::unique_ptr<Guarded>> memory;
  std::vector<ResizedImage> images;
  for (int i = 0; i < count; ++i) {
    memory.push_back(std::make_unique<Guarded>(size_t(size) * ((image_height - 1) * stride + image_width * channels)));
    for (size_t j = 0; j < memory.back()->size() / size; ++j)
      if (bytes) memory.back()->data<uint8_t>()[j] = uint8_t(Random(0, 255));
      else memory.back()->data<float>()[j] = RandomFloat();
    images.push_back({int64_t(reinterpret_cast<uintptr_t>(memory.back()->data<void>())), stride, image_height, image_width, Random(0, 1)});
  }
  Guarded expected(sizeof(float) * count * height * width * channels), found(expected.size(), Random(0, 1) ? 0 : 4);
  Resize(PortableKernels(), resizing, images.data(), count, expected.data<float>());
  Resize(k, resizing, images.data(), count, found.data<float>());
  bool intact = found.intact();
  for (const auto& image : memory) intact &= image->intact();
  const std::string what = std::string(k->name) + (bilinear ? " bilinear " : " bicubic ") + std::to_string(image_width) + " -> " + std::to_string(width);
  Check(intact, what + ": wrote outside");
  Check(!std::memcmp(expected.data<void>(), found.data<void>(), expected.size()), what + ": values");
}

void TestAll(const Kernels* k) {
  // Widths around the tiles of every kernel (1 to 4, 7 pixels), outputs around a block of 32 and around two.
  for (int width : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15})
    for (int outputs : {1, 31, 32, 33, 64, 67}) TestBconv(k, {1, 2, width, 33, outputs, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, false}, false, 0, 1);
  for (int channels : {1, 31, 32, 33, 64, 100, 256})
    for (bool same : {false, true})
      for (bool pad_one : {false, true}) TestBconv(k, {2, 5, 7, channels, 40, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, pad_one}, same, 0, Random(1, 3));
  for (int i = 0; i < 150; ++i) {
    const int groups = i % 4 == 3 ? Random(2, 3) : 1;
    const int channels = groups > 1 ? 32 * groups * Random(1, 2) : Random(1, 140);
    TestBconv(k, {Random(1, 3), Random(1, 9), Random(1, 17), channels, groups * Random(1, 40), groups, Random(1, 5), Random(1, 5), Random(1, 3), Random(1, 3), Random(1, 2), Random(1, 2), 0, 0, 0, 0, Random(0, 1) == 1},
              Random(0, 1) == 1, i % 5 == 4 ? Random(1, 3) : 0, Random(1, 4));
  }
  TestBconv(k, {1, 3, 3, 2048, 33, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, false}, true, 0, 1);  // long runs
  TestBconv(k, {1, 3, 3, 8192, 5, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, false}, true, 0, 1);   // more than 16-bit sums hold
  for (int channels : {32, 64, 100, 31})
    for (int threads : {1, 2, 3})
      for (int size : {1, Random(2, 9)}) TestHalfBlock(k, Random(1, 3), size, channels, threads);
  // Inputs around fours, outputs around groups of eight and the kernels' multiples of them; large enough to be shared out.
  for (int inputs : {1, 3, 4, 5, 64, 67})
    for (int outputs : {1, 7, 8, 9, 31, 33, 100}) TestDense(k, Random(1, 3), inputs, outputs, 1);
  for (int threads : {1, 2, 3})
    for (int batch : {1, 4}) TestDense(k, batch, 515, 203, threads);
  TestSharedConstant(k);
  for (int threads : {1, 2, 3}) {
    Convolver convolver(k, threads);  // for all shapes, so that nothing of one may be left to the next
    for (int i = 0; i < 25; ++i)
      TestConvolver(&convolver, k->name, {Random(1, 3), Random(1, 9), Random(1, 17), Random(1, 100), Random(1, 4), Random(1, 4), Random(1, 70), Random(1, 3), Random(1, 3), Random(0, 1)});
  }
  for (int i = 0; i < 200; ++i)
    TestResample(k, Random(1, 9), Random(1, 40), Random(0, 1) ? 3 : 1, Random(1, 9), Random(1, 40), Random(0, 1), Random(0, 1), Random(0, 1));
  for (int i = 0; i < 100; ++i) TestResize(k, Random(0, 1) ? 3 : 1, Random(0, 1), Random(0, 1));
  // Three wide and two apart is what kernels reduce in registers: every way such windows meet a tile and the edges.
  for (int i = 0; i < 80; ++i)
    TestFloatConv(k, Random(1, 2), Random(1, 12), Random(1, 70), Random(1, 9), Random(0, 1) ? Random(1, 70) : 64, Random(1, 7), Random(1, 2), Random(0, 1) == 1, Random(1, 3),
                  {i % 4 ? 3 : Random(1, 4), i % 4 ? 2 : Random(1, 3), Random(0, 1) == 1, i % 3 ? 0.0f : -0.5f});
}

}  // namespace

int main(int argc, char** argv) {
  std::string ran;
  TestWorkSharing();
  for (const char* const* name = AvailableKernels(); *name; ++name) {
    TestAll(SelectKernels(*name));
    ran += std::string(" ") + *name;
  }
  for (int i = 1; i < argc; ++i) Check(SelectKernels(argv[i]) != nullptr, std::string("kernels did not run: ") + argv[i]);
  Check(SelectKernels("no such kernels") == nullptr, "unknown kernels were accepted");
  std::printf("kernels:%s; %d checks, %d failures\n", ran.c_str(), checks, failures);
  return failures != 0;
}
