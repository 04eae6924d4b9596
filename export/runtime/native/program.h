// A program is what a graph is turned into: a short list of steps.
//
// A step starts where values must come from memory (a convolution, a window, or an existing tensor) and absorbs the
// element-wise operators that follow: its result stays in registers while scales, gates, PReLU, shortcuts, batch norms
// and logistic functions are applied. On the way it can store the value (where others read it), pack its signs (for the
// next binary convolution) and sum it over the image (for the next gate). So a Real-to-Binary half block becomes one
// bconv step: popcounts -> x gate -> PReLU -> + shortcut -> store -> batch norm -> sum and sign bits. An operator is
// absorbed only if its other operand does not wait, through any step, for the step that would absorb it.
//
// A window (max pooling) that alone reads a convolution takes it in as its feeder: the convolution's rows are computed
// when the window needs them and live in a ring of a few rows, which stays in the cache where the whole tensor would
// not. If the window takes maxima and is three wide and two apart, the ring holds the maxima of the columns, which are
// taken while the row is in registers; and a PReLU that nowhere falls is applied to the maximum instead of to each
// value.
#pragma once

#include <string>
#include <vector>

#include "graph.h"
#include "steps/step.h"

namespace r2b {

struct Program {
  std::vector<Step> steps;
  int sums = 0;  // how many sums over images there are
};

// Chooses the steps (fuse.cc). The graph's operators must outlive them. False, with the reason, where they cannot be
// put in order.
bool Fuse(const Graph& graph, Program* program, std::string* error);

}  // namespace r2b
