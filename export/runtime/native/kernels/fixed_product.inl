// The function is static, since files that are compiled for different instruction sets include this file: each must use
// its own copy.
#pragma once

#include <cstdint>

// Returns sum * multiplier * 2^(left - right - 31), rounded twice. The division by 2^31 rounds to a whole number,
// halves up. The division by 2^right then rounds to a whole number, halves away from zero. `sum` is first shifted to
// the left; that wraps around if 32 bits do not hold the result.
static inline __attribute__((always_inline)) int32_t FixedProduct(uint32_t sum, int32_t multiplier, int32_t left,
                                                                  int32_t right) {
  const int64_t wide = int64_t(int32_t(sum << left)) * multiplier;
  const auto high = int32_t((wide + (int64_t(1) << 30)) >> 31);
  const auto mask = int32_t((uint32_t(1) << right) - 1);
  return (high >> right) + int32_t((high & mask) > (mask >> 1) + int32_t(high < 0));
}
