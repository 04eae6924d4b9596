#include "import.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "limits.h"
#include "reader.h"

namespace r2b {
namespace {

DType ConvertType(tfl::Type type) {
  switch (type) {
    case tfl::kFloat32: return DType::kFloat;
    case tfl::kInt32: return DType::kInt32;
    case tfl::kInt8: return DType::kInt8;
    case tfl::kUInt8: return DType::kUInt8;
    case tfl::kBool: return DType::kBool;
    default: return DType::kOther;
  }
}

struct LceOperator {
  const char* name;
  OpKind kind;
  bool (Reader::*read)();
};
constexpr LceOperator kLceOperators[] = {
    {"LceBconv2d", OpKind::kBconv, &Reader::Bconv},
    {"LceQuantize", OpKind::kQuantize, &Reader::Quantize},
    {"LceDequantize", OpKind::kDequantize, &Reader::Dequantize},
    {"LceBMaxPool2d", OpKind::kBmaxPool, &Reader::BmaxPool},
};

struct Builtin {
  int32_t code;
  OpKind kind;
  bool (Reader::*read)();
  size_t inputs;  // the most inputs that remain in Op::in; `read` has already read the others
};
constexpr Builtin kBuiltins[] = {
    {tfl::kConv2d, OpKind::kConv, &Reader::Conv, 3},
    {tfl::kDepthwiseConv2d, OpKind::kDepthwise, &Reader::Depthwise, 3},
    {tfl::kTransposeConv, OpKind::kTransposeConv, &Reader::TransposeConv, 3},
    {tfl::kMaxPool2d, OpKind::kMaxPool, &Reader::Pool, 1},
    {tfl::kAveragePool2d, OpKind::kAvgPool, &Reader::Pool, 1},
    {tfl::kMean, OpKind::kMean, &Reader::Mean, 1},
    {tfl::kAdd, OpKind::kAdd, &Reader::Elementwise, 2},
    {tfl::kSub, OpKind::kAdd, &Reader::Subtract, 2},
    {tfl::kMul, OpKind::kMul, &Reader::Elementwise, 2},
    {tfl::kPrelu, OpKind::kPrelu, &Reader::Elementwise, 2},
    {tfl::kRelu, OpKind::kClamp, &Reader::Relu, 1},
    {tfl::kRelu6, OpKind::kClamp, &Reader::Relu6, 1},
    {tfl::kReluN1To1, OpKind::kClamp, &Reader::ReluN1To1, 1},
    {tfl::kMinimum, OpKind::kMinimum, &Reader::Extreme, 2},
    {tfl::kMaximum, OpKind::kMaximum, &Reader::Extreme, 2},
    {tfl::kRound, OpKind::kRound, &Reader::Logistic, 1},
    {tfl::kLogistic, OpKind::kLogistic, &Reader::Logistic, 1},
    {tfl::kSoftmax, OpKind::kSoftmax, &Reader::Softmax, 1},
    {tfl::kReshape, OpKind::kReshape, &Reader::Reshape, 2},
    {tfl::kFullyConnected, OpKind::kDense, &Reader::Dense, 3},
    {tfl::kConcatenation, OpKind::kConcat, &Reader::Concat, std::numeric_limits<size_t>::max()},
    {tfl::kSplit, OpKind::kSplit, &Reader::Split, 1},
    {tfl::kStridedSlice, OpKind::kStridedSlice, &Reader::StridedSlice, 1},
    {tfl::kPad, OpKind::kPad, &Reader::Pad, 1},
    {tfl::kPadV2, OpKind::kPad, &Reader::Pad, 1},
    {tfl::kResizeBilinear, OpKind::kResizeBilinear, &Reader::ResizeBilinear, 1},
    {tfl::kQuantize, OpKind::kToBytes, &Reader::ToBytes, 1},
    {tfl::kDequantize, OpKind::kFromBytes, &Reader::FromBytes, 1},
};

Import ImportLce(Reader* reader, const std::string& name, Op* op, std::string* error) {
  for (const LceOperator& known : kLceOperators) {
    if (name != known.name) continue;
    op->kind = known.kind;
    return (reader->*known.read)() ? Import::kClaimed : Import::kFailed;
  }
  *error = name + " (node " + std::to_string(op->node) +
           "): an operator of Larq Compute Engine that this runtime does not know; update r2b-runtime or convert "
           "with version 0.16";
  return Import::kFailed;
}

Import ImportBuiltin(Reader* reader, int32_t code, Op* op, const std::string& error) {
  for (const Builtin& known : kBuiltins) {
    if (code != known.code) continue;
    op->kind = known.kind;
    if (!(reader->*known.read)()) return error.empty() ? Import::kLeft : Import::kFailed;
    // Drops the inputs that `read` has already read. Also drops inputs that the operator does not have: a file may list
    // them as absent (-1).
    op->in.resize(std::min(op->in.size(), known.inputs));
    return Import::kClaimed;
  }
  return Import::kLeft;
}

}  // namespace

bool IsLceOp(const tfl::Registration& r) {
  return r.builtin_code == tfl::kCustom && r.custom_name && !std::strncmp(r.custom_name, "Lce", 3);
}

Tensor ImportTensor(const tfl::Tensor& t, int index) {
  Tensor tensor;
  tensor.type = ConvertType(t.type);
  if (t.dims) tensor.dims.assign(t.dims->data, t.dims->data + t.dims->size);
  if (t.data && (t.allocation_type == tfl::kMmapRo || t.allocation_type == tfl::kPersistentRo))
    tensor.constant = t.data;
  tensor.scale = t.params.scale;
  tensor.zero_point = t.params.zero_point;
  if (const auto* affine = Affine(t); affine && affine->scale)
    tensor.scales.assign(affine->scale->data, affine->scale->data + std::max(affine->scale->size, 0));
  if (tensor.constant && tensor.type != DType::kOther &&
      uint64_t((Elements(tensor.dims) * ByteSize(tensor.type)).value()) > t.bytes)
    throw Refused("tensor " + std::to_string(index) + " has fewer bytes than its shape needs; the file is damaged");
  return tensor;
}

Import ImportNode(const tfl::Context* context, int index, const tfl::Node& node, const tfl::Registration& registration,
                  std::vector<Op>* ops, std::string* error) {
  ops->assign(1, Op());
  Op* op = &ops->front();
  op->node = index;
  Reader reader(context, node, registration.version, op, error);
  const bool several = registration.builtin_code == tfl::kSplit;
  const int outputs = node.outputs ? node.outputs->size : 0;
  if (outputs < 1 || (outputs > 1 && !several) || !node.inputs || node.inputs->size < 1 || node.outputs->data[0] < 0) {
    if (!IsLceOp(registration)) return Import::kLeft;
    *error = std::string(registration.custom_name) + " (node " + std::to_string(index) +
             "): must have inputs and one output";
    return Import::kFailed;
  }
  op->in.assign(node.inputs->data, node.inputs->data + node.inputs->size);
  op->out = node.outputs->data[0];
  if (IsLceOp(registration)) return ImportLce(&reader, registration.custom_name, op, error);
  const Import import = ImportBuiltin(&reader, registration.builtin_code, op, *error);
  if (import != Import::kClaimed || !several) return import;
  const Op first = *op;
  for (int part = 1; part < outputs; ++part) {
    ops->push_back(first);
    ops->back().part = part;
    ops->back().out = node.outputs->data[part];
  }
  return import;
}

}  // namespace r2b
