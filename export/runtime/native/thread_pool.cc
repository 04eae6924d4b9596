#include "thread_pool.h"

#if !defined(R2B_SINGLE_THREAD)

#include <chrono>
#include <system_error>

#include "fork.h"

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
// Waits are limited by time, not by a number of pauses: a pause takes a few cycles on some processors and more than a
// hundred on others.
constexpr auto kSpin = std::chrono::microseconds(20);  // threads normally arrive within this time of each other
// After kSpin, a waiting thread calls yield() repeatedly for this time before it sleeps. A thread resumes sooner after
// a yield than after sleep.
constexpr auto kYield = std::chrono::microseconds(500);
// How long a worker spins between inferences before it sleeps (Between::kLookOut).
constexpr auto kLookOut = std::chrono::microseconds(300);

// Calls `passed()` and `relax()` alternately until `passed()` returns true or the time `most` is over. Returns the last
// result of `passed()`.
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

ThreadPool::Team::Team(int threads, Between between) : forks(ForksSoFar()), between(between) {
  // If the system refuses to start a thread, the threads that exist do the work.
  for (int i = 1; i < threads; ++i) {
    try {
      workers.emplace_back(&Team::Work, this, i);
    } catch (const std::system_error&) {
      break;
    }
  }
  // The workers may already be running, but they do not read the size before there is work.
  size = 1 + int(workers.size());
}

ThreadPool::Team::~Team() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    stop = true;
  }
  wake.notify_all();
  for (std::thread& worker : workers) worker.join();
}

// A child process must not delete its parent's team: it would wait for ever for threads that exist only in the parent.
void ThreadPool::Release(Team* team) {
  if (team->forks == ForksSoFar()) delete team;
}

ThreadPool::ThreadPool(int threads, Between between) : team_(new Team(threads, between), Release) {}

void ThreadPool::Run(const std::function<void(int)>& body) {
  if (team_->forks != ForksSoFar()) team_.reset(new Team(team_->size, team_->between));
  Team& team = *team_;
  if (team.size > 1) {
    {
      std::lock_guard<std::mutex> lock(team.mutex);
      team.body = &body;
      ++team.generation;
    }
    team.wake.notify_all();
  }
  body(0);
  team.Barrier();
}

// The last thread to arrive stores the new phase, then reads `sleepers`. A thread that wants to sleep increments
// `sleepers`, then reads the phase. These operations are sequentially consistent, so at least one of the two threads
// sees what the other has written, and no wake-up is lost.
void ThreadPool::Team::Barrier() {
  if (size == 1) return;
  const unsigned now = phase.load();
  if (arrived.fetch_add(1) + 1 == size) {
    arrived.store(0);
    phase.store(now + 1);
    if (sleepers.load() > 0) {
      std::lock_guard<std::mutex> lock(barrier_mutex);
      barrier_passed.notify_all();
    }
    return;
  }
  const auto passed = [&] { return phase.load(std::memory_order_acquire) != now; };
  if (WaitFor(kSpin, passed, Pause) || WaitFor(kYield, passed, [] { std::this_thread::yield(); })) return;
  std::unique_lock<std::mutex> lock(barrier_mutex);
  ++sleepers;
  barrier_passed.wait(lock, [&] { return phase.load() != now; });
  --sleepers;
}

void ThreadPool::Team::Work(int index) {
  unsigned seen = 0;
  for (;;) {
    const std::function<void(int)>* work;
    if (between == Between::kLookOut)
      WaitFor(kLookOut, [&] { return generation.load(std::memory_order_relaxed) != seen; }, Pause);
    {
      std::unique_lock<std::mutex> lock(mutex);
      wake.wait(lock, [&] { return stop || generation != seen; });
      if (stop) return;
      seen = generation;
      work = body;
    }
    (*work)(index);
    Barrier();
  }
}

}  // namespace r2b

#endif
