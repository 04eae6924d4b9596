// What every C function of the library needs: nothing that is thrown may leave it, and a handle that was given back
// must not be followed.
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

// Runs `body`. False, with a sentence, where it threw: the callers, C and Python, know no exceptions, and one that
// reaches them ends the process.
template <class Body>
bool Contained(std::string* error, const Body& body) noexcept {
  const auto failed = [&](const char* what) {
    try {
      *error = what;
    } catch (...) {
      error->clear();  // not even memory for the sentence
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

// One thread's turn with an object that belongs to one thread at a time.
class Turn {
 public:
  explicit Turn(std::atomic_flag* taken) : taken_(taken), mine_(!taken->test_and_set(std::memory_order_acquire)) {}
  ~Turn() {
    if (mine_) taken_->clear(std::memory_order_release);
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  // False while another thread has its turn.
  bool mine() const { return mine_; }

 private:
  std::atomic_flag* const taken_;
  const bool mine_;
};

// The objects that C callers hold. Finding one keeps it alive until the caller of Find() is done with it.
template <class T>
class Handles {
 public:
  // Never destroyed: garbage collectors give handles back while the process ends.
  static Handles& Instance() {
    static auto* const handles = new Handles;
    return *handles;
  }
  T* Add(std::shared_ptr<T> object) {
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    return objects_.insert(std::move(object)).first->get();
  }
  // Null where there is none, or no more.
  std::shared_ptr<T> Find(const T* object) {
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    const auto found = Lookup(object);
    return found == objects_.end() ? nullptr : *found;
  }
  void Remove(const T* object) {
    std::shared_ptr<T> last;  // destroyed after the lock is let go
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
