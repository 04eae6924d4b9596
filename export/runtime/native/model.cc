#include "model.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

#include "flatbuffer.h"
#include "import.h"
#include "limits.h"
#include "operator_names.h"
#include "tflite_abi.h"

namespace r2b {
namespace {

// The numbers of the fields that are read from each table, as in TensorFlow Lite's schema (schema.fbs, version 3).
namespace field {
enum Model { kVersion = 0, kOperatorCodes = 1, kSubgraphs = 2, kBuffers = 4 };
enum OperatorCode { kOldBuiltinCode = 0, kCustomCode = 1, kCodeVersion = 2, kBuiltinCode = 3 };
enum Subgraph { kTensors = 0, kInputs = 1, kOutputs = 2, kOperators = 3 };
enum Tensor { kShape = 0, kType = 1, kBuffer = 2, kName = 3, kQuantization = 4, kIsVariable = 5 };
enum Quantization { kScale = 2, kZeroPoint = 3, kQuantizedDimension = 6 };
enum Operator { kOpcode = 0, kOpInputs = 1, kOpOutputs = 2, kOptions = 4, kCustomOptions = 5 };
enum Conv { kConvPadding, kConvStrideW, kConvStrideH, kConvActivation, kConvDilationW, kConvDilationH };
enum Depthwise {
  kDepthwisePadding,
  kDepthwiseStrideW,
  kDepthwiseStrideH,
  kDepthwiseMultiplier,
  kDepthwiseActivation,
  kDepthwiseDilationW,
  kDepthwiseDilationH
};
enum TransposeConv { kTransposePadding, kTransposeStrideW, kTransposeStrideH, kTransposeActivation };
enum Concatenation { kConcatAxis, kConcatActivation };
enum StridedSlice { kBeginMask, kEndMask, kEllipsisMask, kNewAxisMask, kShrinkMask, kOffset };
enum ResizeBilinear { kAlignCorners = 2, kHalfPixelCenters = 3 };
enum Pool { kPoolPadding, kPoolStrideW, kPoolStrideH, kPoolFilterW, kPoolFilterH, kPoolActivation };
enum Dense { kDenseActivation, kDenseFormat, kDenseKeepDims };
}  // namespace field

constexpr uint32_t kSchemaVersion = 3;
constexpr int kMostRank = 8;
constexpr size_t kMostScales = size_t(1) << 22;

// Converts a number of the schema's TensorType.
tfl::Type TypeOf(int8_t schema) {
  switch (schema) {
    case 0: return tfl::kFloat32;
    case 2: return tfl::kInt32;
    case 3: return tfl::kUInt8;
    case 4: return tfl::kInt64;
    case 6: return tfl::kBool;
    case 9: return tfl::kInt8;
    default: return tfl::kNoType;
  }
}

size_t ElementBytes(tfl::Type type) {
  switch (type) {
    case tfl::kFloat32:
    case tfl::kInt32: return 4;
    case tfl::kInt64: return 8;
    default: return 1;
  }
}

tfl::Padding PaddingOf(int8_t schema) {
  return schema == 0 ? tfl::kPaddingSame : schema == 1 ? tfl::kPaddingValid : tfl::kPaddingUnknown;
}

// An operator's name from the file, shortened and made printable for messages.
std::string Printable(const std::string& name) {
  constexpr size_t kMost = 64;
  std::string printable = name.substr(0, kMost);
  for (char& c : printable)
    if (c < ' ' || c > '~') c = '?';
  return printable;
}

// A list of integers in TensorFlow Lite's layout.
class IntList {
 public:
  explicit IntList(const FlatVector<int32_t>& values) : values_{int(values.size())} {
    for (size_t i = 0; i < values.size(); ++i) values_.push_back(values[i]);
  }
  tfl::IntArray* get() { return reinterpret_cast<tfl::IntArray*>(values_.data()); }

