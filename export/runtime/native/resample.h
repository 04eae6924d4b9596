// Photographs at a network's size: what TensorFlow's ResizeBicubic and ResizeBilinear make of an image, to the bit, normalised.
#pragma once

#include "kernels/kernels.h"

namespace r2b {

// All int, in this order: r2b_runtime/resampling.py has the same.
struct ResizeShape {
  int height, width, channels;  // of the image; 1 or 3 channels, side by side
  int stride;                   // values from one row of the image to the next
  int bytes;                    // 1: uint8; 0: float
  int out_height, out_width;
  int bilinear;                 // 1: linear between the centres of pixels; 0: cubic, corner-aligned samples, a = -0.75, as TensorFlow 1
  int mirrored;                 // 1: of the image with left and right exchanged
};

// Writes (value - mean) / std, [out_height][out_width][channels]; mean and std hold a number per channel, or are null: the value.
void Resize(const Kernels* kernels, const ResizeShape& shape, const void* image, const float* mean, const float* std, float* out);

}  // namespace r2b
