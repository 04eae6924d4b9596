// Reads the options and operands of one operator into an Op; each method is one kind of operator (import.cc says
// which). Those of Larq Compute Engine (read_lce.cc) fail with a reason; those of TensorFlow Lite (read_builtins.cc)
// are false for a form that plans do not run.
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
  // Whether inputs 0 and 1 and the output are such, not both inputs constant.
  bool FloatPair() const;
  static int Rank(const tfl::Tensor* t) { return t->dims ? t->dims->size : 0; }
  template <class Params>
  const Params* Options() const {
    return static_cast<const Params*>(node_.builtin_data);
  }

  bool Fail(const std::string& what);
  bool Activation(int activation);
  // Larq Compute Engine's options are a map.
  bool Option(const OptionsMap& options, const char* key, int low, int high, int* value);
  bool LceTypes(std::initializer_list<tfl::Type> inputs, std::initializer_list<tfl::Type> outputs);
  bool BconvOptions();
  bool Window(int padding, int sh, int sw, int dh, int dw);
  // The filter and the bias of a convolution whose other operands have been read.
  bool FilterAndBias(const tfl::Tensor* filter, const tfl::Tensor* bias);
  bool Clamp(tfl::Activation activation);
  // The same for a convolution or a dense layer of int8, whose filter has so many dimensions.
  bool ByteFilterAndBias(int rank);
  bool AreInt8(int rank) const;
  // Whether input 0 and the output are int8 of the same scale: numbers of one are numbers of the other.
  bool MovesInt8();
  bool ByteBias(const tfl::Tensor* bias, int outputs);
  // The numbers of a tensor of one scale, or of one for each of `channels` outputs.
  bool ByteScale(const tfl::Tensor* tensor, const char* which);
  bool ByteScales(const tfl::Tensor* weights, int channels);
  static bool IsBytes(const tfl::Tensor* t) { return t && (t->type == tfl::kInt8 || t->type == tfl::kUInt8); }
  // Of an input that must be a constant of so many int32 numbers.
  bool Numbers(int input, int count, std::vector<int>* numbers) const;
  // Counts the axis from the front.
  bool Axis(int axis, int rank);

  const tfl::Context* context_;
  const tfl::Node& node_;
  const int version_;  // of the operator, as the file says; 0: unknown
  Op* op_;
  std::string* error_;
};

constexpr int kMostWindow = 1 << 15;  // of a window's size, stride and dilation

}  // namespace r2b
