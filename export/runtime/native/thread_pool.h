// A team of threads that executes the steps of one inference together.
//
// Steps are short (tens of microseconds), so handing each of them to a queue would cost more than it saves. Instead
// Run() wakes the workers once per inference. Every thread executes the same list of steps, computes its share of each,
// and meets the others at Barrier(). A thread that waits there first spins briefly, since the slowest thread is
// normally only microseconds behind. A longer wait usually means that the operating system has taken a thread off its
// core. The waiting thread then yields its own core, and finally sleeps.
//
// Between inferences the workers spin for a moment before they sleep (kLookOut): most programs soon start the next
// inference, and waking a sleeping thread takes longer than several steps. With kSleep the workers sleep at once, so
// that the program can use the cores between inferences.
//
// A pool runs one inference at a time: its owner must not let two threads call Run() at once.
//
// A process made by fork() has a copy of the team's memory but none of its threads, and locks that they held stay
// locked. So everything that threads share is in one object (Team), which the first Run() in a child replaces.
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
  // Calls body(index) in every thread of the team; the calling thread has index 0. Returns when all have finished. The
  // first call in a process made by fork() reduces size() if the system refuses to start threads.
  void Run(const std::function<void(int)>& body);
  // Waits until all threads of the team have called this. Each of them must do so, from within `body`.
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
