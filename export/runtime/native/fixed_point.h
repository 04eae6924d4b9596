// TensorFlow Lite's fixed-point arithmetic for 8-bit tensors: a sum is multiplied by a scale that consists of a 32-bit
// multiplier and a power of two.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "graph.h"
#include "kernels/fixed_product.inl"

namespace r2b {

// Splits a positive normal number into a fraction in [1/2, 1), which is returned, and the exponent of a power of two.
// std::frexp does the same, but the math library of some Android versions lacks it.
inline double Fraction(double value, int* exponent) {
  constexpr int kMantissa = 52, kBias = 1022;
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  *exponent = int(bits >> kMantissa) - kBias;
  bits = (bits & ((uint64_t(1) << kMantissa) - 1)) | uint64_t(kBias) << kMantissa;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// A scale, stored as 2^-31 * multiplier * 2^(left - right).
struct FixedPoint {
  int32_t multiplier = 0, left = 0, right = 0;

  // `scale` must be positive. It is capped at kMostScale, so that `left` is at most 30; even sums of 1 and -1 saturate
  // with that scale.
  explicit FixedPoint(double scale) {
    constexpr int kMostRight = 31;
    constexpr double kMostScale = 1 << 29;
    int exponent;
    auto fixed = int64_t(std::round(Fraction(std::min(scale, kMostScale), &exponent) * double(int64_t(1) << 31)));
    if (fixed == int64_t(1) << 31) fixed /= 2, ++exponent;
    if (exponent < -kMostRight) return;  // every sum would become 0
    multiplier = int32_t(fixed);
    left = std::max(exponent, 0);
    right = std::max(-exponent, 0);
  }
};

constexpr int LeastNumber(DType type) { return type == DType::kUInt8 ? 0 : -128; }

// Quantises a value to the number that represents it in an int8 or uint8 tensor; saturates.
inline int32_t NumberOf(float value, const Tensor& tensor) {
  const double number = double(std::round(value / tensor.scale)) + tensor.zero_point;
  const int least = LeastNumber(tensor.type);
  return int32_t(std::clamp(number, double(least), double(least + 255)));
}

}  // namespace r2b
