// Turns an image into a network's input, as the model's metadata specifies: the centre square is cut out, resized by
// bicubic interpolation, and normalised. The results equal those of r2b_runtime/preprocessing.py bit for bit.
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
  std::vector<float> mean, std;             // per channel, for values of 0 to 255: (value - mean) / std
};

// Reads the text of preprocessing.json. Throws Refused if it is damaged, has an unknown format, or has values with
// which no image can be prepared.
Preprocessing ParsePreprocessing(const std::string& json);

// uint8 pixels, row by row.
struct Image {
  const uint8_t* pixels;
  int height, width;
  int channels;      // 1: grey; 3: red, green, blue; 4: red, green, blue and alpha, which is not read
  ptrdiff_t stride;  // bytes from the start of one row to the next
};

// Writes the result, [height][width][channels]. Throws Refused if a field of the image is invalid.
void PrepareImage(const Preprocessing& preprocessing, const Kernels* kernels, const Image& image, float* out);

}  // namespace r2b
