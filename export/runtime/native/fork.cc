#include "fork.h"

#if !defined(R2B_SINGLE_THREAD)

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace r2b {
namespace {
std::atomic<unsigned> forks{0};
}  // namespace

// In a child, the C library's fork() calls the handler, which increments `forks`. Comparing process IDs would not be
// enough: in a new PID namespace a child may have the same ID as its parent.
unsigned ForksSoFar() {
#if !defined(_WIN32)
  static const int registered = pthread_atfork(nullptr, nullptr, [] { ++forks; });
  (void)registered;
#endif
  return forks.load(std::memory_order_relaxed);
}

}  // namespace r2b

#endif
