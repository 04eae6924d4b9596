// The windows of a pool, clipped to the image.
#pragma once

#include <vector>

#include "graph.h"

namespace r2b {

class Window {
 public:
  Window(const Graph& graph, const Op& op);
  // The input rows that a row of outputs reads, and the columns that each of its pixels reads: first, one past the
  // last.
  int FirstRow(int y) const;
  int EndRow(int y) const;
  std::vector<int> begin_columns, end_columns;

  const Shape in;
  const int kernel_h, kernel_w, stride_h, stride_w;
  const Extent h, w;
};

}  // namespace r2b
