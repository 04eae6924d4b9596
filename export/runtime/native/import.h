// Translates TensorFlow Lite's nodes and tensors into the operators and tensors of a Graph.
#pragma once

#include <string>
#include <vector>

#include "graph.h"
#include "tflite_abi.h"

namespace r2b {

enum class Import { kClaimed, kLeft, kFailed };

// Whether it is an operator of Larq Compute Engine: a custom operator whose name begins with "Lce".
bool IsLceOp(const tfl::Registration& registration);

// Translates a node into `*ops`: one operator for each of its outputs, whose operands are the indices of the node's
// tensors. Returns kClaimed if that succeeds, and kLeft if plans do not run such an operator. Returns kFailed, with the
// reason in `*error`, if an operator of Larq Compute Engine cannot be read or an operator's 8-bit tensors have an
// invalid quantisation.
Import ImportNode(const tfl::Context* context, int index, const tfl::Node& node, const tfl::Registration& registration,
                  std::vector<Op>* ops, std::string* error);

// `index` is the tensor's index in its model, for messages. Throws Refused for a constant that has fewer bytes than its
// shape needs.
Tensor ImportTensor(const tfl::Tensor& tensor, int index);

}  // namespace r2b
