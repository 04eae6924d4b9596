// For fusion: how a stage applies another tensor to the values in registers.
#pragma once

#include "steps/step.h"

namespace r2b {

// Completes the stage with which `op` applies tensor `t` to a value. In the graph the value has shape `shape`; in
// registers it has the pixels of `pixels`. False if no stage can apply the tensor.
bool AddOperand(const Graph& graph, const Op& op, int t, const Shape& shape, const Shape& pixels, StagePlan* stage);

}  // namespace r2b
