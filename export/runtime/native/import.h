// Translates TensorFlow Lite's nodes and tensors into the operators and tensors of a Graph.
#pragma once

#include <string>
#include <vector>

#include "graph.h"
#include "tflite_abi.h"

namespace r2b {

enum class Import { kClaimed, kLeft, kFailed };

// Whether the operator belongs to Larq Compute Engine: it is a custom operator, and its name begins with "Lce".
bool IsLceOp(const tfl::Registration& registration);

// Translates a node into `*ops`, one Op for each of the node's outputs. Op::in and Op::out are the tensors' indices in
// `context`. Returns kClaimed if that succeeds, and kLeft if plans do not run such an operator. Returns kFailed, with
// the reason in `*error`, if an operator of Larq Compute Engine cannot be read or an operator's 8-bit operands are
// invalid.
Import ImportNode(const tfl::Context* context, int index, const tfl::Node& node, const tfl::Registration& registration,
                  std::vector<Op>* ops, std::string* error);

// `index` is the tensor's index in its model, for messages. Throws Refused for a constant that has fewer bytes than its
// shape needs.
Tensor ImportTensor(const tfl::Tensor& tensor, int index);

}  // namespace r2b
