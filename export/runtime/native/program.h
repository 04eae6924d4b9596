// A program is a graph that has been turned into a short list of steps.
//
// A step starts where values must come from memory (a convolution, a window, or an existing tensor) and absorbs the
// element-wise operators that follow: its result stays in registers while scales, gates, PReLU, shortcuts, batch norms
// and logistic functions are applied. Between these, the step can store the value for other steps, pack the value's
// signs for the next binary convolution, and sum the value over the image for the next gate. So a Real-to-Binary half
// block becomes one bconv step: popcounts -> times gate -> PReLU -> plus shortcut -> store -> batch norm -> sum and
// sign bits. An operator is absorbed only if its other operand does not depend, directly or through other steps, on the
// step that would absorb it.
//
// If a pooling window is the only reader of a convolution, the window's step absorbs the convolution as its feeder: the
// convolution's rows are computed when the window needs them. They go to a ring buffer of a few rows, which stays in
// the cache where the whole tensor would not. In max pooling a non-decreasing PReLU is applied to the maximum instead
// of to each value. If a max pooling window has width 3 and stride 2, the feeder also takes the maxima over the
// window's columns, while the row is in registers. The ring buffer then holds only these maxima.
#pragma once

#include <string>
#include <vector>

#include "graph.h"
#include "steps/step.h"

namespace r2b {

struct Program {
  std::vector<Step> steps;
  int sums = 0;  // how many steps sum their values over each image
};

// Chooses the steps (fuse.cc). The graph's operators must outlive the steps. False, with the reason in `*error`, if the
// steps cannot be put in order.
bool Fuse(const Graph& graph, Program* program, std::string* error);

}  // namespace r2b
