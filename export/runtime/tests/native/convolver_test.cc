// Compares the binary convolution that training uses with the scalar specification.
#include <algorithm>

#include "checks.h"
#include "convolution.h"
#include "graph.h"
#include "kernels/reference.h"

namespace r2b {
namespace {

// Packs the signs of `count` floats, which are `stride` floats apart, as ReferenceBconv reads them. Appends them to
// `bits`.
void AppendBits(const float* values, int count, int stride, std::vector<uint32_t>* bits) {
  for (int i = 0; i < count; ++i) {
    if (i % 32 == 0) bits->push_back(0);
    bits->back() |= uint32_t(values[i * stride] < 0) << i % 32;
  }
}

// Tests one convolution of random floats, among them zeros of either sign.
void TestConvolver(Convolver* convolver, const char* kernels, const ConvolutionShape& s) {
  const Extent eh = WindowExtent(s.height, s.kernel_h, s.stride_h, 1, s.same_padding),
               ew = WindowExtent(s.width, s.kernel_w, s.stride_w, 1, s.same_padding);
  if (eh.out < 1 || ew.out < 1) return;
  const std::string what = std::string(kernels) + " convolver " + std::to_string(s.height) + "x" +
                           std::to_string(s.width) + "x" + std::to_string(s.channels) + " -> " +
                           std::to_string(s.outputs);
  const int pixels = s.images * s.height * s.width, taps = s.kernel_h * s.kernel_w;
  Guarded images(size_t(pixels) * s.channels * sizeof(float)),
      kernel(size_t(taps) * s.channels * s.outputs * sizeof(float));
  Guarded output(size_t(s.images) * eh.out * ew.out * s.outputs * sizeof(float));
  for (Guarded* floats : {&images, &kernel})
    for (size_t i = 0; i < floats->size() / sizeof(float); ++i)
      floats->data<float>()[i] = i % 5 ? RandomFloat() : i % 2 ? 0.0f : -0.0f;
  std::string error;
  Check(convolver->Run(s, images.data<float>(), kernel.data<float>(), output.data<float>(), &error),
        what + ": " + error);
  Check(output.intact() && images.intact() && kernel.intact(), what + ": wrote outside the output");
  std::vector<uint32_t> input, filter;
  for (int i = 0; i < pixels; ++i) AppendBits(images.data<float>() + i * s.channels, s.channels, 1, &input);
  for (int o = 0; o < s.outputs; ++o)
    for (int t = 0; t < taps; ++t)
      AppendBits(kernel.data<float>() + t * s.channels * s.outputs + o, s.channels, s.outputs, &filter);
  const ReferenceConv reference{s.images,   s.height,   s.width,    s.channels, s.outputs, 1,
                                s.kernel_h, s.kernel_w, s.stride_h, s.stride_w, 1,         1,
                                eh.out,     ew.out,     eh.before,  ew.before,  false};
  const auto expected = ReferenceBconv(reference, input.data(), filter.data());
  Check(std::equal(expected.begin(), expected.end(), output.data<float>()), what + ": values");
}

}  // namespace

void TestConvolvers(const Kernels* k) {
  for (int threads : {1, 2, 3}) {
    Convolver convolver(k, threads);  // one for all shapes, since no call may affect the next
    for (int i = 0; i < 25; ++i)
      TestConvolver(&convolver, k->name,
                    {Random(1, 3), Random(1, 9), Random(1, 17), Random(1, 100), Random(1, 4), Random(1, 4),
                     Random(1, 70), Random(1, 3), Random(1, 3), Random(0, 1)});
  }
}

}  // namespace r2b
