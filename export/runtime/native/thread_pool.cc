#include "thread_pool.h"

#include <chrono>
#include <system_error>

namespace r2b {
namespace {
inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}
using Clock = std::chrono::steady_clock;
// In time, not in rounds: a pause is a few cycles on some processors and more than a hundred on others.
constexpr auto kSpin = std::chrono::microseconds(20);  // longer than threads are normally apart
constexpr auto kYield =
    std::chrono::microseconds(500);  // then others may have the core; still shorter than waking from sleep
constexpr auto kLookOut = std::chrono::microseconds(300);

// Waits until `passed()`, calling `relax` between the looks; false where that took longer than `most`.
template <class Passed, class Relax>
bool WaitFor(Clock::duration most, Passed passed, Relax relax) {
  for (const auto until = Clock::now() + most; Clock::now() < until;)
    for (int look = 0; look < 8; ++look) {
      if (passed()) return true;
      relax();
    }
  return passed();
}
}  // namespace

ThreadPool::ThreadPool(int threads, Between between) : between_(between) {
  // The team grows one by one: where the system refuses another thread, the ones that exist do the work.
  for (int i = 1; i < threads; ++i) {
    try {
      workers_.emplace_back(&ThreadPool::Work, this, i);
    } catch (const std::system_error&) {
      break;
    }
  }
  size_ = 1 + int(workers_.size());
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(const std::function<void(int)>& body) {
  if (size_ > 1) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body;
      ++generation_;
    }
    wake_.notify_all();
  }
  body(0);
  Barrier();
}

// The last to arrive stores the phase, then looks for sleepers; a sleeper counts itself, then looks at the phase. Both
// in sequentially consistent order, so at least one sees the other and no wake-up is lost.
void ThreadPool::Barrier() {
  if (size_ == 1) return;
  const unsigned phase = phase_.load();
  if (arrived_.fetch_add(1) + 1 == size_) {
    arrived_.store(0);
    phase_.store(phase + 1);
    if (sleepers_.load() > 0) {
      std::lock_guard<std::mutex> lock(barrier_mutex_);
      barrier_passed_.notify_all();
    }
    return;
  }
  const auto passed = [&] { return phase_.load(std::memory_order_acquire) != phase; };
  if (WaitFor(kSpin, passed, Pause) || WaitFor(kYield, passed, [] { std::this_thread::yield(); })) return;
  std::unique_lock<std::mutex> lock(barrier_mutex_);
  ++sleepers_;
  barrier_passed_.wait(lock, [&] { return phase_.load() != phase; });
  --sleepers_;
}

void ThreadPool::Work(int index) {
  unsigned seen = 0;
  for (;;) {
    const std::function<void(int)>* body;
    if (between_ == Between::kLookOut)
      WaitFor(kLookOut, [&] { return generation_.load(std::memory_order_relaxed) != seen; }, Pause);
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      seen = generation_;
      body = body_;
    }
    (*body)(index);
    Barrier();
  }
}

}  // namespace r2b
