// A team of threads that executes the steps of one inference together.
//
// Steps are short (tens of microseconds), so handing each of them to a queue would cost more than it saves. Instead
// Run() wakes the workers once per inference; every thread executes the same list of steps, computes its share of each,
// and meets the others at Barrier(). A thread that waits there first spins briefly, since the slowest thread is
// normally only microseconds behind. A longer wait means that the operating system has taken a thread off its core;
// then the waiting thread yields its own core, and finally sleeps.
//
// Between inferences the workers spin for a moment before they sleep (kLookOut), since most programs call again at
// once, and waking a sleeping thread takes longer than several steps. With kSleep they sleep at once, for programs that
// need the cores between two calls.
//
// A pool runs one inference at a time: its owner must not let two threads call Run() at once.
//
// A process made by fork() has a copy of the team's memory but none of its threads, and locks that they held stay
// locked. So everything that threads share is in one object (Team), which a child does not use: its first Run() makes a
// new team.
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
  // process made by fork(), the first call may reduce size(), if the system refuses threads.
  void Run(const std::function<void(int)>& body);
  // Every thread of the team has to call this from within `body`.
  void Barrier() { team_->Barrier(); }

 private:
  struct Team {
    Team(int threads, Between between);
    ~Team();
    void Barrier();
    void Work(int index);

    const unsigned forks;  // ForksSoFar() when the team was made
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
  // Deletes the team, unless it belongs to a parent process.
  static void Release(Team* team);

  std::unique_ptr<Team, void (*)(Team*)> team_;
};

#endif

}  // namespace r2b
