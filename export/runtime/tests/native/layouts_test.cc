// Tests depthwise and transposed convolutions, resized maps, and operators that only move values.
#include <cmath>

#include "kernels/reference.h"
#include "plans.h"

namespace r2b {
namespace {

std::string Named(const Kernels* kernels, const std::string& what) { return std::string(kernels->name) + " " + what; }

// The row that the depthwise kernel stores must equal that of ReferenceDepthwise() exactly.
void TestDepthwiseRow(const Kernels* kernels, int width, int channels, int taps) {
  const int blocks = (channels + kBlock - 1) / kBlock;
  const auto values = Floats(size_t(width + taps) * channels), bias = Floats(size_t(blocks) * kBlock),
             weights = Floats(size_t(blocks) * taps * kBlock);
  Guarded in(values.size() * 4), out(size_t(width) * channels * 4);
  std::memcpy(in.data<void>(), values.data(), values.size() * 4);
  std::vector<ptrdiff_t> offsets;
  const ptrdiff_t pixel = channels * ptrdiff_t(sizeof(float));
  for (int t = 0; t < taps; ++t) offsets.push_back(t * pixel);
  const DepthwiseRow row{in.data<uint8_t>(), pixel, 0, offsets.data(), taps, taps % 3 == 0, weights.data(),
                         bias.data(),        width, 0, channels};
  Stage store;
  store.kind = Stage::kStoreFloat;
  store.in = store.out = out.data<uint8_t>();
  store.pixel = pixel;
  kernels->depthwise(row, {&store, 1});
  bool equal = out.intact() && in.intact();
  for (int x = 0; x < width; ++x)
    for (int c = 0; c < channels; ++c) equal &= out.data<float>()[x * channels + c] == ReferenceDepthwise(row, x, c);
  Check(equal, Named(kernels, "depthwise row of " + std::to_string(width) + "x" + std::to_string(channels) + ", " +
                                  std::to_string(taps) + " taps"));
}

void TestBilinearRow(const Kernels* kernels, int in_width, int width, int channels) {
  const auto upper = Floats(size_t(in_width) * channels), lower = Floats(size_t(in_width) * channels);
  std::vector<int> left, right;
  std::vector<float> across;
  for (int x = 0; x < width; ++x) {
    left.push_back(Random(0, in_width - 1));
    right.push_back(std::min(left.back() + 1, in_width - 1));
    across.push_back(float(Random(-2, 8)) / 8);
  }
  Guarded out(size_t(width) * channels * 4);
  const ptrdiff_t pixel = channels * ptrdiff_t(sizeof(float));
  const BilinearRow row{reinterpret_cast<const uint8_t*>(upper.data()),
                        reinterpret_cast<const uint8_t*>(lower.data()),
                        left.data(),
                        right.data(),
                        across.data(),
                        0.375f,
                        pixel,
                        pixel,
                        width,
                        channels,
                        out.data<uint8_t>()};
  kernels->bilinear(row);
  bool equal = out.intact();
  for (int x = 0; x < width; ++x)
    for (int c = 0; c < channels; ++c) equal &= out.data<float>()[x * channels + c] == ReferenceBilinear(row, x, c);
  Check(equal, Named(kernels, "bilinear row of " + std::to_string(width) + "x" + std::to_string(channels)));
}

// Compares with scalar code, in which each input pixel adds its products to a window of outputs.
void TestTransposeConv(const Kernels* kernels, int h, int w, int inputs, int outputs, int kernel, int stride, bool same,
                       int threads) {
  const int oh = same ? h * stride : (h - 1) * stride + std::max(kernel, stride),
            ow = same ? w * stride : (w - 1) * stride + std::max(kernel, stride);
  const auto x = Floats(size_t(h) * w * inputs), f = Floats(size_t(outputs) * kernel * kernel * inputs),
             bias = Floats(outputs);
  Builder b;
  const int in = b.Tensor(DType::kFloat, {1, h, w, inputs}), out = b.Tensor(DType::kFloat, {});
  Op& op = b.Add(
      OpKind::kTransposeConv,
      {in, b.Constant(DType::kFloat, {outputs, kernel, kernel, inputs}, f), b.Constant(DType::kFloat, {outputs}, bias)},
      out);
  op.kernel_h = op.kernel_w = kernel, op.stride_h = op.stride_w = stride, op.same_padding = same;
  op.numbers = {1, oh, ow, outputs};
  b.graph.inputs = {in};
  b.graph.outputs = {out};
  Guarded gx(x.size() * 4);
  std::memcpy(gx.data<void>(), x.data(), x.size() * 4);
  const std::string what =
      Named(kernels, "transposed conv " + std::to_string(h) + "x" + std::to_string(w) + "x" + std::to_string(inputs) +
                         " -> " + std::to_string(outputs) + " kernel " + std::to_string(kernel) + " stride " +
                         std::to_string(stride) + (same ? " same" : " valid"));
  const auto y = RunPlan<float>(b, kernels, threads, {{in, &gx}}, size_t(oh) * ow * outputs, what);
  std::vector<double> expected;
  for (int i = 0; i < oh * ow; ++i) expected.insert(expected.end(), bias.begin(), bias.end());
  const int top = WindowExtent(oh, kernel, stride, 1, same).before,
            left = WindowExtent(ow, kernel, stride, 1, same).before;
  for (int iy = 0; iy < h; ++iy)
    for (int ix = 0; ix < w; ++ix)
      for (int tap = 0; tap < kernel * kernel; ++tap) {
        const int oy = iy * stride - top + tap / kernel, ox = ix * stride - left + tap % kernel;
        if (oy < 0 || oy >= oh || ox < 0 || ox >= ow) continue;
        for (int o = 0; o < outputs; ++o)
          for (int i = 0; i < inputs; ++i)
            expected[(size_t(oy) * ow + ox) * outputs + o] +=
                double(x[(size_t(iy) * w + ix) * inputs + i]) * f[(size_t(o) * kernel * kernel + tap) * inputs + i];
      }
  bool equal = true;
  for (size_t i = 0; i < y.size(); ++i) equal &= std::fabs(y[i] - expected[i]) <= 1e-5 * kernel * kernel * inputs;
  Check(equal, what);
}

// Tests a split and a concatenation that swap the two halves of the channels, and a pad with a constant.
void TestMoves(const Kernels* kernels, int h, int w, int half, int threads) {
  const auto x = Floats(size_t(h) * w * 2 * half);
  Builder b;
  const int in = b.Tensor(DType::kFloat, {1, h, w, 2 * half}), first = b.Tensor(DType::kFloat, {}),
            second = b.Tensor(DType::kFloat, {}), joined = b.Tensor(DType::kFloat, {}),
            out = b.Tensor(DType::kFloat, {});
  for (int part : {0, 1}) {
    Op& split = b.Add(OpKind::kSplit, {in}, part ? second : first);
    split.axis = 3, split.part = part, split.parts = 2;
  }
  b.Add(OpKind::kConcat, {second, first}, joined).axis = 3;
  Op& pad = b.Add(OpKind::kPad, {joined}, out);
  pad.numbers = {0, 0, 1, 2, 0, 1, 3, 0};
  pad.fill = 0.5f;
  b.graph.inputs = {in};
  b.graph.outputs = {out};
  Guarded gx(x.size() * 4);
  std::memcpy(gx.data<void>(), x.data(), x.size() * 4);
  const int oh = h + 3, ow = w + 1, oc = 2 * half + 3;
  const std::string what = Named(kernels, "moves of " + std::to_string(h) + "x" + std::to_string(w) + "x" +
                                              std::to_string(2 * half) + ", threads " + std::to_string(threads));
  const auto y = RunPlan<float>(b, kernels, threads, {{in, &gx}}, size_t(oh) * ow * oc, what);
  bool equal = true;
  for (int row = 0; row < oh; ++row)
    for (int column = 0; column < ow; ++column)
      for (int c = 0; c < oc; ++c) {
        const bool inside = row >= 1 && row < 1 + h && column < w && c >= 3;
        const float expected =
            inside ? x[(size_t(row - 1) * w + column) * 2 * half + size_t((c - 3 + half) % (2 * half))] : 0.5f;
        equal &= y[(size_t(row) * ow + column) * oc + c] == expected;
      }
  Check(equal, what);
}

}  // namespace

void TestLayouts(const Kernels* k) {
  for (int channels : {1, 3, 8, 31, 32, 33, 48, 64, 100}) {
    for (int taps : {1, 3, 9}) TestDepthwiseRow(k, Random(1, 20), channels, taps);
    TestBilinearRow(k, Random(1, 9), Random(1, 20), channels);
  }
  for (int i = 0; i < 30; ++i)
    TestTransposeConv(k, Random(1, 6), Random(1, 9), Random(1, 20), Random(1, 40), Random(1, 5), Random(1, 4),
                      Random(0, 1) == 1, Random(1, 3));
  for (int threads : {1, 2, 3}) TestMoves(k, Random(1, 5), Random(1, 9), Random(1, 40), threads);
}

}  // namespace r2b
