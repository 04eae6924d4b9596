// How large a plan may become, and arithmetic on sizes that cannot wrap.
//
// A model file of a few hundred bytes can ask for terabytes or for hours: a filter far apart, a window over everything,
// a batch of thousands. Sizes are therefore computed as `Count`, which stops at its largest value instead of wrapping,
// and a `Budget` refuses what does not fit before anything is allocated or run. All of it happens when shapes are
// known, once; running a plan checks nothing.
#pragma once

#include <cstdint>
#include <exception>
#include <limits>
#include <string>

#include "graph.h"

namespace r2b {

// A number of things, at least 0.
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

// Elements of a tensor of that shape; 0 where a dimension is not positive.
Count Elements(const std::vector<int>& dims);
// Dimensions as messages show them: [1, 5, 5, 2].
std::string DimsText(const std::vector<int>& dims);

// More elements than this and positions no longer fit the `int` that kernels count with.
constexpr int64_t kMostElements = int64_t(1) << 29;

struct Limits {
  int64_t memory = int64_t(2048) << 20;      // bytes; option max_memory, in MiB
  int64_t work = int64_t(200) * 1000000000;  // option max_work, in billions (10^9)
};

// What a plan is refused for.
class Refused : public std::exception {
 public:
  explicit Refused(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

// Counts what a plan takes against its limits. One unit of work is about a float product, or 32 binary ones; others
// count for as many as take that long.
class Budget {
 public:
  explicit Budget(const Graph& graph) : graph_(graph) {}

  // Begins anew, with nothing taken.
  void Begin(const Limits& limits) {
    limits_ = limits;
    memory_ = work_ = 0;
  }

  // `what` with its bytes: on behalf of operator `op` of the graph, -1 for the partition as a whole. Throws Refused.
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

// Takes from the budget what each operator costs whatever the plan's layout: its run, its packed weights and tables,
// and planning itself. Shapes have to be known.
void TakeOperators(const Graph& graph, const Kernels& kernels, Budget* budget);

}  // namespace r2b
