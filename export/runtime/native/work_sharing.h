// Divides the items of a step among threads, by work stealing.
//
// Each thread begins with its own run of successive items, and does them in ascending order. When its run is empty, it
// steals the upper half of the longest run of another thread. Cores rarely run at the same speed: another program or
// virtual machine may use one of them. With fixed shares, all threads would wait for the slowest one at the end of each
// step.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(R2B_SINGLE_THREAD)
#include <atomic>
#include <vector>
#endif

namespace r2b {

#if defined(R2B_SINGLE_THREAD)

// The only thread has all items. This class uses no 64-bit atomics, since small processors do not have them.
class WorkSharing {
 public:
  void Resize(int) {}
  void Assign(int, int begin, int end) { next_ = begin, end_ = end; }
  int Take(int) { return next_ == end_ ? -1 : next_++; }

 private:
  int next_ = 0, end_ = 0;
};

#else

class WorkSharing {
 public:
  // Makes empty runs for `threads` threads. No thread may be taking items meanwhile.
  void Resize(int threads) { runs_ = std::vector<Run>(size_t(threads)); }

  // Gives a thread the run [begin, end). No thread may be taking items meanwhile.
  void Assign(int thread, int begin, int end) {
    runs_[thread].items.store(Pack(begin, end), std::memory_order_relaxed);
  }

  // Returns the thread's next item, or -1 if all runs are empty.
  int Take(int thread) {
    Run& run = runs_[thread];
    if (runs_.size() == 1) {  // no other thread steals from it
      const uint64_t items = run.items.load(std::memory_order_relaxed);
      if (Begin(items) == End(items)) return -1;
      run.items.store(Pack(Begin(items) + 1, End(items)), std::memory_order_relaxed);
      return Begin(items);
    }
    for (;;) {
      uint64_t items = run.items.load(std::memory_order_relaxed);
      while (Begin(items) < End(items))
        if (run.items.compare_exchange_weak(items, Pack(Begin(items) + 1, End(items)), std::memory_order_relaxed))
          return Begin(items);
      if (!TakeHalf(thread)) return -1;
    }
  }

 private:
  struct alignas(64) Run {  // each in a separate cache line
    std::atomic<uint64_t> items{0};
  };
  static uint64_t Pack(int begin, int end) { return uint64_t(uint32_t(begin)) << 32 | uint32_t(end); }
  static int Begin(uint64_t items) { return int(items >> 32); }
  static int End(uint64_t items) { return int(uint32_t(items)); }

  // Moves the upper half of the longest run to `thread`, whose own run is empty. Returns false if all runs are empty. A
  // run's whole state is one word, so the compare-and-exchange fails if the run has changed since it was read. The
  // thread's own run needs no exchange, since other threads do not change empty runs.
  bool TakeHalf(int thread) {
    for (;;) {
      Run* most = nullptr;
      uint64_t items = 0;
      for (Run& other : runs_) {
        const uint64_t seen = other.items.load(std::memory_order_relaxed);
        if (End(seen) - Begin(seen) > End(items) - Begin(items)) most = &other, items = seen;
      }
      if (!most) return false;
      const int middle = Begin(items) + (End(items) - Begin(items)) / 2;
      if (!most->items.compare_exchange_strong(items, Pack(Begin(items), middle), std::memory_order_relaxed)) continue;
      runs_[thread].items.store(Pack(middle, End(items)), std::memory_order_relaxed);
      return true;
    }
  }

  std::vector<Run> runs_;
};

#endif

}  // namespace r2b
