// The windows of a pooling operator, clipped to the image.
#pragma once

#include <vector>

#include "graph.h"

namespace r2b {

class Window {
 public:
  Window(const Graph& graph, const Op& op);
  // Output row y reads the input rows [FirstRow(y), EndRow(y)). Output column x reads the input columns
  // [begin_columns[x], end_columns[x]).
  int FirstRow(int y) const;
  int EndRow(int y) const;
  std::vector<int> begin_columns, end_columns;

  const Shape in;
  const int kernel_h, kernel_w, stride_h, stride_w;
  const Extent h, w;
};

}  // namespace r2b