 private:
  std::vector<int> values_;
};

// A tensor's quantisation in TensorFlow Lite's layout.
class Quantization {
 public:
  Quantization(const FlatVector<float>& scales, const FlatVector<int64_t>& zero_points, int dimension) {
    for (size_t i = 0; i < scales.size(); ++i) {
      // Zero points are clamped to fit 32 bits. kMostZeroPoint is invalid for every type, so invalid ones stay invalid.
      const int64_t zero_point = i < zero_points.size() ? zero_points[i] : 0;
      Append(scales[i], &scales_);
      Append(int32_t(std::clamp<int64_t>(zero_point, -kMostZeroPoint, kMostZeroPoint)), &zero_points_);
    }
    const auto count = int32_t(scales.size());
    for (auto* list : {&scales_, &zero_points_}) std::memcpy(list->data(), &count, sizeof count);
    affine_ = {reinterpret_cast<tfl::FloatArray*>(scales_.data()),
               reinterpret_cast<tfl::IntArray*>(zero_points_.data()), dimension};
  }
  tfl::AffineQuantization* get() { return &affine_; }

 private:
  static constexpr int64_t kMostZeroPoint = 1 << 20;

  template <class T>
  static void Append(T value, std::vector<uint8_t>* list) {
    list->resize(list->size() + sizeof value);
    std::memcpy(list->data() + list->size() - sizeof value, &value, sizeof value);
  }

  std::vector<uint8_t> scales_ = std::vector<uint8_t>(sizeof(int32_t)), zero_points_ = scales_;  // begin with a count
  tfl::AffineQuantization affine_{};
};

// The options of one operator of any kind.
union Options {
  tfl::ConvParams conv;
  tfl::PoolParams pool;
  tfl::FullyConnectedParams dense;
  tfl::ActivationParams activation;
  tfl::ReducerParams reducer;
  tfl::SoftmaxParams softmax;
  tfl::DepthwiseConvParams depthwise;
  tfl::TransposeConvParams transpose_conv;
  tfl::ConcatenationParams concatenation;
  tfl::StridedSliceParams strided_slice;
  tfl::ResizeBilinearParams resize_bilinear;
};

Options OptionsOf(int builtin, const FlatTable& table) {
  const auto activation = [&](int place) { return tfl::Activation(table.Scalar<int8_t>(place, 0)); };
  const auto number = [&](int place, int absent) { return int(table.Scalar<int32_t>(place, absent)); };
  const auto flag = [&](int place) { return table.Scalar<uint8_t>(place, 0) != 0; };
  Options options{};
  switch (builtin) {
    case tfl::kDepthwiseConv2d:
      options.depthwise = {PaddingOf(table.Scalar<int8_t>(field::kDepthwisePadding, 0)),
                           number(field::kDepthwiseStrideW, 0),
                           number(field::kDepthwiseStrideH, 0),
                           number(field::kDepthwiseMultiplier, 0),
                           activation(field::kDepthwiseActivation),
                           number(field::kDepthwiseDilationW, 1),
                           number(field::kDepthwiseDilationH, 1)};
      break;
    case tfl::kTransposeConv:
      options.transpose_conv = {PaddingOf(table.Scalar<int8_t>(field::kTransposePadding, 0)),
                                number(field::kTransposeStrideW, 0), number(field::kTransposeStrideH, 0),
                                activation(field::kTransposeActivation)};
      break;
    case tfl::kConcatenation:
      options.concatenation = {number(field::kConcatAxis, 0), activation(field::kConcatActivation)};
      break;
    case tfl::kStridedSlice:
      options.strided_slice = {number(field::kBeginMask, 0),    number(field::kEndMask, 0),
                               number(field::kEllipsisMask, 0), number(field::kNewAxisMask, 0),
                               number(field::kShrinkMask, 0),   flag(field::kOffset)};
      break;
    case tfl::kResizeBilinear:
      options.resize_bilinear = {flag(field::kAlignCorners), flag(field::kHalfPixelCenters)};
      break;
    case tfl::kConv2d:
      options.conv = {PaddingOf(table.Scalar<int8_t>(field::kConvPadding, 0)),
                      number(field::kConvStrideW, 0),
                      number(field::kConvStrideH, 0),
                      activation(field::kConvActivation),
                      number(field::kConvDilationW, 1),
                      number(field::kConvDilationH, 1)};
      break;
    case tfl::kAveragePool2d:
    case tfl::kMaxPool2d:
      options.pool = {PaddingOf(table.Scalar<int8_t>(field::kPoolPadding, 0)),
                      number(field::kPoolStrideW, 0),
                      number(field::kPoolStrideH, 0),
                      number(field::kPoolFilterW, 0),
                      number(field::kPoolFilterH, 0),
                      activation(field::kPoolActivation)};
      break;
    case tfl::kFullyConnected:
      options.dense = {activation(field::kDenseActivation), table.Scalar<int8_t>(field::kDenseFormat, 0),
                       table.Scalar<uint8_t>(field::kDenseKeepDims, 0) != 0};
      break;
    case tfl::kAdd:
    case tfl::kSub:
    case tfl::kMul: options.activation = {activation(0)}; break;
    case tfl::kMean: options.reducer = {table.Scalar<uint8_t>(0, 0) != 0}; break;
    case tfl::kSoftmax: options.softmax = {table.Scalar<float>(0, 0)}; break;
    default: break;
  }
  return options;
}

// The file's only subgraph, in TensorFlow Lite's structures.
class Layout {
 public:
  explicit Layout(Bytes file) : root_(FlatTable::Root(file)) {
    if (root_.Scalar<uint32_t>(field::kVersion, 0) != kSchemaVersion)
      throw Refused("this is not a TensorFlow Lite model (schema version 3); give a .tflite file");
    const auto subgraphs = root_.Vector<uint32_t>(field::kSubgraphs);
    if (subgraphs.size() != 1)
      throw Refused("the model has " + std::to_string(subgraphs.size()) +
                    " subgraphs, and the engine runs only models with one; run it in a TensorFlow Lite interpreter "
                    "with this delegate");
    subgraph_ = subgraphs.table(0);
    LayTensors();
    context_.tensors = tensors_.data();
    context_.tensors_size = tensors_.size();
  }

