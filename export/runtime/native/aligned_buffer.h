// A buffer for vector code: it starts at the beginning of a cache line, and kernels may read and write whole vectors
// past its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace r2b {

constexpr size_t kAlign = 64;   // a cache line
constexpr size_t kSlack = 256;  // bytes after the end

inline size_t RoundUp(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// Returns the distance in bytes between the starts of neighbouring pixels of `bytes` bytes. Pixels that are longer than
// a cache line are aligned to cache lines, so that fewer loads and stores span two lines.
inline ptrdiff_t PixelStride(ptrdiff_t bytes) {
  return bytes > ptrdiff_t(kAlign) ? ptrdiff_t(RoundUp(size_t(bytes))) : bytes;
}

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&&) = default;  // no copies: in a copy, data() may have another offset
  AlignedBuffer& operator=(AlignedBuffer&&) = default;

  static constexpr size_t kOverhead = kAlign + kSlack;

  // Resizes the buffer to `bytes` bytes, all 0.
  void Assign(size_t bytes) { buffer_.assign(bytes + kOverhead, 0); }
  uint8_t* data() { return buffer_.data() + (kAlign - reinterpret_cast<uintptr_t>(buffer_.data()) % kAlign) % kAlign; }

 private:
  std::vector<uint8_t> buffer_;
};

}  // namespace r2b
