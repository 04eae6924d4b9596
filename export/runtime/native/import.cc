#include "import.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "flexbuffer.h"
#include "limits.h"

namespace r2b {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kMost = 1 << 15;  // of a window's size, stride and dilation

bool SetActivation(int activation, Op* op) {
  op->clamp = activation != tfl::kActNone;
  op->lo = activation == tfl::kActReluN1To1 ? -1.0f : 0.0f;
  op->hi = activation == tfl::kActReluN1To1 ? 1.0f : activation == tfl::kActRelu6 ? 6.0f : kInfinity;
  return activation >= tfl::kActNone && activation <= tfl::kActRelu6;
}

DType ConvertType(tfl::Type type) {
  switch (type) {
    case tfl::kFloat32: return DType::kFloat;
    case tfl::kInt32: return DType::kInt32;
    case tfl::kInt8: return DType::kInt8;
    case tfl::kBool: return DType::kBool;
    default: return DType::kOther;
  }
}

class Reader {
 public:
  Reader(const tfl::Context* context, const tfl::Node& node, Op* op, std::string* error)
      : context_(context), node_(node), op_(op), error_(error) {}

  const tfl::Tensor* Input(int i) const {
    if (!node_.inputs || i >= node_.inputs->size) return nullptr;
    const int t = node_.inputs->data[i];
    return t >= 0 && size_t(t) < context_->tensors_size ? &context_->tensors[t] : nullptr;
  }
  const tfl::Tensor* Output() const { return &context_->tensors[node_.outputs->data[0]]; }
  static bool IsFloat(const tfl::Tensor* t) { return t && t->type == tfl::kFloat32; }
  static bool IsConstant(const tfl::Tensor* t) {
    return t && t->data && (t->allocation_type == tfl::kMmapRo || t->allocation_type == tfl::kPersistentRo);
  }
  bool FloatInOut() const {
    return IsFloat(Input(0)) && IsFloat(Output()) && !IsConstant(Input(0)) && Rank(Input(0)) <= 4;
  }
  static int Rank(const tfl::Tensor* t) { return t->dims ? t->dims->size : 0; }

  bool Fail(const std::string& what) {
    *error_ = std::string(OpName(op_->kind)) + " (node " + std::to_string(op_->node) + "): " + what;
    return false;
  }

  bool Option(const OptionsMap& options, const char* key, int low, int high, int* value) {
    int64_t raw;
    if (!options.GetInt(key, &raw))
      return Fail(std::string("option '") + key +
                  "' is missing or no integer; convert the model with Larq Compute Engine 0.7 or newer");
    if (raw < low || raw > high)
      return Fail(std::string("option '") + key + "' = " + std::to_string(raw) + " is not within " +
                  std::to_string(low) + " to " + std::to_string(high) +
                  "; the file is damaged or was written by an unknown converter");
    *value = int(raw);
    return true;
  }

  bool LceTypes(std::initializer_list<tfl::Type> inputs, std::initializer_list<tfl::Type> outputs) {
    auto among = [](tfl::Type type, const std::initializer_list<tfl::Type>& types) {
      for (tfl::Type t : types)
        if (t == type) return true;
      return false;
    };
    if (!Input(0) || !among(Input(0)->type, inputs))
      return Fail("unsupported input type " + std::to_string(Input(0) ? int(Input(0)->type) : -1));
    if (!among(Output()->type, outputs)) return Fail("unsupported output type " + std::to_string(int(Output()->type)));
    for (const tfl::Tensor* t : {Input(0), Output()})
      if (t->type == tfl::kInt8 && !(t->params.scale > 0))
        return Fail("an int8 tensor without a quantization scale; convert the model again");
    return true;
  }

  bool BconvOptions() {
    const OptionsMap options(node_.custom_initial_data, size_t(node_.custom_initial_data_size));
    if (!options.ok()) return Fail("its options are no well-formed map; the file is damaged");
    int padding, pad_value, activation;
    if (!Option(options, "channels_in", 1, 1 << 20, &op_->channels_in) ||
        !Option(options, "stride_height", 1, kMost, &op_->stride_h) ||
        !Option(options, "stride_width", 1, kMost, &op_->stride_w) ||
        !Option(options, "dilation_height_factor", 1, kMost, &op_->dilation_h) ||
        !Option(options, "dilation_width_factor", 1, kMost, &op_->dilation_w) ||
        !Option(options, "padding", 0, 1, &padding) || !Option(options, "pad_values", 0, 1, &pad_value) ||
        !Option(options, "fused_activation_function", 0, 3, &activation))
      return false;
    op_->same_padding = padding == 0;
    op_->pad_one = pad_value == 1;
    return SetActivation(activation, op_);
  }