  size_t tensors() const { return tensors_.size(); }
  // A tensor of the subgraph, without its name.
  Tensor Import(int tensor) const { return ImportTensor(tensors_[tensor], tensor); }
  std::string Name(int tensor) const {
    return subgraph_.Vector<uint32_t>(field::kTensors).table(size_t(tensor)).Text(field::kName);
  }
  std::vector<int> Inputs() const { return Indices(subgraph_.Vector<int32_t>(field::kInputs), "an input"); }
  std::vector<int> Outputs() const { return Indices(subgraph_.Vector<int32_t>(field::kOutputs), "an output"); }

  // The operators, in the file's order.
  std::vector<Op> Operators() const {
    const auto codes = root_.Vector<uint32_t>(field::kOperatorCodes);
    const auto operators = subgraph_.Vector<uint32_t>(field::kOperators);
    std::vector<Op> ops;
    for (size_t i = 0; i < operators.size(); ++i) {
      const FlatTable table = operators.table(i);
      const uint32_t code = table.Scalar<uint32_t>(field::kOpcode, 0);
      if (code >= codes.size()) throw Refused("node " + std::to_string(i) + " has no operator; the file is damaged");
      for (Op& op : ImportOperator(int(i), table, codes.table(code))) ops.push_back(std::move(op));
    }
    return ops;
  }

