#include "arithmetic.h"

#include <algorithm>

namespace r2b {
namespace {
constexpr int64_t kPiece = 4096;  // the most values in one work item
}

// Merges axes into one run, from the innermost outwards. The next axis joins the run if, for both operands, its stride
// equals the run's stride times the run's extent. The first axis that does not join, and all further ones, become outer
// loops.
Broadcast::Broadcast(const Shape& out, const Shape& x, const Shape& y) {
  const int extents[] = {out.c, out.w, out.h, out.n}, of_x[] = {x.c, x.w, x.h, x.n}, of_y[] = {y.c, y.w, y.h, y.n};
  int64_t x_stride = 1, y_stride = 1;
  for (int i = 0; i < 4; ++i) {
    const Axis axis{extents[i], of_x[i] > 1 ? x_stride : 0, of_y[i] > 1 ? y_stride : 0};
    x_stride *= of_x[i];
    y_stride *= of_y[i];
    if (axis.extent == 1) continue;
    if (run_.extent == 1) run_ = axis;
    else if (!outers_ && axis.x == run_.x * run_.extent && axis.y == run_.y * run_.extent) run_.extent *= axis.extent;
    else outer_[outers_++] = axis;
  }
  pieces_ = (run_.extent + kPiece - 1) / kPiece;
  items_ = pieces_;
  for (int i = 0; i < outers_; ++i) items_ *= outer_[i].extent;
}

void Broadcast::Run(const Kernels* kernels, const ArithmeticRun& run, int64_t begin, int64_t end) const {
  ArithmeticRun part = run;
  part.x_step = int(run_.x);
  part.y_step = int(run_.y);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t at = item % pieces_ * kPiece;
    int64_t index = item / pieces_, x = at * run_.x, y = at * run_.y;
    part.out = run.out + index * run_.extent + at;
    for (int i = 0; i < outers_; ++i) {
      x += index % outer_[i].extent * outer_[i].x;
      y += index % outer_[i].extent * outer_[i].y;
      index /= outer_[i].extent;
    }
    part.x = run.x + x;
    part.y = run.y + y;
    part.count = int(std::min(kPiece, run_.extent - at));
    kernels->arithmetic(part);
  }
}

}  // namespace r2b