  bool Bconv() {
    if (!BconvOptions() || !LceTypes({tfl::kInt32}, {tfl::kFloat32, tfl::kInt8, tfl::kInt32})) return false;
    const tfl::Tensor* filter = Input(1);
    if (!filter || filter->type != tfl::kInt32 || !IsConstant(filter) || Rank(filter) != 4)
      return Fail(
          "input 1 must be a constant bit-packed filter of 4 dimensions; convert the model with Larq Compute Engine "
          "0.7 or newer");
    for (int i = 0; i < 4; ++i)
      if (filter->dims->data[i] < 1 || filter->dims->data[i] > kMost)
        return Fail("a filter dimension of " + std::to_string(filter->dims->data[i]));
    op_->kernel_h = filter->dims->data[1];
    op_->kernel_w = filter->dims->data[2];
    return true;
  }

  bool Quantize() { return LceTypes({tfl::kFloat32, tfl::kInt8, tfl::kBool}, {tfl::kInt32}); }
  bool Dequantize() { return LceTypes({tfl::kInt32}, {tfl::kFloat32, tfl::kInt8, tfl::kBool}); }

  bool BmaxPool() {
    const OptionsMap options(node_.custom_initial_data, size_t(node_.custom_initial_data_size));
    if (!options.ok()) return Fail("its options are no well-formed map; the file is damaged");
    int padding;
    if (!Option(options, "filter_height", 1, kMost, &op_->kernel_h) ||
        !Option(options, "filter_width", 1, kMost, &op_->kernel_w) ||
        !Option(options, "stride_height", 1, kMost, &op_->stride_h) ||
        !Option(options, "stride_width", 1, kMost, &op_->stride_w) || !Option(options, "padding", 0, 1, &padding))
      return false;
    op_->same_padding = padding == 0;
    return LceTypes({tfl::kInt32}, {tfl::kInt32});
  }

  // ---- TensorFlow Lite's own operators: claimed only in the forms that the plan runs ----

  template <class Params>
  const Params* Options() const {
    return static_cast<const Params*>(node_.builtin_data);
  }

  bool Window(int padding, int sh, int sw, int dh, int dw) {
    op_->same_padding = padding == tfl::kPaddingSame;
    op_->stride_h = sh;
    op_->stride_w = sw;
    op_->dilation_h = dh;
    op_->dilation_w = dw;
    for (int size : {op_->kernel_h, op_->kernel_w, sh, sw, dh, dw})
      if (size < 1 || size > kMost) return false;
    return padding == tfl::kPaddingSame || padding == tfl::kPaddingValid;
  }

  bool Conv() {
    const auto* p = Options<tfl::ConvParams>();
    const tfl::Tensor *filter = Input(1), *bias = Input(2);
    if (!p || !FloatInOut() || !IsFloat(filter) || !IsConstant(filter) || Rank(filter) != 4 || Rank(Input(0)) != 4)
      return false;
    if (bias && (!IsFloat(bias) || !IsConstant(bias))) return false;
    if (filter->dims->data[3] != Input(0)->dims->data[3]) return false;  // grouped
    op_->kernel_h = filter->dims->data[1];
    op_->kernel_w = filter->dims->data[2];
    return SetActivation(p->activation, op_) &&
           Window(p->padding, p->stride_height, p->stride_width, p->dilation_height_factor, p->dilation_width_factor);
  }

  bool Pool() {
    const auto* p = Options<tfl::PoolParams>();
    if (!p || !FloatInOut() || Rank(Input(0)) != 4) return false;
    op_->kernel_h = p->filter_height;
    op_->kernel_w = p->filter_width;
    return SetActivation(p->activation, op_) && Window(p->padding, p->stride_height, p->stride_width, 1, 1);
  }

  bool Mean() {
    const auto* p = Options<tfl::ReducerParams>();
    const tfl::Tensor* axes = Input(1);
    if (!p || !FloatInOut() || Rank(Input(0)) != 4 || !IsConstant(axes) || axes->type != tfl::kInt32 ||
        Rank(axes) != 1 || axes->dims->data[0] != 2)
      return false;
    const int32_t* a = static_cast<const int32_t*>(axes->data);
    op_->keep_dims = p->keep_dims;
    op_->in.resize(1);
    return (a[0] == 1 && a[1] == 2) || (a[0] == 2 && a[1] == 1);
  }

  bool Elementwise() {
    const tfl::Tensor *a = Input(0), *b = Input(1);
    if (!IsFloat(a) || !IsFloat(b) || !IsFloat(Output()) || Rank(a) > 4 || Rank(b) > 4 ||
        (IsConstant(a) && IsConstant(b)))
      return false;
    if (op_->kind == OpKind::kPrelu) return !IsConstant(a) && IsConstant(b);
    const auto* p = Options<tfl::ActivationParams>();
    return p && SetActivation(p->activation, op_);
  }