 private:
  void LayTensors() {
    const auto buffers = root_.Vector<uint32_t>(field::kBuffers);
    const auto tensors = subgraph_.Vector<uint32_t>(field::kTensors);
    tensors_.resize(tensors.size());
    for (size_t t = 0; t < tensors.size(); ++t) {
      const FlatTable table = tensors.table(t);
      const auto shape = table.Vector<int32_t>(field::kShape);
      const uint32_t buffer = table.Scalar<uint32_t>(field::kBuffer, 0);
      const std::string place = "tensor " + std::to_string(t);
      if (shape.size() > kMostRank)
        throw Refused(place + " has " + std::to_string(shape.size()) + " dimensions; at most 8 can be run");
      if (buffer >= buffers.size()) throw Refused(place + " has no buffer; the file is damaged");
      if (table.Scalar<uint8_t>(field::kIsVariable, 0))
        throw Refused(place + " keeps its value from run to run, which the engine does not support");
      shapes_.emplace_back(shape);
      tfl::Tensor& tensor = tensors_[t];
      tensor.type = TypeOf(table.Scalar<int8_t>(field::kType, 0));
      LayQuantization(table.Table(field::kQuantization), &tensor);
      const auto values = buffers.table(buffer).Vector<uint8_t>(0);
      if (values.size()) {
        tensor.data = const_cast<uint8_t*>(values.data());
        tensor.bytes = values.size();
        tensor.allocation_type = tfl::kMmapRo;
        if (reinterpret_cast<uintptr_t>(tensor.data) % ElementBytes(tensor.type))
          throw Refused(place + " is not aligned for its type; the file is damaged");
      }
    }
    for (size_t t = 0; t < tensors_.size(); ++t) tensors_[t].dims = shapes_[t].get();
  }

  // Reads the tensor's quantisation: a scale and a zero point for the whole tensor, or for each index of one dimension.
  // Absent zero points are 0.
  void LayQuantization(const FlatTable& table, tfl::Tensor* tensor) {
    const auto scales = table.Vector<float>(field::kScale);
    const auto zero_points = table.Vector<int64_t>(field::kZeroPoint);
    if (scales.size() == 0) return;
    scales_ += scales.size();  // limited: each tensor gets a copy of its list, which many may share
    if (scales_ > kMostScales)
      throw Refused("the tensors have more than " + std::to_string(kMostScales) + " scales; the file is damaged");
    quantizations_.emplace_back(scales, zero_points, table.Scalar<int32_t>(field::kQuantizedDimension, 0));
    tfl::AffineQuantization* affine = quantizations_.back().get();
    tensor->quantization = {tfl::kAffineQuantization, affine};
    if (scales.size() == 1) tensor->params = {affine->scale->data[0], affine->zero_point->data[0]};
  }

  std::vector<int> Indices(const FlatVector<int32_t>& list, const char* what) const {
    std::vector<int> indices;
    for (size_t i = 0; i < list.size(); ++i) {
      if (list[i] < 0 || size_t(list[i]) >= tensors_.size())
        throw Refused(std::string(what) + " of the model is not one of its tensors; the file is damaged");
      indices.push_back(list[i]);
    }
    return indices;
  }

  std::vector<Op> ImportOperator(int index, const FlatTable& table, const FlatTable& code) const {
    const auto inputs = table.Vector<int32_t>(field::kOpInputs), outputs = table.Vector<int32_t>(field::kOpOutputs);
    for (const auto* list : {&inputs, &outputs})
      for (size_t i = 0; i < list->size(); ++i)
        if ((*list)[i] < tfl::kOptionalTensor || (*list)[i] >= int64_t(tensors_.size()))
          throw Refused("node " + std::to_string(index) +
                        " has an operand that is not a tensor of the model; the file is damaged");
    const std::string name = Printable(code.Text(field::kCustomCode));
    tfl::Registration registration{};
    registration.builtin_code =
        std::max<int32_t>(code.Scalar<int8_t>(field::kOldBuiltinCode, 0), code.Scalar<int32_t>(field::kBuiltinCode, 0));
    registration.version = code.Scalar<int32_t>(field::kCodeVersion, 1);
    registration.custom_name = name.c_str();
    IntList in(inputs), out(outputs);
    Options options = OptionsOf(registration.builtin_code, table.Table(field::kOptions));
    const auto custom = table.Vector<uint8_t>(field::kCustomOptions);
    tfl::Node node{};
    node.inputs = in.get();
    node.outputs = out.get();
    node.builtin_data = &options;
    node.custom_initial_data = custom.data();
    node.custom_initial_data_size = int(custom.size());
    std::vector<Op> ops;
    std::string error;
    switch (ImportNode(&context_, index, node, registration, &ops, &error)) {
      case Import::kClaimed: return ops;
      case Import::kFailed: throw Refused(error);
      case Import::kLeft: break;
    }
    const std::string kind =
        registration.builtin_code == tfl::kCustom ? "'" + name + "'" : BuiltinName(registration.builtin_code);
    throw Refused(kind + " (node " + std::to_string(index) +
                  "): the engine does not run this operator, or not with these operands and options; a TensorFlow Lite "
                  "interpreter with this delegate runs it (in Python: engine=\"litert\")");
  }

