#include "resample.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "export.h"

namespace r2b {
namespace {

// Where along one axis the results lie: [sample][result], as Resample has them.
struct Axis {
  std::vector<int> samples;
  std::vector<float> weights;
};

// The centre of result i is that of the input at (i + 1/2) * size / out - 1/2.
Axis Linear(int size, int out) {
  Axis axis{std::vector<int>(2 * out), std::vector<float>(out)};
  const float scale = float(size) / float(out);
  for (int i = 0; i < out; ++i) {
    const float position = (float(i) + 0.5f) * scale - 0.5f, below = std::floor(position);
    axis.samples[i] = std::max(int(below), 0);
    axis.samples[out + i] = std::min(int(std::ceil(position)), size - 1);
    axis.weights[i] = position - below;
  }
  return axis;
}

constexpr int kTableSize = 1024;  // TensorFlow rounds a sample's position between two pixels to 1/1024

// The cubic convolution kernel with a = -0.75 at distances i/1024 and 1 + i/1024; computed in double, kept in float.
struct CubicTable {
  float near[kTableSize + 1], far[kTableSize + 1];
  CubicTable() {
    constexpr double a = -0.75;
    for (int i = 0; i <= kTableSize; ++i) {
      double x = double(i) / kTableSize;
      near[i] = float(((a + 2) * x - (a + 3)) * x * x + 1);
      x += 1;
      far[i] = float(((a * x - 5 * a) * x + 8 * a) * x - 4 * a);
    }
  }
};

// Result i samples the input at i * size / out, floored to s and a remainder that is rounded to 1/1024. It is made of s-1, s,
// s+1 and s+2, each replaced by the nearest one where it lies outside.
Axis Cubic(int size, int out) {
  static const CubicTable table;
  Axis axis{std::vector<int>(4 * out), std::vector<float>(4 * out)};
  const float scale = float(size) / float(out);
  for (int i = 0; i < out; ++i) {
    const float position = float(i) * scale, below = std::floor(position);
    const int step = int(std::lrint((position - below) * float(kTableSize)));
    const float weights[4] = {table.far[step], table.near[step], table.near[kTableSize - step], table.far[kTableSize - step]};
    for (int k = 0; k < 4; ++k) {
      axis.samples[k * out + i] = std::clamp(int(below) + k - 1, 0, size - 1);
      axis.weights[k * out + i] = weights[k];
    }
  }
  return axis;
}

std::vector<float> Repeated(const float* values, int channels, int pixels) {
  std::vector<float> repeated(size_t(channels) * pixels);
  for (size_t i = 0; i < repeated.size(); ++i) repeated[i] = values[i % channels];
  return repeated;
}

}  // namespace

void Resize(const Kernels* kernels, const Resizing& s, const ResizedImage* images, int count, float* out) {
  std::vector<float> mean, std, scratch;
  if (s.mean) {
    mean = Repeated(s.mean, s.channels, s.width);
    std = Repeated(s.std, s.channels, s.width);
  }
  Resample job;
  job.bytes = s.bytes;
  job.channels = s.channels;
  job.height = s.height;
  job.width = s.width;
  job.cubic = !s.bilinear;
  job.mean = s.mean ? mean.data() : nullptr;
  job.std = s.mean ? std.data() : nullptr;
  job.streamed = s.streamed;
  const auto axis = s.bilinear ? Linear : Cubic;
  for (int i = 0; i < count; ++i) {
    const ResizedImage& image = images[i];
    const int width = int(image.width);
    const Axis rows = axis(int(image.height), s.height);
    Axis columns = axis(width, s.width);
    for (int& sample : columns.samples) sample = (image.mirrored ? width - 1 - sample : sample) * s.channels;
    job.image = reinterpret_cast<const void*>(uintptr_t(image.address));
    job.row = width * s.channels;
    job.stride = ptrdiff_t(image.stride);
    job.rows = rows.samples.data();
    job.row_weights = rows.weights.data();
    job.columns = columns.samples.data();
    job.column_weights = columns.weights.data();
    scratch.resize(ResampleScratch(job));
    job.scratch = scratch.data();
    job.out = out + size_t(i) * s.height * s.width * s.channels;
    kernels->resample(job);
  }
}

}  // namespace r2b

// Kernels of that name have to run here ("auto": the best).
R2B_EXPORT void r2b_runtime_resize(const char* kernels, const r2b::Resizing* resizing, const r2b::ResizedImage* images, int count, float* out) {
  r2b::Resize(r2b::SelectKernels(kernels), *resizing, images, count, out);
}
