// Compares resized images bit for bit with a reference. For random sample positions, the reference is the scalar
// function of kernels/reference.h. For those of a real resizing, it is the portable kernels.
#include "resample.h"

#include <cstring>
#include <memory>

#include "checks.h"
#include "kernels/reference.h"

namespace r2b {
namespace {

void Fill(Guarded* memory, bool bytes) {
  const size_t count = memory->size() / (bytes ? 1 : sizeof(float));
  for (size_t i = 0; i < count; ++i)
    if (bytes) memory->data<uint8_t>()[i] = uint8_t(Random(0, 255));
    else memory->data<float>()[i] = RandomFloat();
}

std::vector<int> Samples(int count, int below, int step) {
  std::vector<int> samples;
  for (int i = 0; i < count; ++i) samples.push_back(Random(0, below - 1) * step);
  return samples;
}

bool AsSpecified(const Resample& r, const float* out) {
  bool equal = true;
  for (int y = 0; y < r.height; ++y)
    for (int x = 0; x < r.width; ++x)
      for (int c = 0; c < r.channels; ++c, ++out) {
        const float expected = ReferenceResample(r, y, x, c);
        equal &= !std::memcmp(&expected, out, sizeof(float));
      }
  return equal;
}

// Sample positions and weights are random. Unlike in a real resizing, samples need not be ordered or near each other.
void TestResample(const Kernels* k, int height, int width, int channels, int out_height, int out_width, bool cubic,
                  bool bytes, bool normalised) {
  const std::string what = std::string(k->name) + (cubic ? " cubic " : " linear ") + (bytes ? "bytes " : "floats ") +
                           std::to_string(height) + "x" + std::to_string(width) + "x" + std::to_string(channels) +
                           " -> " + std::to_string(out_height) + "x" + std::to_string(out_width);
  const int samples = cubic ? 4 : 2, weights = cubic ? 4 : 1, stride = width * channels + Random(0, 5),
            size = bytes ? 1 : int(sizeof(float));
  Guarded image(size_t(size) * ((height - 1) * stride + width * channels)),
      out(sizeof(float) * out_height * out_width * channels, Random(0, 1) ? 0 : 4 * Random(0, 15));
  const std::vector<int> rows = Samples(samples * out_height, height, 1),
                         columns = Samples(samples * out_width, width, channels);
  Fill(&image, bytes);
  const auto row_weights = Floats(weights * out_height), column_weights = Floats(weights * out_width);
  const auto mean = Floats(channels * out_width), std = Floats(channels * out_width);
  Resample r{image.data<void>(),
             bytes,
             width * channels,
             stride,
             channels,
             out_height,
             out_width,
             cubic,
             rows.data(),
             row_weights.data(),
             columns.data(),
             column_weights.data(),
             nullptr,
             nullptr,
             nullptr,
             normalised ? mean.data() : nullptr,
             normalised ? std.data() : nullptr,
             nullptr,
             out.data<float>(),
             Random(0, 1) == 1};
  Guarded scratch(ResampleScratch(r) * sizeof(float));
  r.scratch = scratch.data<float>();
  k->resample(r);
  Check(out.intact() && image.intact() && scratch.intact(), what + ": wrote outside its buffers");
  Check(AsSpecified(r, out.data<float>()), what + ": values");
}

// Sample positions are those of bilinear or bicubic resizing: near each other, and ascending or, if the image is
// mirrored, descending. Some kernels have faster code for such positions.
void TestResize(const Kernels* k, int channels, bool bilinear, bool bytes) {
  const int height = Random(1, 80), width = Random(1, 80), count = Random(1, 3), size = bytes ? 1 : int(sizeof(float));
  const int image_height = Random(1, 3 * height), image_width = Random(1, 3 * width),
            stride = image_width * channels + Random(0, 5);
  const std::vector<float> mean = Floats(channels), std = Floats(channels);
  const Resizing resizing{channels, bytes, height, width, bilinear, Random(0, 1), mean.data(), std.data()};
  std::vector<std::unique_ptr<Guarded>> memory;
  std::vector<ResizedImage> images;
  for (int i = 0; i < count; ++i) {
    memory.push_back(std::make_unique<Guarded>(size_t(size) * ((image_height - 1) * stride + image_width * channels)));
    Fill(memory.back().get(), bytes);
    images.push_back({int64_t(reinterpret_cast<uintptr_t>(memory.back()->data<void>())), stride, image_height,
                      image_width, Random(0, 1)});
  }
  Guarded expected(sizeof(float) * count * height * width * channels), found(expected.size(), Random(0, 1) ? 0 : 4);
  Resize(PortableKernels(), resizing, images.data(), count, expected.data<float>());
  Resize(k, resizing, images.data(), count, found.data<float>());
  bool intact = found.intact();
  for (const auto& image : memory) intact &= image->intact();
  const std::string what = std::string(k->name) + (bilinear ? " bilinear " : " bicubic ") +
                           std::to_string(image_width) + " -> " + std::to_string(width);
  Check(intact, what + ": wrote outside its buffers");
  Check(!std::memcmp(expected.data<void>(), found.data<void>(), expected.size()), what + ": values");
}

}  // namespace

void TestResampling(const Kernels* k) {
  for (int i = 0; i < 200; ++i)
    TestResample(k, Random(1, 9), Random(1, 40), Random(0, 1) ? 3 : 1, Random(1, 9), Random(1, 40), Random(0, 1),
                 Random(0, 1), Random(0, 1));
  for (int i = 0; i < 100; ++i) TestResize(k, Random(0, 1) ? 3 : 1, Random(0, 1), Random(0, 1));
}

}  // namespace r2b
