// Tests plans with float convolutions and dense layers. Where a test adds in the specified order, results must be
// exactly equal. Elsewhere errors may be up to 1e-5 times the number of products (convolutions), or 1e-5 times the sum
// of the products' absolute values (dense layers).
#include <cmath>

#include "plans.h"

namespace r2b {
namespace {

// Whether float sums use fused multiply-adds. The portable kernels and ARMv7's round product and sum separately.
bool FusesProducts(const Kernels* kernels) {
#if defined(__x86_64__) || defined(__aarch64__)
  return std::string(kernels->name) != "portable";
#else
  (void)kernels;
  return false;
#endif
}

// Images of floats, [image][row][column][channel].
struct Images {
  int n, h, w, channels;
  std::vector<float> values;
  size_t Index(int i, int y, int x, int c) const { return ((size_t(i) * h + y) * w + x) * channels + c; }
  bool Has(int y, int x) const { return y >= 0 && y < h && x >= 0 && x < w; }
};

struct Window {
  int kernel, stride;
  bool same;
  Extent Along(int size) const { return WindowExtent(size, kernel, stride, 1, same); }
};

// Calls visit(image, row, column, channel) for each value, in the order in which they lie in memory.
template <class Visit>
void ForAll(const Images& out, Visit visit) {
  for (int i = 0; i < out.n; ++i)
    for (int y = 0; y < out.h; ++y)
      for (int x = 0; x < out.w; ++x)
        for (int c = 0; c < out.channels; ++c) visit(i, y, x, c);
}

// Calls visit(row, column, tap) for each pixel inside the image that the window of output pixel (y, x) reads.
template <class Visit>
void ForTaps(const Images& in, const Window& window, int y, int x, Visit visit) {
  const int top = y * window.stride - window.Along(in.h).before, left = x * window.stride - window.Along(in.w).before;
  for (int tap = 0; tap < window.kernel * window.kernel; ++tap) {
    const int iy = top + tap / window.kernel, ix = left + tap % window.kernel;
    if (in.Has(iy, ix)) visit(iy, ix, tap);
  }
}

// A convolution whose results are clamped to -6 to 6, followed by a PReLU.
Images ReferenceConvolution(const Images& x, const Window& window, const std::vector<float>& f,
                            const std::vector<float>& bias, const std::vector<float>& slopes) {
  Images y{x.n, window.Along(x.h).out, window.Along(x.w).out, int(bias.size()), {}};
  ForAll(y, [&](int i, int oy, int ox, int o) {
    double sum = bias[o];
    ForTaps(x, window, oy, ox, [&](int iy, int ix, int tap) {
      for (int c = 0; c < x.channels; ++c)
        sum += double(x.values[x.Index(i, iy, ix, c)]) *
               f[(size_t(o) * window.kernel * window.kernel + tap) * x.channels + c];
    });
    y.values.push_back(float(std::fmin(std::fmax(sum, -6), 6) * (sum < 0 ? slopes[o] : 1)));
  });
  return y;
}

Images ReferenceMaxima(const Images& x, const Window& window) {
  Images y{x.n, window.Along(x.h).out, window.Along(x.w).out, x.channels, {}};
  ForAll(y, [&](int i, int oy, int ox, int c) {
    float most = -INFINITY;
    ForTaps(x, window, oy, ox, [&](int iy, int ix, int) { most = std::fmax(most, x.values[x.Index(i, iy, ix, c)]); });
    y.values.push_back(most);
  });
  return y;
}

std::string Named(const Window& window) {
  return std::to_string(window.kernel) + " stride " + std::to_string(window.stride) +
         (window.same ? " same" : " valid");
}

// Tests a convolution, a PReLU whose slopes are at least `least`, and a max pool, whose step may absorb the other two.
void TestFloatConv(const Kernels* kernels, Images x, int outputs, const Window& convolution, const Window& window,
                   float least, int threads) {
  const Extent eh = convolution.Along(x.h), ew = convolution.Along(x.w);
  if (eh.out < 1 || ew.out < 1) return;
  const int kernel = convolution.kernel;
  const std::string what = std::string(kernels->name) + " conv " + std::to_string(x.h) + "x" + std::to_string(x.w) +
                           "x" + std::to_string(x.channels) + " -> " + std::to_string(outputs) + " kernel " +
                           Named(convolution) + ", window " + Named(window) + ", slopes from " + std::to_string(least);
  x.values = Floats(size_t(x.n) * x.h * x.w * x.channels);
  const auto f = Floats(size_t(outputs) * kernel * kernel * x.channels), bias = Floats(outputs);
  auto slopes = Floats(outputs);
  for (float& slope : slopes) slope = least + std::fabs(slope);
  if (window.Along(eh.out).out < 1 || window.Along(ew.out).out < 1) return;
  Builder b;
  const int in = b.Tensor(DType::kFloat, {x.n, x.h, x.w, x.channels}), out = b.Tensor(DType::kFloat, {}),
            sloped = b.Tensor(DType::kFloat, {}), pooled = b.Tensor(DType::kFloat, {});
  Op& op = b.Add(OpKind::kConv,
                 {in, b.Constant(DType::kFloat, {outputs, kernel, kernel, x.channels}, f),
                  b.Constant(DType::kFloat, {outputs}, bias)},
                 out);
  op.kernel_h = op.kernel_w = kernel, op.stride_h = op.stride_w = convolution.stride,
  op.same_padding = convolution.same, op.clamp = true, op.lo = -6, op.hi = 6;
  b.Add(OpKind::kPrelu, {out, b.Constant(DType::kFloat, {1, 1, outputs}, slopes)}, sloped);
  Op& pool = b.Add(OpKind::kMaxPool, {sloped}, pooled);
  pool.kernel_h = pool.kernel_w = window.kernel, pool.stride_h = pool.stride_w = window.stride,
  pool.same_padding = window.same;
  b.graph.inputs = {in};
  b.graph.outputs = {pooled};
  Guarded gx(x.values.size() * 4);
  std::memcpy(gx.data<void>(), x.values.data(), x.values.size() * 4);
  const Images expected = ReferenceMaxima(ReferenceConvolution(x, convolution, f, bias, slopes), window);
  const auto got = RunPlan<float>(b, kernels, threads, {{in, &gx}}, expected.values.size(), what);
  bool equal = true;
  for (size_t i = 0; i < got.size(); ++i)
    equal &= std::fabs(got[i] - expected.values[i]) <= 1e-5f * float(kernel * kernel * x.channels);
  Check(equal, what);
}

// Tests a dense layer, whose order of additions is specified. For one vector: four partial sums, added in pairs, then
// the one to three products left over, then the bias. For several vectors: fused multiply-adds in the order of the
// inputs, starting from the bias; kernels without fused multiply-adds must give nearly the same.
void TestDense(const Kernels* kernels, int batch, int inputs, int outputs, int threads) {
  const std::string what = std::string(kernels->name) + " dense " + std::to_string(batch) + "x" +
                           std::to_string(inputs) + " -> " + std::to_string(outputs) + ", threads " +
                           std::to_string(threads);
  const auto x = Floats(size_t(batch) * inputs), w = Floats(size_t(outputs) * inputs), bias = Floats(outputs);
  Builder b;
  const int in = b.Tensor(DType::kFloat, {batch, inputs}), out = b.Tensor(DType::kFloat, {});
  b.Add(OpKind::kDense,
        {in, b.Constant(DType::kFloat, {outputs, inputs}, w), b.Constant(DType::kFloat, {outputs}, bias)}, out);
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

// Converters store equal constants once: tensors of different shapes then share memory, but need different packings.
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

}  // namespace

void TestFloatPlans(const Kernels* k) {
  // Numbers of inputs around multiples of 4, of outputs around multiples of 8; then layers large enough to be shared
  // among threads.
  for (int inputs : {1, 3, 4, 5, 64, 67})
    for (int outputs : {1, 7, 8, 9, 31, 33, 100}) TestDense(k, Random(1, 3), inputs, outputs, 1);
  for (int threads : {1, 2, 3})
    for (int batch : {1, 4}) TestDense(k, batch, 515, 203, threads);
  TestSharedConstant(k);
  // Kernels reduce max-pooling windows of size 3 and stride 2 in registers, so most windows here are of that kind. They
  // lie in many positions relative to tiles and image edges.
  for (int i = 0; i < 80; ++i)
    TestFloatConv(k, {Random(1, 2), Random(1, 12), Random(1, 70), Random(1, 9), {}}, Random(0, 1) ? Random(1, 70) : 64,
                  {Random(1, 7), Random(1, 2), Random(0, 1) == 1},
                  {i % 4 ? 3 : Random(1, 4), i % 4 ? 2 : Random(1, 3), Random(0, 1) == 1}, i % 3 ? 0.0f : -0.5f,
                  Random(1, 3));
}

}  // namespace r2b
