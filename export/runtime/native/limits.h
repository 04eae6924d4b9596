// Limits on a plan's memory and work, and a type whose arithmetic cannot overflow.
//
// A model file of a few hundred bytes can ask for terabytes of memory or hours of work, for example with a huge
// dilation, a window over the whole image, or a batch of thousands. Sizes are therefore computed as `Count`, which
// saturates instead of overflowing. A `Budget` counts memory before it is allocated, and work before it is done. It
// refuses a plan whose count exceeds a limit. Limits are checked once, when the shapes are known; running a plan does
// not check them.
#pragma once

#include <cstdint>
#include <exception>
#include <limits>
#include <string>

#include "graph.h"

namespace r2b {

// A number of bytes, elements or operations. Negative numbers become 0; sums and products saturate at kMost.
class Count {
 public:
  static constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  constexpr Count(int64_t value) : value_(value < 0 ? 0 : value) {}  // NOLINT: numbers are counts
  constexpr int64_t value() const { return value_; }
  friend Count operator+(Count a, Count b) {
    int64_t sum;
    return __builtin_add_overflow(a.value_, b.value_, &sum) ? Count(kMost) : Count(sum);
  }
  friend Count operator*(Count a, Count b) {
    int64_t product;
    return __builtin_mul_overflow(a.value_, b.value_, &product) ? Count(kMost) : Count(product);
  }
  friend bool operator>(Count a, Count b) { return a.value_ > b.value_; }

 private:
  int64_t value_;
};

// The number of elements of a tensor with these dimensions; 0 if a dimension is not positive.
Count Elements(const std::vector<int>& dims);
// Dimensions as messages show them: [1, 5, 5, 2].
std::string DimsText(const std::vector<int>& dims);

// The most elements that a tensor may have. The limit ensures that the indices of elements fit an `int`.
constexpr int64_t kMostElements = int64_t(1) << 29;

struct Limits {
  int64_t memory = int64_t(2048) << 20;      // bytes; option max_memory, in MiB
  int64_t work = int64_t(200) * 1000000000;  // option max_work, in billions (10^9)
};

// Thrown to refuse a model, a plan or an argument, with a message for the user.
class Refused : public std::exception {
 public:
  explicit Refused(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

// Counts the memory and the work of a plan and checks them against the limits. Work is measured in float products: 32
// binary products count as one, and other operations count as the number of float products that take about as long.
class Budget {
 public:
  explicit Budget(const Graph& graph) : graph_(graph) {}

  // Sets the limits, and both counts to 0.
  void Begin(const Limits& limits) {
    limits_ = limits;
    memory_ = work_ = 0;
  }

  // Add the memory or work of something that belongs to the operator with index `op`, or to the whole graph if `op` is
  // -1. `what` names this in messages. Throw Refused if the total exceeds the limit.
  void TakeMemory(int op, Count bytes, const std::string& what);
  void TakeWork(int op, Count work, const std::string& what);

  int64_t memory() const { return memory_.value(); }
  int64_t work() const { return work_.value(); }

 private:
  std::string Place(int op) const;

  const Graph& graph_;
  Limits limits_;
  Count memory_ = 0, work_ = 0;
};

struct Kernels;

// Counts what does not depend on the layout of the plan: the operators' work, their packed weights and tables, and the
// planning itself. Shapes must be known.
void TakeOperators(const Graph& graph, const Kernels& kernels, Budget* budget);

}  // namespace r2b
