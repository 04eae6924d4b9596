// Translates TensorFlow Lite's nodes and tensors into those of a Graph.
#pragma once

#include <string>
#include <vector>

#include "graph.h"
#include "tflite_abi.h"

namespace r2b {

enum class Import { kClaimed, kLeft, kFailed };

// Whether the custom operator is one of Larq Compute Engine's.
bool IsLceOp(const tfl::Registration& registration);

// Translates a node into one operator for each of its outputs; operands keep the interpreter's tensor indices. kLeft:
// the node is left to another runtime. kFailed, with the reason in `*error`: it is an operator of Larq Compute Engine
// that cannot be read, or its 8-bit tensors have an invalid quantisation.
Import ImportNode(const tfl::Context* context, int index, const tfl::Node& node, const tfl::Registration& registration,
                  std::vector<Op>* ops, std::string* error);

// `index` is the tensor's index in its model, for messages. Throws Refused for a constant that has fewer bytes than its
// shape needs.
Tensor ImportTensor(const tfl::Tensor& tensor, int index);

}  // namespace r2b
