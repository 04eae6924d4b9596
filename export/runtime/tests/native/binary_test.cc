// Compares plans that contain binary convolutions with the scalar specification (kernels/reference.h). Results must be
// exactly equal. Only those of TestHalfBlock, which contain means, may differ slightly.
#include <cmath>
#include <cstdio>

#include "kernels/reference.h"
#include "plans.h"

namespace r2b {
namespace {

// Random packed signs. Bits beyond the channels are 0, as LCE writes them.
std::vector<uint32_t> Bits(int64_t pixels, int channels) {
  const int words = (channels + 31) / 32;
  std::vector<uint32_t> v(size_t(pixels) * words);
  for (size_t i = 0; i < v.size(); ++i) {
    v[i] = rng();
    if (i % words == size_t(words) - 1 && channels % 32) v[i] &= (1u << channels % 32) - 1;
  }
  return v;
}

// A random convolution with its operands and expected sums, for outputs of any format.
struct DrawnBconv {
  ReferenceConv s;
  bool same;
  int activation;  // 0: none, 1: RELU, 2: RELU_N1_TO_1, 3: RELU6
  std::vector<uint32_t> x, f;
  std::vector<int32_t> dot;  // expected sums, from the specification
  std::vector<float> scales, biases;
  std::vector<int32_t> thresholds;

