// Tests plans with int8 convolutions and the conversions before and after them. Outputs, int8 or converted to floats,
// must equal the reference exactly.
#include <cmath>

#include "fixed_point.h"
#include "kernels/reference.h"
#include "plans.h"

namespace r2b {
namespace {

std::vector<uint8_t> RandomBytes(size_t count) {
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = uint8_t(rng());
  return bytes;
}

int ZeroPoint() {
  const int points[] = {-128, 127, 0, -17, 5};
  return points[Random(0, 4)];
}

// A scale like a converter's, or a power of two, which makes ties in rounding frequent.
float Scale() { return Random(0, 2) ? 0.001f + float(rng() % 1000) / 20000.0f : std::ldexp(1.0f, -Random(4, 8)); }

int Quantised(Builder* b, DType type, const std::vector<int>& dims, float scale, int zero_point) {
  const int t = b->Tensor(type, dims);
  b->graph.tensors[t].scale = scale;
  b->graph.tensors[t].zero_point = zero_point;
  return t;
}

struct Case {
  int n, h, w, channels, outputs, kernel_h, kernel_w, stride, dilation;
  bool same, per_channel, clamp, from_uint8, to_float;
};

std::string Named(const Case& c) {
  std::string name;
  for (int number : {c.h, c.w, c.channels, c.outputs, c.kernel_h, c.kernel_w, c.stride, c.dilation})
    name += " " + std::to_string(number);
  for (bool flag : {c.same, c.per_channel, c.clamp, c.from_uint8, c.to_float}) name += flag ? " yes" : " no";
  return name;
}

// A graph of one convolution with random operands, and its expected output.
struct Drawn {
  const Case& c;
  const Extent eh, ew;
  Builder b;
  std::vector<uint8_t> x;
  std::vector<int8_t> filter;
  std::vector<int32_t> bias;
  std::vector<float> scales;
  int in = -1, out = -1, result = -1;

  explicit Drawn(const Case& c)
      : c(c),
        eh(WindowExtent(c.h, c.kernel_h, c.stride, c.dilation, c.same)),
        ew(WindowExtent(c.w, c.kernel_w, c.stride, c.dilation, c.same)),
        x(RandomBytes(size_t(c.n) * c.h * c.w * c.channels)),
        filter(size_t(c.outputs) * depth()),
        bias(size_t(c.outputs)),
        scales(c.per_channel ? size_t(c.outputs) : 1) {
    for (int8_t& weight : filter) weight = int8_t(Random(-128, 127));
    for (int32_t& value : bias) value = Random(-3000, 3000);
    for (float& scale : scales) scale = Scale();
    AddOperators();
  }

  int depth() const { return c.kernel_h * c.kernel_w * c.channels; }
  const Tensor& T(int tensor) const { return b.graph.tensors[size_t(tensor)]; }

  void AddOperators() {
    const float scale = Scale();
    const int zero = ZeroPoint();
    const std::vector<int> dims{c.n, c.h, c.w, c.channels};
    in = Quantised(&b, c.from_uint8 ? DType::kUInt8 : DType::kInt8, dims, scale, zero + (c.from_uint8 ? 128 : 0));
    int numbers = in;
    if (c.from_uint8) b.Add(OpKind::kToBytes, {in}, numbers = Quantised(&b, DType::kInt8, dims, scale, zero));
    const int weights = b.Constant(DType::kInt8, {c.outputs, c.kernel_h, c.kernel_w, c.channels}, filter);
    b.graph.tensors[size_t(weights)].scales = scales;
    const float usual = scale * scales[0] * 60 * std::sqrt(float(depth()));
    result = out = Quantised(&b, DType::kInt8, {}, Random(0, 3) ? usual : scale, ZeroPoint());
    Op& op = b.Add(OpKind::kConv, {numbers, weights, b.Constant(DType::kInt32, {c.outputs}, bias)}, out);
    op.kernel_h = c.kernel_h, op.kernel_w = c.kernel_w, op.stride_h = op.stride_w = c.stride;
    op.dilation_h = op.dilation_w = c.dilation, op.same_padding = c.same;
    op.clamp = c.clamp, op.lo = 0, op.hi = 6;
    if (c.to_float) b.Add(OpKind::kFromBytes, {out}, result = b.Tensor(DType::kFloat, {}));
    b.graph.inputs = {in};
    b.graph.outputs = {result};
  }

