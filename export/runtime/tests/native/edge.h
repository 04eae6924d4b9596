// Memory that ends at an inaccessible page, so that an access past its end stops the process. intact() is false after a
// write to the kBefore bytes before it.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace r2b {

template <class T>
class AtEdge {
 public:
  explicit AtEdge(size_t count) : count_(count) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE)), bytes = count * sizeof(T);
    size_ = (bytes + kBefore + page - 1) / page * page + page;
    memory_ = static_cast<uint8_t*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(memory_ + size_ - page, page, PROT_NONE);
    data_ = reinterpret_cast<T*>(memory_ + size_ - page - bytes);
    std::memset(memory_, 0xa5, size_ - page);
  }
  explicit AtEdge(const std::vector<T>& values) : AtEdge(values.size()) {
    std::memcpy(data_, values.data(), values.size() * sizeof(T));
  }
  AtEdge(const AtEdge&) = delete;
  AtEdge& operator=(const AtEdge&) = delete;
  ~AtEdge() { munmap(memory_, size_); }

  T* data() { return data_; }
  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(data_); }
  std::vector<T> values() const { return std::vector<T>(data_, data_ + count_); }
  bool intact() const {
    for (const uint8_t* at = memory_; at < reinterpret_cast<const uint8_t*>(data_); ++at)
      if (*at != 0xa5) return false;
    return true;
  }

 private:
  static constexpr size_t kBefore = 256;
  size_t count_, size_;
  uint8_t* memory_;
  T* data_;
};

}  // namespace r2b
