#include "thread_pool.h"

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
constexpr int kSpins = 2000;  // some 20 us: longer than threads are normally apart, shorter than a time slice
}  // namespace

ThreadPool::ThreadPool(int threads) {
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

void ThreadPool::Barrier() {
  if (size_ == 1) return;
  const unsigned phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  for (int spin = 0; phase_.load(std::memory_order_acquire) == phase; ++spin) {
    if (spin < kSpins) Pause();
    else std::this_thread::yield();
  }
}

void ThreadPool::Work(int index) {
  unsigned seen = 0;
  for (;;) {
    const std::function<void(int)>* body;
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