  std::vector<int8_t> Expected() const {
    const ReferenceConv s{c.n,        c.h,        c.w,       c.channels, c.outputs,  1,
                          c.kernel_h, c.kernel_w, c.stride,  c.stride,   c.dilation, c.dilation,
                          eh.out,     ew.out,     eh.before, ew.before,  false};
    const auto sums = ReferenceQconv(s, x.data(), T(in).zero_point, !c.from_uint8, filter.data(), bias.data());
    const int lo = c.clamp ? NumberOf(0, T(out)) : -128, hi = c.clamp ? NumberOf(6, T(out)) : 127;
    std::vector<int8_t> expected;
    for (size_t i = 0; i < sums.size(); ++i) {
      const float scale = scales[c.per_channel ? i % size_t(c.outputs) : 0];
      const FixedPoint fixed(double(T(in).scale) * scale / T(out).scale);
      const int product = FixedProduct(uint32_t(sums[i]), fixed.multiplier, fixed.left, fixed.right);
      expected.push_back(int8_t(std::min(std::max(product + T(out).zero_point, lo), hi)));
    }
    return expected;
  }
};

void TestConvolution(const Kernels* kernels, const Case& c, int threads) {
  const std::string what = std::string(kernels->name) + " int8" + Named(c) + ", threads " + std::to_string(threads);
  const Drawn drawn(c);
  if (drawn.eh.out < 1 || drawn.ew.out < 1) return;
  Guarded x(drawn.x.size(), Random(0, 15));
  std::memcpy(x.data<void>(), drawn.x.data(), drawn.x.size());
  const std::vector<int8_t> expected = drawn.Expected();
  if (!c.to_float) {
    const auto got = RunPlan<int8_t>(drawn.b, kernels, threads, {{drawn.in, &x}}, expected.size(), what);
    return Check(got == expected, what);
  }
  const Tensor& out = drawn.T(drawn.out);
  std::vector<float> values;
  for (int8_t number : expected) values.push_back(out.scale * float(number - out.zero_point));
  Check(RunPlan<float>(drawn.b, kernels, threads, {{drawn.in, &x}}, values.size(), what) == values, what);
}

// Converts floats to int8, including halves and values far outside the range. The conversion is a separate step or, if
// `stored`, part of the step of the max pool before it.
void TestToBytes(const Kernels* kernels, int channels, int pixels, bool stored) {
  const std::string what =
      std::string(kernels->name) + " to int8, " + std::to_string(channels) + " channels" + (stored ? ", stored" : "");
  const float scale = Scale();
  const int zero_point = ZeroPoint();
  std::vector<float> x(size_t(pixels) * channels);
  for (float& value : x) value = Random(0, 3) ? RandomFloat() * 100 * scale : float(Random(-600, 600)) / 2 * scale;
  x[0] = 1e30f;
  if (x.size() > 1) x[1] = -1e30f;
  Builder b;
  const int in = b.Tensor(DType::kFloat, {1, pixels, 1, channels});
  const int values = stored ? b.Tensor(DType::kFloat, {}) : in;
  if (stored) {
    Op& op = b.Add(OpKind::kMaxPool, {in}, values);
    op.kernel_h = op.kernel_w = op.stride_h = op.stride_w = 1;
  }
  const int out = Quantised(&b, DType::kInt8, {}, scale, zero_point);
  b.Add(OpKind::kToBytes, {values}, out);
  b.graph.inputs = {in};
  b.graph.outputs = {out};
  Guarded gx(x.size() * sizeof(float));
  std::memcpy(gx.data<void>(), x.data(), x.size() * sizeof(float));
  const auto got = RunPlan<int8_t>(b, kernels, Random(1, 3), {{in, &gx}}, x.size(), what);
  bool equal = true;
  for (size_t i = 0; i < x.size(); ++i) equal &= got[i] == NumberOf(x[i], b.graph.tensors[out]);
  Check(equal, what);
}

}  // namespace

void TestBytes(const Kernels* kernels) {
  const int counts[] = {1, 3, 8, 31, 48, 64};
  for (int i = 0; i < 120; ++i) {
    Case c{};
    c.channels = counts[Random(0, 5)], c.outputs = i % 4 ? counts[Random(0, 5)] : Random(1, 100);
    c.kernel_h = Random(1, 4), c.kernel_w = Random(1, 7), c.stride = Random(1, 3), c.dilation = Random(1, 2);
    c.same = Random(0, 1), c.per_channel = Random(0, 2), c.clamp = Random(0, 1);
    c.from_uint8 = Random(0, 1), c.to_float = Random(0, 1);
    c.n = Random(1, 2), c.h = Random(1, 9), c.w = Random(1, 40);
    TestConvolution(kernels, c, Random(1, 4));
  }
  // Kernels whose rows do not fill whole columns, so that the last values of several rows may be joined (ByteColumns).
  // The last kernel is narrower than its stride.
  const int stems[][4] = {{3, 7, 7, 2}, {3, 3, 3, 1}, {1, 4, 5, 4}, {5, 4, 1, 3}};  // channels, height, width, stride
  for (const auto& [channels, kernel_h, kernel_w, stride] : stems)
    for (int outputs : {8, 31, 48, 64}) {
      const bool same = Random(0, 1), from_uint8 = Random(0, 1), to_float = Random(0, 1);
      const Case c{1, 9, 40, channels, outputs, kernel_h, kernel_w, stride, 1, same, true, true, from_uint8, to_float};
      TestConvolution(kernels, c, Random(1, 4));
    }
  for (bool stored : {false, true})
    for (int channels : {1, 3, 8, 31, 32, 33, 64}) TestToBytes(kernels, channels, Random(1, 40), stored);
}

}  // namespace r2b
