// Element-wise operators that no stage can apply. Their two operands may broadcast in any way; an operator with one
// operand passes it twice.
#pragma once

#include <cstdint>

#include "graph.h"
#include "kernels/kernels.h"

namespace r2b {

// How two operands broadcast to an output. The output is cut into runs of contiguous values; for each run an operand
// has either as many contiguous values or a single one.
class Broadcast {
 public:
  Broadcast(const Shape& out, const Shape& x, const Shape& y);
  // The number of work items. Long runs are cut into several items, so that threads can share even a single run.
  int64_t items() const { return items_; }
  // Computes items [begin, end). `run` has the operator, and points to the first values of x, y and the output.
  void Run(const Kernels* kernels, const ArithmeticRun& run, int64_t begin, int64_t end) const;

 private:
  struct Axis {
    int64_t extent, x, y;  // its length, and the operands' strides along it
  };
  Axis outer_[4];
  int outers_ = 0;
  Axis run_{1, 0, 0};
  int64_t pieces_, items_;
};

}  // namespace r2b
