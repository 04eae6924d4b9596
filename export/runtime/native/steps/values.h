// Steps that do little with each value of a contiguous tensor have in common how long they take.
#pragma once

#include "steps/roots.h"

namespace r2b {

class ValuesRoot : public FlatRoot {
 public:
  const char* name() const override { return name_; }
  int64_t work() const override { return values_ * products_; }

 protected:
  // So many `products` take as long as one value.
  ValuesRoot(const Graph& graph, const Op& op, const char* name, int products = 1);

 private:
  const char* name_;
  const int64_t values_;
  const int products_;
};

// A tensor is taken as pixels of so many channels.
struct Pixels {
  int count, channels;
};
Pixels PixelsOf(const Tensor& tensor);

}  // namespace r2b
