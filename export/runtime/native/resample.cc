#include "resample.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "boundary.h"
#include "export.h"

namespace r2b {
namespace {

// How the results along one axis are interpolated. `samples`: the input positions from which each result is
// interpolated, [sample][result]. `weights`: the weights of the samples, laid out like Resample::row_weights.
struct Axis {
  std::vector<int> samples;
  std::vector<float> weights;
};

// The centre of result i lies at (i + 1/2) * size / out - 1/2 in the input.
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

// near[i] and far[i] are the values of the cubic convolution kernel with a = -0.75 at the distances i/1024 and
// 1 + i/1024, computed in double and rounded to float.
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

// Result i lies at s + r in the input: s is the whole part of i * size / out, and r its fraction, rounded to 1/1024.
// The result is interpolated from the pixels s-1, s, s+1 and s+2; those outside the image are replaced by the nearest
// pixel inside.
Axis Cubic(int size, int out) {
  static const CubicTable table;
  Axis axis{std::vector<int>(4 * out), std::vector<float>(4 * out)};
  const float scale = float(size) / float(out);
  for (int i = 0; i < out; ++i) {
    const float position = float(i) * scale, below = std::floor(position);
    const int step = int(std::lrint((position - below) * float(kTableSize)));
    const float weights[4] = {table.far[step], table.near[step], table.near[kTableSize - step],
                              table.far[kTableSize - step]};
    for (int k = 0; k < 4; ++k) {
      axis.samples[k * out + i] = std::clamp(int(below) + k - 1, 0, size - 1);
      axis.weights[k * out + i] = weights[k];
    }
  }
  return axis;
}

// Computes and owns Resample::picked, lanes and lane_weights, from the columns. `vector` is Kernels::picks.
class Picks {
 public:
  void Fill(int vector, Resample* r) {
    r->picked = nullptr;
    if (!vector) return;
    const int samples = r->cubic ? 4 : 2, weights = r->cubic ? 4 : 1, values = r->width * r->channels,
              vectors = (values + vector - 1) / vector;
    first_.assign(samples * vectors, 0);
    lanes_.assign(samples * vectors * vector, 0);
    weights_.assign(weights * vectors * vector, 0);
    for (int k = 0; k < samples; ++k) {
      const int* columns = r->columns + k * r->width;
      for (int v = 0; v < vectors; ++v) {
        const int begin = v * vector, end = std::min(begin + vector, values);
        // Columns ascend, or descend if the image is mirrored. So the smallest one of a vector is its first or last.
        const int first = std::min(columns[begin / r->channels], columns[(end - 1) / r->channels]);
        first_[k * vectors + v] = first;
        for (int i = begin, x = begin / r->channels, c = begin % r->channels; i < end; ++i) {
          const int at = (k * vectors + v) * vector + i - begin, lane = columns[x] + c - first;
          if (lane >= 2 * vector) return;
          lanes_[at] = lane;
          if (k < weights) weights_[at] = r->column_weights[k * r->width + x];
          if (++c == r->channels) c = 0, ++x;
        }
      }
    }
    r->picked = first_.data();
    r->lanes = lanes_.data();
    r->lane_weights = weights_.data();
  }

 private:
  std::vector<int> first_, lanes_;
  std::vector<float> weights_;
};

std::vector<float> Repeated(const float* values, int channels, int pixels) {
  std::vector<float> repeated(size_t(channels) * pixels);
  for (size_t i = 0; i < repeated.size(); ++i) repeated[i] = values[i % channels];
  return repeated;
}

}  // namespace

void Resize(const Kernels* kernels, const Resizing& s, const ResizedImage* images, int count, float* out) {
  const auto check = [](int64_t height, int64_t width) {
    if (std::min(height, width) < 1 || std::max(height, width) > kMostPixels)
      throw std::invalid_argument("heights and widths must be 1 to " + std::to_string(kMostPixels) + "; received " +
                                  std::to_string(height) + "x" + std::to_string(width));
  };
  check(s.height, s.width);
  for (int i = 0; i < count; ++i) check(images[i].height, images[i].width);
  std::vector<float> mean, std, scratch;
  Picks picks;
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
    picks.Fill(kernels->picks, &job);
    scratch.resize(ResampleScratch(job));
    job.scratch = scratch.data();
    job.out = out + size_t(i) * s.height * s.width * s.channels;
    kernels->resample(job);
  }
}

}  // namespace r2b

// `kernels`: the name of kernels, or "auto" for the best ones. Returns null on success, else an error message, which
// stays valid until the same thread calls this function again.
R2B_EXPORT const char* r2b_runtime_resize(const char* kernels, const r2b::Resizing* resizing,
                                          const r2b::ResizedImage* images, int count, float* out) {
  thread_local std::string error;
  const r2b::Kernels* selected = r2b::SelectKernels(kernels);
  if (!selected) return "kernels of this name do not run here";
  if (r2b::Contained(&error, [&] { r2b::Resize(selected, *resizing, images, count, out); })) return nullptr;
  return error.empty() ? "out of memory" : error.c_str();
}
