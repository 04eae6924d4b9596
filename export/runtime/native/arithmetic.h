// Element-wise operators that fit no stage: every broadcast.
#pragma once

#include <cstdint>

#include "graph.h"
#include "kernels/kernels.h"

namespace r2b {

// How the values of two operands meet in an output: as runs of values side by side, of which each operand has as many
// or one.
class Broadcast {
 public:
  Broadcast(const Shape& out, const Shape& x, const Shape& y);
  // Runs, cut so that threads can share out even one long one.
  int64_t items() const { return items_; }
  // Computes items [begin, end). `run` has the operator and where x, y and the output begin.
  void Run(const Kernels* kernels, const ArithmeticRun& run, int64_t begin, int64_t end) const;

 private:
  struct Axis {
    int64_t extent, x, y;  // and the operands' strides
  };
  Axis outer_[4];
  int outers_ = 0;
  Axis run_{1, 0, 0};
  int64_t pieces_, items_;
};

}  // namespace r2b
