// Resizes images to a network's input size, bit for bit as TensorFlow's ResizeBicubic and ResizeBilinear do, and
// normalises them.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace r2b {

constexpr int kMostPixels = 1 << 24;  // the largest height and width; the positions of samples then fit an int

// r2b_runtime/resampling.py mirrors the next two structs, so the fields' types and order must agree.
struct Resizing {
  int channels;       // of the images: 1 or 3, interleaved
  int bytes;          // 1: images of uint8; 0: of float
  int height, width;  // of the results
  int bilinear;       // 1: bilinear between pixel centres; 0: bicubic, a = -0.75, result i lies at i * size / out
  int streamed;       // 1: the results bypass the caches when they are written
  const float* mean;  // per channel: the result is (value - mean) / std; null: no normalisation
  const float* std;
};

struct ResizedImage {
  int64_t address, stride;  // the stride is in values, from one row to the next
  int64_t height, width;
  int64_t mirrored;  // 1: the image is flipped horizontally first
};

// Writes the results to `out`, [count][height][width][channels]. Throws std::invalid_argument if a height or width, of
// an image or of the results, is not within 1 to kMostPixels.
void Resize(const Kernels* kernels, const Resizing& resizing, const ResizedImage* images, int count, float* out);

}  // namespace r2b
