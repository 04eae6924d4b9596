// Reads the options and operands of one operator into an Op. import.cc lists which public method reads which operators.
// A method returns false if it cannot read the operator. For Larq Compute Engine's operators (read_lce.cc), `*error`
// then has the reason. For TensorFlow Lite's operators (read_builtins.cc, read_bytes.cc), `*error` has a reason only if
// 8-bit operands are invalid. Otherwise it stays empty: plans do not run the operator in this form.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "flexbuffer.h"
#include "graph.h"
#include "tflite_abi.h"

namespace r2b {

class Reader {
 public:
  Reader(const tfl::Context* context, const tfl::Node& node, int version, Op* op, std::string* error)
      : context_(context), node_(node), version_(version), op_(op), error_(error) {}

  bool Bconv();
  bool Quantize();
  bool Dequantize();
  bool BmaxPool();

  bool Conv();
  bool Depthwise();
  bool TransposeConv();
  bool Pool();
  bool Mean();
  bool Elementwise();
  bool Subtract();
  bool Relu();
  bool Relu6();
  bool ReluN1To1();
  bool Extreme();
  bool Logistic();
  bool Softmax();
  bool Dense();
  bool Reshape();
  bool Concat();
  bool Split();
  bool StridedSlice();
  bool Pad();
  bool ResizeBilinear();

  bool ToBytes();
  bool FromBytes();

 private:
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
  static bool IsConstantFloat(const tfl::Tensor* t) { return IsFloat(t) && IsConstant(t); }
  bool FloatInOut() const {
    return IsFloat(Input(0)) && IsFloat(Output()) && !IsConstant(Input(0)) && Rank(Input(0)) <= 4;
  }
  // Whether inputs 0 and 1 and the output are float32, both inputs have at most 4 dimensions, and at least one of them
  // is not a constant.
  bool FloatPair() const;
  static int Rank(const tfl::Tensor* t) { return t->dims ? t->dims->size : 0; }
  template <class Params>
  const Params* Options() const {
    return static_cast<const Params*>(node_.builtin_data);
  }

  bool Fail(const std::string& what);
  bool Activation(int activation);
  // Reads an option of an operator of Larq Compute Engine: an integer from `low` to `high`.
  bool Option(const OptionsMap& options, const char* key, int low, int high, int* value);
  bool LceTypes(std::initializer_list<tfl::Type> inputs, std::initializer_list<tfl::Type> outputs);
  bool BconvOptions();
  bool Window(int padding, int sh, int sw, int dh, int dw);
  // Checks the operands of a float convolution and reads the kernel's size. `bias` may be null.
  bool FilterAndBias(const tfl::Tensor* filter, const tfl::Tensor* bias);
  bool Clamp(tfl::Activation activation);
  // Like FilterAndBias(), for an int8 convolution (`rank` 4) or an int8 dense layer (`rank` 2).
  bool ByteFilterAndBias(int rank);
  bool AreInt8(int rank) const;
  // Whether input 0 and the output are int8 with the same scale and zero point, and input 0 is not a constant. The
  // operator can then copy numbers unchanged.
  bool MovesInt8();
  bool ByteBias(const tfl::Tensor* bias, int outputs);
  // Checks the quantisation of a tensor, which must have one scale. `which` names the tensor in the error message.
  bool ByteScale(const tfl::Tensor* tensor, const char* which);
  // Checks the quantisation of weights, which must have one scale, or one for each of `channels` output channels.
  bool ByteScales(const tfl::Tensor* weights, int channels);
  static bool IsBytes(const tfl::Tensor* t) { return t && (t->type == tfl::kInt8 || t->type == tfl::kUInt8); }
  // Reads the input with index `input`. False unless it is a constant of `count` int32 numbers.
  bool Numbers(int input, int count, std::vector<int>* numbers) const;
  // Sets Op::axis. A negative `axis` counts from the end of the `rank` axes. False if `axis` is out of range.
  bool Axis(int axis, int rank);

  const tfl::Context* context_;
  const tfl::Node& node_;
  const int version_;  // the operator's version in the file; 0: unknown
  Op* op_;
  std::string* error_;
};

constexpr int kMostWindow = 1 << 15;  // the largest size, stride and dilation of a window

}  // namespace r2b
