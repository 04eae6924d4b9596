// Reads operators out of a TensorFlow Lite interpreter into a Graph.
#pragma once

#include <string>
#include <vector>

#include "graph.h"
#include "tflite_abi.h"

namespace r2b {

enum class Import { kClaimed, kLeft, kFailed };

// Whether the custom operator is one of Larq Compute Engine's.
bool IsLceOp(const tfl::Registration& registration);

// Translates one node, into an operator for each of its outputs; operands keep the interpreter's tensor indices. kLeft:
// some other runtime's business. kFailed: an operator of Larq Compute Engine that cannot be read, or one of 8-bit
// numbers that mean nothing, with the reason in `*error`.
Import ImportNode(const tfl::Context* context, int index, const tfl::Node& node, const tfl::Registration& registration,
                  std::vector<Op>* ops, std::string* error);

// Throws Refused for a constant, tensor `index` of its model, with fewer bytes than its shape needs.
Tensor ImportTensor(const tfl::Tensor& tensor, int index);

}  // namespace r2b