  int depth() const { return s.kernel_h * s.kernel_w * s.channels / s.groups; }
  float lo() const { return activation == 2 ? -1.0f : 0.0f; }
  float hi() const { return activation == 1 ? INFINITY : activation == 2 ? 1.0f : 6.0f; }
  float Activated(size_t i) const {
    const float v = float(dot[i]);
    return activation ? std::fmin(std::fmax(v, lo()), hi()) : v;
  }
};

enum Format { kDot, kScaled, kBytes, kBits };

DrawnBconv DrawBconv(const ReferenceConv& s, bool same, int activation) {
  DrawnBconv d{s, same, activation, {}, {}, {}, {}, {}, {}};
  d.x = Bits(int64_t(s.n) * s.h * s.w, s.channels);
  d.f = Bits(int64_t(s.outputs) * s.kernel_h * s.kernel_w, s.channels / s.groups);
  d.dot = ReferenceBconv(s, d.x.data(), d.f.data());
  d.scales = Floats(s.outputs);
  d.biases = Floats(s.outputs);
  d.thresholds.resize(s.outputs);
  for (int32_t& t : d.thresholds) t = Random(d.depth() / 2 - 3, d.depth() / 2 + 3);
  d.biases[0] = 0;
  d.thresholds[0] = INT32_MAX;
  d.thresholds[s.outputs - 1] = INT32_MIN;
  return d;
}

Builder BconvGraph(const DrawnBconv& d, Format format) {
  const ReferenceConv& s = d.s;
  Builder b;
  const int in = b.Tensor(DType::kInt32, {s.n, s.h, s.w, (s.channels + 31) / 32});
  const int filter =
      b.Constant(DType::kInt32, {s.outputs, s.kernel_h, s.kernel_w, (s.channels / s.groups + 31) / 32}, d.f);
  const std::vector<float> ones(s.outputs, 1), zeros(s.outputs, 0);
  const int mul = b.Constant(DType::kFloat, {s.outputs}, format == kDot ? ones : d.scales),
            add = b.Constant(DType::kFloat, {s.outputs}, format == kDot ? zeros : d.biases);
  const int limit = b.Constant(DType::kInt32, {s.outputs}, d.thresholds);
  const int out = b.Tensor(format == kBits ? DType::kInt32 : format == kBytes ? DType::kInt8 : DType::kFloat, {});
  b.graph.tensors[out].scale = 0.37f;
  b.graph.tensors[out].zero_point = -7;
  Op& op = b.Add(OpKind::kBconv, {in, filter, mul, add, limit}, out);
  op.kernel_h = s.kernel_h, op.kernel_w = s.kernel_w, op.stride_h = s.stride_h, op.stride_w = s.stride_w;
  op.dilation_h = s.dilation_h, op.dilation_w = s.dilation_w, op.same_padding = d.same, op.pad_one = s.pad_one,
  op.channels_in = s.channels;
  op.clamp = d.activation, op.lo = d.lo(), op.hi = d.hi();
  b.graph.inputs = {in};
  b.graph.outputs = {out};
  return b;
}

// Compares with LCE's formula, computed in LCE's order. The sums `d.dot` leave out taps in zero padding. The engine
// first counts such taps as +1 and then corrects its sums. The results must still be equal, since sums are whole
// numbers and are corrected before anything is rounded. (volatile prevents a fused multiply-add.)
bool FloatsEqual(const DrawnBconv& d, bool scaled, const std::vector<float>& y) {
  bool equal = true;
  for (size_t i = 0; i < d.dot.size(); ++i) {
    const int o = int(i % d.s.outputs), depth = d.depth();
    volatile float v = (float(depth) - d.Activated(i)) * -d.scales[o];
    v = v + float(double(d.biases[o]) + double(depth) * double(d.scales[o]));
    equal &= y[i] == (scaled ? v : d.Activated(i));
  }
  return equal;
}

// Compares with LCE's formula, computed in LCE's order. Ties must be rounded as LCE rounds them.
bool BytesEqual(const DrawnBconv& d, const std::vector<int8_t>& y) {
  bool equal = true;
  for (size_t i = 0; i < d.dot.size(); ++i) {
    const int o = int(i % d.s.outputs), depth = d.depth();
    const float m = float(-double(d.scales[o]) / double(0.37f)),
                c = float((double(d.biases[o]) + double(depth) * double(d.scales[o])) / double(0.37f) + -7.0);
    const float v = std::round((float(depth) - d.Activated(i)) * m + c);
    equal &= y[i] == int8_t(std::fmin(std::fmax(v, -128.0f), 127.0f));
  }
  return equal;
}

// LCE sets a bit if popcount > threshold, where 2 * popcount = depth - dot. Bits beyond the outputs must be 0.
bool BitsEqual(const DrawnBconv& d, const std::vector<uint32_t>& y) {
  const int outputs = d.s.outputs, words = (outputs + 31) / 32;
  bool equal = true;
  for (size_t p = 0; p < d.dot.size() / outputs; ++p)
    for (int o = 0; o < words * 32; ++o) {
      const bool bit = o < outputs && int64_t(d.depth()) - d.dot[p * outputs + o] > 2 * int64_t(d.thresholds[o]);
      equal &= bit == bool(y[p * words + o / 32] >> (o % 32) & 1);
    }
  return equal;
}

// Tests one convolution in each output format; packed bits have no activation.
void TestBconv(const Kernels* kernels, ReferenceConv s, bool same, int activation, int threads) {
  const Extent eh = WindowExtent(s.h, s.kernel_h, s.stride_h, s.dilation_h, same),
               ew = WindowExtent(s.w, s.kernel_w, s.stride_w, s.dilation_w, same);
  if (eh.out < 1 || ew.out < 1) return;
  s.out_h = eh.out, s.out_w = ew.out, s.top = eh.before, s.left = ew.before;
  char text[256];
  std::snprintf(text, sizeof text,
                "%s bconv %dx%dx%dx%d -> %d, groups %d, kernel %dx%d, stride %dx%d, dilation %dx%d, same %d, pad_one "
                "%d, activation %d, threads %d",
                kernels->name, s.n, s.h, s.w, s.channels, s.outputs, s.groups, s.kernel_h, s.kernel_w, s.stride_h,
                s.stride_w, s.dilation_h, s.dilation_w, same, s.pad_one, activation, threads);
  const std::string what = text;
  const DrawnBconv d = DrawBconv(s, same, activation);
  Guarded input(d.x.size() * 4);
  std::memcpy(input.data<void>(), d.x.data(), d.x.size() * 4);
  for (Format format : {kDot, kScaled, kBytes, kBits}) {
    if (format == kBits && activation) continue;
    const Builder b = BconvGraph(d, format);
    const std::vector<std::pair<int, Guarded*>> inputs{{b.graph.inputs[0], &input}};
    const size_t pixels = d.dot.size() / s.outputs, words = (s.outputs + 31) / 32;
    const bool equal =
        format == kBits ? BitsEqual(d, RunPlan<uint32_t>(b, kernels, threads, inputs, pixels * words, what))
        : format == kBytes
            ? BytesEqual(d, RunPlan<int8_t>(b, kernels, threads, inputs, d.dot.size(), what))
            : FloatsEqual(d, format == kScaled, RunPlan<float>(b, kernels, threads, inputs, d.dot.size(), what));
    Check(equal, what + ", format " + std::to_string(format));
  }
}

// Compares a fused Real-to-Binary half block with its operators computed one by one.
void TestHalfBlock(const Kernels* kernels, int n, int size, int channels, int threads) {
  const std::string what = std::string(kernels->name) + " half block " + std::to_string(n) + "x" +
                           std::to_string(size) + "x" + std::to_string(channels) + ", threads " +
                           std::to_string(threads);
  const int words = (channels + 31) / 32;
  ReferenceConv s{n, size, size, channels, channels, 1, 3, 3, 1, 1, 1, 1, size, size, 1, 1, true};
  const auto x = Bits(int64_t(n) * size * size, channels), f = Bits(int64_t(channels) * 9, channels);
  const size_t count = size_t(n) * size * size * channels;
  const auto shortcut = Floats(count), gate = Floats(size_t(n) * channels), mul = Floats(channels),
             add = Floats(channels), slope = Floats(channels), bn_mul = Floats(channels), bn_add = Floats(channels);
  Builder b;
  const int in = b.Tensor(DType::kInt32, {n, size, size, words}),
            skip = b.Tensor(DType::kFloat, {n, size, size, channels}), g = b.Tensor(DType::kFloat, {n, 1, 1, channels});
  int t[10];
  for (int& i : t) i = b.Tensor(DType::kFloat, {});
  const int bits = b.Tensor(DType::kInt32, {});
  Op& conv = b.Add(OpKind::kBconv,
                   {in, b.Constant(DType::kInt32, {channels, 3, 3, words}, f),
                    b.Constant(DType::kFloat, {channels}, mul), b.Constant(DType::kFloat, {channels}, add)},
                   t[0]);
  conv.kernel_h = conv.kernel_w = 3, conv.same_padding = conv.pad_one = true, conv.channels_in = channels;
  b.Add(OpKind::kMul, {t[0], g}, t[1]);
  b.Add(OpKind::kPrelu, {t[1], b.Constant(DType::kFloat, {1, 1, channels}, slope)}, t[2]);
  b.Add(OpKind::kAdd, {skip, t[2]}, t[3]);
  b.Add(OpKind::kMul, {t[3], b.Constant(DType::kFloat, {channels}, bn_mul)}, t[4]);
  b.Add(OpKind::kAdd, {t[4], b.Constant(DType::kFloat, {channels}, bn_add)}, t[5]);
  b.Add(OpKind::kQuantize, {t[5]}, bits);
  Op& pool = b.Add(OpKind::kAvgPool, {t[5]}, t[6]);
  pool.kernel_h = pool.kernel_w = pool.stride_h = pool.stride_w = size;
  // One output checks all three results: the unpacked bits times the average, plus the block's own output.
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

// Tests a binary convolution that is followed by more element-wise operators than in any network.
void TestChain(const Kernels* kernels, int operators, int threads) {
  const std::string what =
      std::string(kernels->name) + " chain of " + std::to_string(operators) + ", threads " + std::to_string(threads);
  ReferenceConv s{1, 4, 5, 64, 40, 1, 3, 3, 1, 1, 1, 1, 4, 5, 1, 1, true};
  const auto x = Bits(20, s.channels), f = Bits(int64_t(s.outputs) * 9, s.channels);
  Builder b;
  const int in = b.Tensor(DType::kInt32, {1, 4, 5, 2});
  int value = b.Tensor(DType::kFloat, {});
  Op& conv = b.Add(OpKind::kBconv,
                   {in, b.Constant(DType::kInt32, {s.outputs, 3, 3, 2}, f),
                    b.Constant(DType::kFloat, {s.outputs}, std::vector<float>(s.outputs, 1)),
                    b.Constant(DType::kFloat, {s.outputs}, std::vector<float>(s.outputs, 0))},
                   value);
  conv.kernel_h = conv.kernel_w = 3, conv.same_padding = conv.pad_one = true, conv.channels_in = s.channels;
  const auto dot = ReferenceBconv(s, x.data(), f.data());
  std::vector<float> expected(dot.begin(), dot.end());
  for (int i = 0; i < operators; ++i) {
    const std::vector<float> operand(s.outputs, i % 2 ? -1.0f : RandomFloat());
    const int next = b.Tensor(DType::kFloat, {});
    b.Add(i % 2 ? OpKind::kMul : OpKind::kAdd, {value, b.Constant(DType::kFloat, {s.outputs}, operand)}, next);
    value = next;
    for (float& v : expected) v = i % 2 ? v * operand[0] : v + operand[0];
  }
  b.graph.inputs = {in};
  b.graph.outputs = {value};
  Guarded gx(x.size() * 4);
  std::memcpy(gx.data<void>(), x.data(), x.size() * 4);
  Check(RunPlan<float>(b, kernels, threads, {{in, &gx}}, dot.size(), what) == expected, what);
}

}  // namespace

void TestBinaryPlans(const Kernels* k) {
  // Widths around every kernel's tiles (1 to 4, 7, 8 and 14 pixels), and outputs around one and two blocks of 32.
  for (int width : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15})
    for (int outputs : {1, 31, 32, 33, 64, 67})
      TestBconv(k, {1, 2, width, 33, outputs, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, false}, false, 0, 1);
  for (int channels : {1, 31, 32, 33, 64, 100, 256})
    for (bool same : {false, true})
      for (bool pad_one : {false, true})
        TestBconv(k, {2, 5, 7, channels, 40, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, pad_one}, same, 0, Random(1, 3));
  for (int i = 0; i < 150; ++i) {
    const int groups = i % 4 == 3 ? Random(2, 3) : 1;
    const int channels = groups > 1 ? 32 * groups * Random(1, 2) : Random(1, 140);
    TestBconv(k,
              {Random(1, 3), Random(1, 9), Random(1, 17), channels, groups * Random(1, 40), groups, Random(1, 5),
               Random(1, 5), Random(1, 3), Random(1, 3), Random(1, 2), Random(1, 2), 0, 0, 0, 0, Random(0, 1) == 1},
              Random(0, 1) == 1, i % 5 == 4 ? Random(1, 3) : 0, Random(1, 4));
  }
  TestBconv(k, {1, 3, 3, 2048, 33, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, false}, true, 0, 1);  // long runs of words
  TestBconv(k, {1, 3, 3, 8192, 5, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, false}, true, 0, 1);   // more than 16-bit sums hold
  for (int channels : {32, 64, 100, 31})
    for (int threads : {1, 2, 3})
      for (int size : {1, Random(2, 9)}) TestHalfBlock(k, Random(1, 3), size, channels, threads);
  for (int operators : {61, 64, 65, 200})
    for (int threads : {1, 2}) TestChain(k, operators, threads);
}

}  // namespace r2b
