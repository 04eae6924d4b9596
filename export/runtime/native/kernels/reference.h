// Scalar functions whose results tests compare with those of the kernels. They compute binary, int8 and depthwise
// convolutions, and resize images and feature maps.
//
// Inputs and weights of a binary convolution are +1 or -1; bit 1 stands for -1. Its result is the sum of input * weight
// over the taps and the channels of the output's group. Outside the image, inputs are +1 if pad_one is true; otherwise
// they add nothing to the sum.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace r2b {

struct ReferenceConv {
  int n, h, w, channels;  // input
  int outputs, groups;
  int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  int out_h, out_w, top, left;  // extent of the output, and padding before the input: see WindowExtent()
  bool pad_one;
};

inline int ReferenceSign(const uint32_t* words, int64_t pixel, int words_per_pixel, int channel) {
  return words[pixel * words_per_pixel + channel / 32] >> (channel % 32) & 1 ? -1 : 1;
}

// input: [n][h][w][words], filter: [outputs][kernel_h][kernel_w][words of a group]; returns [n][out_h][out_w][outputs].
inline std::vector<int32_t> ReferenceBconv(const ReferenceConv& s, const uint32_t* input, const uint32_t* filter) {
  const int in_group = s.channels / s.groups, out_group = s.outputs / s.groups;
  std::vector<int32_t> result;
  for (int n = 0; n < s.n; ++n)
    for (int y = 0; y < s.out_h; ++y)
      for (int x = 0; x < s.out_w; ++x)
        for (int o = 0; o < s.outputs; ++o) {
          int32_t dot = 0;
          for (int ky = 0; ky < s.kernel_h; ++ky)
            for (int kx = 0; kx < s.kernel_w; ++kx) {
              const int iy = y * s.stride_h - s.top + ky * s.dilation_h,
                        ix = x * s.stride_w - s.left + kx * s.dilation_w;
              const bool inside = iy >= 0 && iy < s.h && ix >= 0 && ix < s.w;
              const int64_t tap = (int64_t(o) * s.kernel_h + ky) * s.kernel_w + kx,
                            pixel = (int64_t(n) * s.h + iy) * s.w + ix;
              for (int c = 0; c < in_group; ++c) {
                const int weight = ReferenceSign(filter, tap, (in_group + 31) / 32, c);
                if (inside)
                  dot += weight * ReferenceSign(input, pixel, (s.channels + 31) / 32, o / out_group * in_group + c);
                else if (s.pad_one) dot += weight;
              }
            }
          result.push_back(dot);
        }
  return result;
}

// Convolves int8 or uint8 numbers minus their zero point; there is one group. input: [n][h][w][channels], filter:
// [outputs][kernel_h][kernel_w][channels]; returns the sums plus bias, [n][out_h][out_w][outputs].
inline std::vector<int32_t> ReferenceQconv(const ReferenceConv& s, const uint8_t* input, int zero_point,
                                           bool signed_input, const int8_t* filter, const int32_t* bias) {
  std::vector<int32_t> result;
  for (int n = 0; n < s.n; ++n)
    for (int y = 0; y < s.out_h; ++y)
      for (int x = 0; x < s.out_w; ++x)
        for (int o = 0; o < s.outputs; ++o) {
          int32_t sum = bias[o];
          for (int ky = 0; ky < s.kernel_h; ++ky)
            for (int kx = 0; kx < s.kernel_w; ++kx) {
              const int iy = y * s.stride_h - s.top + ky * s.dilation_h,
                        ix = x * s.stride_w - s.left + kx * s.dilation_w;
              if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
              const uint8_t* pixel = input + ((int64_t(n) * s.h + iy) * s.w + ix) * s.channels;
              const int8_t* weights = filter + ((int64_t(o) * s.kernel_h + ky) * s.kernel_w + kx) * s.channels;
              for (int c = 0; c < s.channels; ++c)
                sum += ((signed_input ? int8_t(pixel[c]) : pixel[c]) - zero_point) * weights[c];
            }
          result.push_back(sum);
        }
  return result;
}

// One value of a row of a depthwise convolution. Products and sums are rounded separately.
inline float ReferenceDepthwise(const DepthwiseRow& row, int x, int channel) {
  float sum = row.bias[channel];
  for (int t = 0; t < row.taps; ++t) {
    const auto* pixel = reinterpret_cast<const float*>(row.origin + x * row.pixel + row.tap[t]);
    const float* weights = row.weights + (ptrdiff_t(channel / kBlock) * row.taps + t) * kBlock;
    const volatile float product = pixel[channel] * weights[channel % kBlock];
    sum += product;
  }
  return sum;
}

// One value of a row of a feature map that is resized bilinearly.
inline float ReferenceBilinear(const BilinearRow& row, int x, int channel) {
  const auto value = [&](const uint8_t* line, const int* pixels) {
    return reinterpret_cast<const float*>(line + pixels[x] * row.in_pixel)[channel];
  };
  const float across = row.across[x], up = 1 - row.down;
  const volatile float a = value(row.upper, row.left) * (up * (1 - across)),
                       b = value(row.upper, row.right) * (up * across),
                       c = value(row.lower, row.left) * (row.down * (1 - across)),
                       d = value(row.lower, row.right) * (row.down * across);
  return ((a + b) + c) + d;
}

// One value of a resized image, normalised if r.mean is given. Axes and samples are processed in TensorFlow's order.
inline float ReferenceResample(const Resample& r, int y, int x, int channel) {
  const auto sample = [&](int k, int l) {
    const ptrdiff_t at = r.rows[k * r.height + y] * r.stride + r.columns[l * r.width + x] + channel;
    return r.bytes ? float(static_cast<const uint8_t*>(r.image)[at]) : static_cast<const float*>(r.image)[at];
  };
  const auto sum = [](const float* weights, int step, const auto& value) {
    float total = value(0) * weights[0];
    for (int k = 1; k < 4; ++k) {
      const float product = value(k) * weights[k * step];
      total += product;
    }
    return total;
  };
  const auto between = [](float first, float second, float weight) {
    const float part = (second - first) * weight;
    return first + part;
  };
  const auto row = [&](int k) { return between(sample(k, 0), sample(k, 1), r.column_weights[x]); };
  const auto column = [&](int l) { return sum(r.row_weights + y, r.height, [&](int k) { return sample(k, l); }); };
  const float value = r.cubic ? sum(r.column_weights + x, r.width, column) : between(row(0), row(1), r.row_weights[y]);
  const int at = x * r.channels + channel;
  return r.mean ? (value - r.mean[at]) / r.std[at] : value;
}

}  // namespace r2b
