// Files that are compiled for different instruction sets include this file. Each gets its own copy of the function.
#pragma once

#include <cstdint>

// Returns sum * multiplier * 2^(left - right - 31), rounded twice to a whole number: before the right shift with halves
// up, and after it with halves away from zero. The left shift wraps around if 32 bits do not hold its result.
static inline __attribute__((always_inline)) int32_t FixedProduct(uint32_t sum, int32_t multiplier, int32_t left,
                                                                  int32_t right) {
  const int64_t wide = int64_t(int32_t(sum << left)) * multiplier;
  const auto high = int32_t((wide + (int64_t(1) << 30)) >> 31);
  const auto mask = int32_t((uint32_t(1) << right) - 1);
  return (high >> right) + int32_t((high & mask) > (mask >> 1) + int32_t(high < 0));
}
