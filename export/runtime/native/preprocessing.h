// How an image becomes a network's input, as files of r2b_zoo say it: centre square, bicubic resize, mean and standard
// deviation. The results have the bits of r2b_runtime/preprocessing.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace r2b {

struct Preprocessing {
  int height = 0, width = 0, channels = 0;  // of the result
  double crop_fraction = 0;                 // the centre square's side, as a share of the image's shorter side
  std::vector<float> mean, std;             // per channel: the result is (value - mean) / std
};

// Throws Refused where the text is damaged, or says what no image can be prepared with.
Preprocessing ParsePreprocessing(const std::string& json);

// uint8 pixels, row by row.
struct Image {
  const uint8_t* pixels;
  int height, width;
  int channels;      // 1: grey, 3: red, green and blue, 4: these and an alpha that is not read
  ptrdiff_t stride;  // bytes from row to row
};

// Writes [height][width][channels] of the result. Throws Refused for what is no image.
void PrepareImage(const Preprocessing& preprocessing, const Kernels* kernels, const Image& image, float* out);

}  // namespace r2b
