// A team of threads that walks through the steps of one inference together.
//
// Steps are short (tens of microseconds), so handing each of them to a queue would cost more than it saves. Instead
// Run() wakes the workers once per inference; every thread executes the same list of steps, takes its share of each
// from (index, count), and meets the others at Barrier(). Barriers spin briefly, since the slowest thread is normally
// microseconds behind; whoever waits longer waits for a thread that the machine has taken off its core, and lets others
// have its own core, then sleeps.
// Between inferences the workers look out for the next one for a moment, as most programs call again at once and waking
// a sleeping thread takes longer than several steps; then, or once others want the cores, they sleep.
//
// One inference runs at a time per pool; the owner (a delegate kernel) is only ever invoked by one thread at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace r2b {

class ThreadPool {
 public:
  enum class Between : uint8_t { kLookOut, kSleep };
  explicit ThreadPool(int threads, Between between = Between::kLookOut);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }
  // Calls body(index) on every thread of the team, index 0 being the caller, and returns when all have finished.
  void Run(const std::function<void(int)>& body);
  // To be called by every thread of the team from within `body`.
  void Barrier();

 private:
  void Work(int index);

  const Between between_;
  int size_ = 1;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  const std::function<void(int)>* body_ = nullptr;
  std::atomic<unsigned> generation_{0};
  bool stop_ = false;
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> phase_{0};
  std::mutex barrier_mutex_;
  std::condition_variable barrier_passed_;
  std::atomic<int> sleepers_{0};
};

}  // namespace r2b