  bool Subtract() {
    op_->subtract = true;
    return Elementwise();
  }

  template <tfl::Activation kActivation>
  bool Clamp() {
    return SetActivation(kActivation, op_) && FloatInOut();
  }

  bool Logistic() { return FloatInOut(); }

  bool Softmax() {
    const auto* p = Options<tfl::SoftmaxParams>();
    if (!p || !FloatInOut() || Rank(Input(0)) < 1) return false;
    op_->beta = p->beta;
    return true;
  }

  bool Dense() {
    const auto* p = Options<tfl::FullyConnectedParams>();
    const tfl::Tensor *weights = Input(1), *bias = Input(2);
    if (!p || !FloatInOut() || !IsFloat(weights) || !IsConstant(weights) || Rank(weights) != 2 ||
        p->weights_format != 0)
      return false;
    if (bias && (!IsFloat(bias) || !IsConstant(bias))) return false;
    op_->keep_dims = p->keep_num_dims;
    return SetActivation(p->activation, op_);
  }

  bool Reshape() {
    const tfl::Tensor* shape = Input(1);
    if (!Input(0) || IsConstant(Input(0)) || Rank(Input(0)) > 4 || Rank(Output()) > 4) return false;
    if (Input(0)->type != tfl::kFloat32 && Input(0)->type != tfl::kInt32) return false;
    return IsConstant(shape) && shape->type == tfl::kInt32 && Rank(shape) == 1 &&
           shape->bytes >= size_t(shape->dims->data[0]) * 4;
  }

 private:
  const tfl::Context* context_;
  const tfl::Node& node_;
  Op* op_;
  std::string* error_;
};

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
  size_t inputs;  // how many it reads at most
};
constexpr Builtin kBuiltins[] = {
    {tfl::kConv2d, OpKind::kConv, &Reader::Conv, 3},
    {tfl::kMaxPool2d, OpKind::kMaxPool, &Reader::Pool, 1},
    {tfl::kAveragePool2d, OpKind::kAvgPool, &Reader::Pool, 1},
    {tfl::kMean, OpKind::kMean, &Reader::Mean, 1},  // Mean() has read the axes
    {tfl::kAdd, OpKind::kAdd, &Reader::Elementwise, 2},
    {tfl::kSub, OpKind::kAdd, &Reader::Subtract, 2},
    {tfl::kMul, OpKind::kMul, &Reader::Elementwise, 2},
    {tfl::kPrelu, OpKind::kPrelu, &Reader::Elementwise, 2},
    {tfl::kRelu, OpKind::kClamp, &Reader::Clamp<tfl::kActRelu>, 1},
    {tfl::kRelu6, OpKind::kClamp, &Reader::Clamp<tfl::kActRelu6>, 1},
    {tfl::kReluN1To1, OpKind::kClamp, &Reader::Clamp<tfl::kActReluN1To1>, 1},
    {tfl::kLogistic, OpKind::kLogistic, &Reader::Logistic, 1},
    {tfl::kSoftmax, OpKind::kSoftmax, &Reader::Softmax, 1},
    {tfl::kReshape, OpKind::kReshape, &Reader::Reshape, 2},
    {tfl::kFullyConnected, OpKind::kDense, &Reader::Dense, 3},
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

Import ImportBuiltin(Reader* reader, int32_t code, Op* op) {
  for (const Builtin& known : kBuiltins) {
    if (code != known.code) continue;
    op->kind = known.kind;
    if (!(reader->*known.read)()) return Import::kLeft;
    // A file may list inputs beyond those that the operator has, absent ones (-1) among them.
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
  if (tensor.constant && tensor.type != DType::kOther &&
      uint64_t((Elements(tensor.dims) * ByteSize(tensor.type)).value()) > t.bytes)
    throw Refused("tensor " + std::to_string(index) + " has fewer bytes than its shape needs; the file is damaged");
  return tensor;
}

Import ImportNode(const tfl::Context* context, int index, const tfl::Node& node, const tfl::Registration& registration,
                  Op* op, std::string* error) {
  Reader reader(context, node, op, error);
  op->node = index;
  if (!node.outputs || node.outputs->size != 1 || !node.inputs || node.inputs->size < 1 || node.outputs->data[0] < 0) {
    if (!IsLceOp(registration)) return Import::kLeft;
    *error = std::string(registration.custom_name) + " (node " + std::to_string(index) +
             "): must have inputs and one output";
    return Import::kFailed;
  }
  op->in.assign(node.inputs->data, node.inputs->data + node.inputs->size);
  op->out = node.outputs->data[0];
  if (IsLceOp(registration)) return ImportLce(&reader, registration.custom_name, op, error);
  return ImportBuiltin(&reader, registration.builtin_code, op);
}

}  // namespace r2b