  FlatTable root_, subgraph_;
  std::vector<tfl::Tensor> tensors_;
  std::vector<IntList> shapes_;
  std::deque<Quantization> quantizations_;  // tensors point to them, so they must not move
  size_t scales_ = 0;
  tfl::Context context_{};
};

// Throws Refused unless every operand is an input of the model, a constant, or the result of an earlier operator, and
// no tensor is written twice.
void CheckOrder(const Graph& graph, const std::vector<int>& inputs) {
  std::vector<bool> known(graph.tensors.size(), false);
  for (size_t t = 0; t < known.size(); ++t) known[t] = graph.tensors[t].constant != nullptr;
  for (int t : inputs) {
    if (graph.tensors[t].constant) throw Refused("an input of the model is a constant; the file is damaged");
    known[t] = true;
  }
  for (const Op& op : graph.ops) {
    for (int t : op.in)
      if (t >= 0 && !known[t])
        throw Refused("node " + std::to_string(op.node) +
                      " reads a tensor that no operator before it writes; the file is damaged");
    if (known[op.out])
      throw Refused("node " + std::to_string(op.node) +
                    " writes a tensor that already has a value; the file is damaged");
    known[op.out] = true;
  }
}

}  // namespace

Model::Model(std::vector<uint8_t> file) : copy_(std::move(file)), file_{copy_.data(), copy_.size()} { Read(); }

Model::Model(Bytes file) : file_(file) {
  if (reinterpret_cast<uintptr_t>(file.data) % kFileAlign)
    throw Refused("a model that is not copied must begin at a multiple of " + std::to_string(kFileAlign) +
                  " bytes; align it, or load it with a copy");
  Read();
}

void Model::Read() {
  const Layout layout(file_);
  graph_.ops = layout.Operators();
  for (size_t t = 0; t < layout.tensors(); ++t) graph_.tensors.push_back(layout.Import(int(t)));
  inputs_ = layout.Inputs();
  outputs_ = layout.Outputs();
  CheckOrder(graph_, inputs_);
  // Only the names of inputs and outputs are needed. The names of all tensors could take more memory than the rest of
  // the graph.
  for (const std::vector<int>* list : {&inputs_, &outputs_})
    for (int t : *list) graph_.tensors[t].name = layout.Name(t);
  std::vector<bool> read(graph_.tensors.size(), false), written(graph_.tensors.size(), false);
  for (const Op& op : graph_.ops) {
    for (int t : op.in)
      if (t >= 0) read[t] = true;
    written[op.out] = true;
  }
  for (int t : inputs_)
    if (read[t]) {
      graph_.inputs.push_back(t);
      read[t] = false;  // list it once, even if the file repeats it
    }
  for (int t : outputs_) {
    if (std::find(graph_.outputs.begin(), graph_.outputs.end(), t) != graph_.outputs.end()) continue;
    if (!written[t]) throw Refused("an output of the model is computed by no operator");
    graph_.outputs.push_back(t);
  }
  if (outputs_.empty()) throw Refused("the model has no outputs");
}

}  // namespace r2b
