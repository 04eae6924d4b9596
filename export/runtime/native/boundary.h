// Safeguards for every C function of the library: no exception may leave it, and a handle that has been freed must not
// be dereferenced.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <string>

#include "fork.h"

namespace r2b {

// Runs `body`. Returns false, with a message in `*error`, if it throws. The library's callers, C and Python, cannot
// catch C++ exceptions: an exception that reached them would end the process.
template <class Body>
bool Contained(std::string* error, const Body& body) noexcept {
  const auto failed = [&](const char* what) {
    try {
      *error = what;
    } catch (...) {
      error->clear();  // there is no memory even for the message
    }
    return false;
  };
  try {
    body();
    return true;
  } catch (const std::bad_alloc&) {
    return failed("out of memory; resize the model's input to a smaller one");
  } catch (const std::exception& thrown) {
    return failed(thrown.what());
  } catch (...) {
    return failed("an unknown exception");
  }
}

// One thread's turn with an object that only one thread may use at a time. The constructor does not wait: mine() says
// whether the thread got its turn.
class Turn {
 public:
  explicit Turn(std::atomic_flag* taken) : taken_(taken), mine_(!taken->test_and_set(std::memory_order_acquire)) {}
  ~Turn() {
    if (mine_) taken_->clear(std::memory_order_release);
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  // False if another thread was using the object when this turn was requested.
  bool mine() const { return mine_; }

 private:
  std::atomic_flag* const taken_;
  const bool mine_;
};

// The objects behind the handles that C callers hold. The pointer that Find() returns keeps its object alive, even if
// another thread removes the object.
template <class T>
class Handles {
 public:
  // Never destroyed, since garbage collectors may free handles while the process ends.
  static Handles& Instance() {
    static auto* const handles = new Handles;
    return *handles;
  }
  T* Add(std::shared_ptr<T> object) {
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    return objects_.insert(std::move(object)).first->get();
  }
  // Null if there is no such object, or it has been removed.
  std::shared_ptr<T> Find(const T* object) {
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    const auto found = Lookup(object);
    return found == objects_.end() ? nullptr : *found;
  }
  void Remove(const T* object) {
    std::shared_ptr<T> last;  // destroyed after the lock has been released
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    const auto found = Lookup(object);
    if (found == objects_.end()) return;
    last = *found;
    objects_.erase(found);
  }

 private:
  using Set = std::set<std::shared_ptr<T>>;
  typename Set::iterator Lookup(const T* object) {
    return objects_.find(std::shared_ptr<T>(std::shared_ptr<T>(), const_cast<T*>(object)));
  }
  ForkSafeMutex mutex_;
  Set objects_;
};

}  // namespace r2b
