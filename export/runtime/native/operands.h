// For fusion: how a stage applies another tensor to the values in registers.
#pragma once

#include "steps/step.h"

namespace r2b {

// Completes the stage with which `op` applies tensor `t` to a value; stage->kind must be kMul, kAdd or kPrelu. `shape`
// is the value's shape in the graph, `pixels` its shape in registers; they differ after a RESHAPE. False if no stage
// can apply the tensor.
bool AddOperand(const Graph& graph, const Op& op, int t, const Shape& shape, const Shape& pixels, StagePlan* stage);

}  // namespace r2b
