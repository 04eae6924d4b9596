#include "steps/values.h"

#include <algorithm>

namespace r2b {

ValuesRoot::ValuesRoot(const Graph& graph, const Op& op, const char* name, int products)
    : name_(name),
      values_(std::max(AsImage(graph.tensors[op.in[0]].dims).count(), AsImage(graph.tensors[op.out].dims).count())),
      products_(products) {}

Pixels PixelsOf(const Tensor& tensor) {
  const int channels = tensor.dims.empty() ? 1 : tensor.dims.back();
  return {int(AsImage(tensor.dims).count() / channels), channels};
}

}  // namespace r2b
