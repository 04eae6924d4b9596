// Shared by the native tests: checks that are counted, random numbers, and memory that detects writes outside its
// bounds.
#pragma once

#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace r2b {

inline int failures = 0, checks = 0;
inline std::mt19937 rng(1);
inline int Random(int low, int high) { return low + int(rng() % unsigned(high - low + 1)); }
inline float RandomFloat() { return float(int(rng() % 20001) - 10000) / 5000.0f; }

inline void Check(bool good, const std::string& what) {
  ++checks;
  if (good) return;
  if (++failures <= 20) std::printf("FAILED %s\n", what.c_str());
}

// Memory between guard bytes; intact() is false if one of these has changed. By default the memory begins at a random
// multiple of 4 bytes.
class Guarded {
 public:
  explicit Guarded(size_t bytes, int misalign = 4 * Random(0, 15))
      : size_(bytes), at_(64 + misalign), memory_(bytes + 256, 0xa5) {}
  size_t size() const { return size_; }
  template <class T>
  T* data() {
    return reinterpret_cast<T*>(memory_.data() + at_);
  }
  bool intact() const {
    for (size_t i = 0; i < memory_.size(); ++i)
      if ((i < size_t(at_) || i >= at_ + size_) && memory_[i] != 0xa5) return false;
    return true;
  }

 private:
  size_t size_;
  int at_;
  std::vector<uint8_t> memory_;
};

inline std::vector<float> Floats(size_t count) {
  std::vector<float> v(count);
  for (float& x : v) x = RandomFloat();
  return v;
}

// Each is defined in its own *_test.cc.
void TestBinaryPlans(const Kernels* kernels);
void TestLanes(const Kernels* kernels);
void TestFloatPlans(const Kernels* kernels);
void TestBytes(const Kernels* kernels);
void TestLayouts(const Kernels* kernels);
void TestConvolvers(const Kernels* kernels);
void TestResampling(const Kernels* kernels);
void TestWorkSharing();
void TestCores();

}  // namespace r2b
