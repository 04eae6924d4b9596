// Protection for processes made by fork(). A child has only the thread that called fork(). Locks that other threads of
// the parent held stay locked in the child for ever.
//
// R2B_SINGLE_THREAD is defined in builds for systems without threads and processes. Nothing needs locks or barriers
// there, so the classes here and in thread_pool.h are stubs, and cores.h reports one core.
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

// The number of fork()s between the process that first called this function and the current one. If the number was
// different when an object was made, an ancestor of this process made the object.
unsigned ForksSoFar();

// A mutex that starts out unlocked in a forked process, even if a thread of the parent held it.
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
    if (state_.compare_exchange_strong(state, own)) return own;  // the parent's is not deleted: it may be locked
    delete own;                                                  // another thread was first: `state` is its State
    return state;
  }

  std::atomic<State*> state_;
};

#endif

}  // namespace r2b
