// Fusion finds here how a stage can apply another tensor to the values in registers.
#pragma once

#include "steps/step.h"

namespace r2b {

// Completes the stage by which `op` applies tensor `t` to a value of shape `shape` in the graph that has the pixels of
// `pixels` in registers. False where no stage applies it.
bool AddOperand(const Graph& graph, const Op& op, int t, const Shape& shape, const Shape& pixels, StagePlan* stage);

}  // namespace r2b
