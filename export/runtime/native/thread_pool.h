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
//
// A process made by fork() has the memory of a team but none of its threads, and whatever they held locked stays
// locked. So everything that threads share is one object, which a child never touches: its first Run() makes a team of
// its own.
#pragma once

#include <cstdint>
#include <functional>

#if !defined(R2B_SINGLE_THREAD)
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>
#endif

namespace r2b {

#if defined(R2B_SINGLE_THREAD)

class ThreadPool {
 public:
  enum class Between : uint8_t { kLookOut, kSleep };
  explicit ThreadPool(int, Between = Between::kLookOut) {}
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return 1; }
  void Run(const std::function<void(int)>& body) { body(0); }
  void Barrier() {}
};

#else

class ThreadPool {
 public:
  enum class Between : uint8_t { kLookOut, kSleep };
  explicit ThreadPool(int threads, Between between = Between::kLookOut);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return team_->size; }
  // Calls body(index) on every thread of the team, index 0 being the caller, and returns when all have finished. In a
  // process that fork() made, the first call may change the size: to less where the system refuses threads.
  void Run(const std::function<void(int)>& body);
  // To be called by every thread of the team from within `body`.
  void Barrier() { team_->Barrier(); }

 private:
  struct Team {
    Team(int threads, Between between);
    ~Team();
    void Barrier();
    void Work(int index);

    const unsigned forks;  // ForksSoFar() when it was made
    const Between between;
    int size = 1;
    std::vector<std::thread> workers;
    std::mutex mutex;
    std::condition_variable wake;
    const std::function<void(int)>* body = nullptr;
    std::atomic<unsigned> generation{0};
    bool stop = false;
    std::atomic<int> arrived{0};
    std::atomic<unsigned> phase{0};
    std::mutex barrier_mutex;
    std::condition_variable barrier_passed;
    std::atomic<int> sleepers{0};
  };
  // Leaves a team of a parent process alone.
  static void Release(Team* team);

  std::unique_ptr<Team, void (*)(Team*)> team_;
};

#endif

}  // namespace r2b
