// The base class of roots that do a little work on each value of a contiguous tensor. It estimates the time of a step.
#pragma once

#include "steps/roots.h"

namespace r2b {

class ValuesRoot : public FlatRoot {
 public:
  const char* name() const override { return name_; }
  int64_t work() const override { return values_ * products_; }

 protected:
  // `products`: the estimated time of one value, in units of one float product.
  ValuesRoot(const Graph& graph, const Op& op, const char* name, int products = 1);

 private:
  const char* name_;
  const int64_t values_;
  const int products_;
};

// A tensor read as `count` pixels of `channels` values each.
struct Pixels {
  int count, channels;
};
Pixels PixelsOf(const Tensor& tensor);

}  // namespace r2b
