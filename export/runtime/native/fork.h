// What a process made by fork() must not use of its parent: threads, which it does not have, and locks that they held.
//
// R2B_SINGLE_THREAD builds for systems without threads and processes: then there is nothing to lock and nobody to wait
// for, here and in thread_pool.h, and no thread can be somewhere else than where it is asked for its cores.
#pragma once

#if !defined(R2B_SINGLE_THREAD)
#include <atomic>
#include <mutex>
#endif

namespace r2b {

#if defined(R2B_SINGLE_THREAD)

inline unsigned ForksSoFar() { return 0; }

struct ForkSafeMutex {
  void lock() {}
  void unlock() {}
};

#else

// How many fork()s have led to this process since the library was loaded. What was made at another count belongs to a
// process before it.
unsigned ForksSoFar();

// A mutex that is free in a new process, whoever held it in the parent.
class ForkSafeMutex {
 public:
  ForkSafeMutex() : state_(new State{ForksSoFar(), {}}) {}
  ~ForkSafeMutex() {
    if (state_.load()->forks == ForksSoFar()) delete state_.load();
  }
  ForkSafeMutex(const ForkSafeMutex&) = delete;
  ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;

  void lock() { Own()->mutex.lock(); }
  void unlock() { Own()->mutex.unlock(); }

 private:
  struct State {
    unsigned forks;
    std::mutex mutex;
  };
  State* Own() {
    State* state = state_.load();
    if (state->forks == ForksSoFar()) return state;
    State* own = new State{ForksSoFar(), {}};
    if (state_.compare_exchange_strong(state, own)) return own;  // the parent's is left alone
    delete own;                                                  // another thread was first; `state` is what it made
    return state;
  }

  std::atomic<State*> state_;
};

#endif

}  // namespace r2b
