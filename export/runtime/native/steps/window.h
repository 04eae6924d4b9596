// The windows of a pool are clipped to the image.
#pragma once

#include <vector>

#include "graph.h"

namespace r2b {

class Window {
 public:
  Window(const Graph& graph, const Op& op);
  // A row of outputs reads these input rows, and each of its pixels these columns: the first, and one past the last.
  int FirstRow(int y) const;
  int EndRow(int y) const;
  std::vector<int> begin_columns, end_columns;

  const Shape in;
  const int kernel_h, kernel_w, stride_h, stride_w;
  const Extent h, w;
};

}  // namespace r2b
