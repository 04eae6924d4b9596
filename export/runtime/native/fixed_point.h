// TensorFlow Lite's arithmetic on 8-bit numbers: a sum times a scale that is a number of 32 bits and a power of two.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "graph.h"
#include "kernels/fixed_product.inl"

namespace r2b {

// A positive normal number without its power of two, within [1/2, 1): what std::frexp gives, which is not in the math
// library of every Android.
inline double Fraction(double value, int* exponent) {
  constexpr int kMantissa = 52, kBias = 1022;
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  *exponent = int(bits >> kMantissa) - kBias;
  bits = (bits & ((uint64_t(1) << kMantissa) - 1)) | uint64_t(kBias) << kMantissa;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// 2^-31 * multiplier * 2^(left - right).
struct FixedPoint {
  int32_t multiplier = 0, left = 0, right = 0;

  // A positive scale. One so large that any sum but 0 becomes an extreme number is cut.
  explicit FixedPoint(double scale) {
    constexpr int kMostRight = 31;
    constexpr double kMostScale = 1 << 29;
    int exponent;
    auto fixed = int64_t(std::round(Fraction(std::min(scale, kMostScale), &exponent) * double(int64_t(1) << 31)));
    if (fixed == int64_t(1) << 31) fixed /= 2, ++exponent;
    if (exponent < -kMostRight) return;  // nothing of a sum would be left
    multiplier = int32_t(fixed);
    left = std::max(exponent, 0);
    right = std::max(-exponent, 0);
  }
};

constexpr int LeastNumber(DType type) { return type == DType::kUInt8 ? 0 : -128; }

// The number of a tensor of bytes that stands for a value.
inline int32_t NumberOf(float value, const Tensor& tensor) {
  const double number = double(std::round(value / tensor.scale)) + tensor.zero_point;
  const int least = LeastNumber(tensor.type);
  return int32_t(std::clamp(number, double(least), double(least + 255)));
}

}  // namespace r2b
