// Photographs at a network's size: what TensorFlow's ResizeBicubic and ResizeBilinear make of images, to the bit,
// normalised.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace r2b {

constexpr int kMostPixels = 1 << 24;  // along an axis: positions of samples are ints

// These two as r2b_runtime/resampling.py has them.
struct Resizing {
  int channels;       // of the images; 1 or 3, side by side
  int bytes;          // 1: images of uint8; 0: of float
  int height, width;  // of the results
  int bilinear;       // 1: linear between pixels' centres; 0: cubic, corner-aligned samples, a = -0.75 (TensorFlow 1)
  int streamed;       // 1: the results are written past the caches
  const float* mean;  // a number per channel: the result is (value - mean) / std; or null: the value
  const float* std;
};

struct ResizedImage {
  int64_t address, stride;  // the latter in values, from one row to the next
  int64_t height, width;
  int64_t mirrored;  // 1: left and right are exchanged first
};

// Writes [count][height][width][channels].
void Resize(const Kernels* kernels, const Resizing& resizing, const ResizedImage* images, int count, float* out);

}  // namespace r2b
