#include <cstring>
#include <limits>

#include "reader.h"

namespace r2b {

bool Reader::FilterAndBias(const tfl::Tensor* filter, const tfl::Tensor* bias) {
  if (!FloatInOut() || !IsConstantFloat(filter) || Rank(filter) != 4 || Rank(Input(0)) != 4) return false;
  op_->kernel_h = filter->dims->data[1];
  op_->kernel_w = filter->dims->data[2];
  return !bias || IsConstantFloat(bias);
}

bool Reader::Numbers(int input, int count, std::vector<int>* numbers) const {
  const tfl::Tensor* t = Input(input);
  if (!IsConstant(t) || t->type != tfl::kInt32 || t->bytes != size_t(count) * sizeof(int32_t)) return false;
  if (Rank(t) > 2) return false;
  int64_t elements = 1;
  for (int i = 0; i < Rank(t); ++i) elements *= t->dims->data[i];
  if (elements != count) return false;
  numbers->resize(size_t(count));
  if (count) std::memcpy(numbers->data(), t->data, t->bytes);
  return true;
}

bool Reader::Axis(int axis, int rank) {
  op_->axis = axis < 0 ? axis + rank : axis;
  return op_->axis >= 0 && op_->axis < rank;
}

bool Reader::Window(int padding, int sh, int sw, int dh, int dw) {
  op_->same_padding = padding == tfl::kPaddingSame;
  op_->stride_h = sh;
  op_->stride_w = sw;
  op_->dilation_h = dh;
  op_->dilation_w = dw;
  for (int size : {op_->kernel_h, op_->kernel_w, sh, sw, dh, dw})
    if (size < 1 || size > kMostWindow) return false;
  return padding == tfl::kPaddingSame || padding == tfl::kPaddingValid;
}

bool Reader::Conv() {
  const auto* p = Options<tfl::ConvParams>();
  if (!p || !(IsBytes(Input(0)) ? ByteFilterAndBias(4) : FilterAndBias(Input(1), Input(2)))) return false;
  if (Input(1)->dims->data[3] != Input(0)->dims->data[3]) return false;  // a grouped convolution
  return Activation(p->activation) &&
         Window(p->padding, p->stride_height, p->stride_width, p->dilation_height_factor, p->dilation_width_factor);
}

bool Reader::Depthwise() {
  const auto* p = Options<tfl::DepthwiseConvParams>();
  return p && FilterAndBias(Input(1), Input(2)) && Activation(p->activation) &&
         Window(p->padding, p->stride_height, p->stride_width, p->dilation_height_factor, p->dilation_width_factor);
}

// The operator's inputs are the output's shape, the filter, the feature map, and optionally a bias.
bool Reader::TransposeConv() {
  constexpr int kVersionOfActivation = 4;
  const auto* p = Options<tfl::TransposeConvParams>();
  const tfl::Tensor *filter = Input(1), *x = Input(2), *bias = Input(3);
  if (!p || !IsFloat(x) || IsConstant(x) || Rank(x) != 4 || !IsFloat(Output()) || !IsConstantFloat(filter) ||
      Rank(filter) != 4 || (bias && !IsConstantFloat(bias)) || !Numbers(0, 4, &op_->numbers))
    return false;
  op_->kernel_h = filter->dims->data[1];
  op_->kernel_w = filter->dims->data[2];
  op_->in = {node_.inputs->data[2], node_.inputs->data[1]};
  if (bias) op_->in.push_back(node_.inputs->data[3]);
  return Activation(version_ >= kVersionOfActivation ? p->activation : tfl::kActNone) &&
         Window(p->padding, p->stride_height, p->stride_width, 1, 1);
}

bool Reader::Pool() {
  const auto* p = Options<tfl::PoolParams>();
  const bool maxima = op_->kind == OpKind::kMaxPool && p && p->activation == tfl::kActNone;
  if (!p || !(FloatInOut() || (maxima && MovesInt8())) || Rank(Input(0)) != 4) return false;
  op_->kernel_h = p->filter_height;
  op_->kernel_w = p->filter_width;
  return Activation(p->activation) && Window(p->padding, p->stride_height, p->stride_width, 1, 1);
}

bool Reader::Mean() {
  const auto* p = Options<tfl::ReducerParams>();
  std::vector<int> a;
  if (!p || !FloatInOut() || Rank(Input(0)) != 4 || !Numbers(1, 2, &a)) return false;
  op_->keep_dims = p->keep_dims;
  return (a[0] == 1 && a[1] == 2) || (a[0] == 2 && a[1] == 1);
}

bool Reader::FloatPair() const {
  const tfl::Tensor *a = Input(0), *b = Input(1);
  return IsFloat(a) && IsFloat(b) && IsFloat(Output()) && Rank(a) <= 4 && Rank(b) <= 4 &&
         !(IsConstant(a) && IsConstant(b));
}

bool Reader::Elementwise() {
  if (!FloatPair()) return false;
  if (op_->kind == OpKind::kPrelu) return !IsConstant(Input(0)) && IsConstant(Input(1));
  const auto* p = Options<tfl::ActivationParams>();
  return p && Activation(p->activation);
}

bool Reader::Subtract() {
  op_->subtract = true;
  return Elementwise();
}

bool Reader::Clamp(tfl::Activation activation) { return Activation(activation) && FloatInOut(); }
bool Reader::Relu() { return Clamp(tfl::kActRelu); }
bool Reader::Relu6() { return Clamp(tfl::kActRelu6); }
bool Reader::ReluN1To1() { return Clamp(tfl::kActReluN1To1); }

// A MINIMUM or MAXIMUM of a tensor and a single constant number becomes a clamp.
bool Reader::Extreme() {
  if (!FloatPair()) return false;
  const int constant = IsConstant(Input(0)) ? 0 : 1;
  const tfl::Tensor *number = Input(constant), *values = Input(1 - constant);
  if (!IsConstant(number) || number->bytes != sizeof(float) || Rank(number) > Rank(values)) return true;
  for (int i = 0; i < Rank(number); ++i)
    if (number->dims->data[i] != 1) return true;
  const bool least = op_->kind == OpKind::kMinimum;
  Activation(tfl::kActRelu);
  std::memcpy(least ? &op_->hi : &op_->lo, number->data, sizeof(float));
  if (least) op_->lo = -std::numeric_limits<float>::infinity();
  op_->kind = OpKind::kClamp;
  op_->in = {node_.inputs->data[1 - constant]};
  return true;
}

bool Reader::Logistic() { return FloatInOut(); }

bool Reader::Softmax() {
  const auto* p = Options<tfl::SoftmaxParams>();
  if (!p || !FloatInOut() || Rank(Input(0)) < 1) return false;
  op_->beta = p->beta;
  return true;
}

bool Reader::Dense() {
  const auto* p = Options<tfl::FullyConnectedParams>();
  const tfl::Tensor *weights = Input(1), *bias = Input(2);
  if (!p || p->weights_format != 0) return false;
  if (IsBytes(Input(0))) {
    if (!ByteFilterAndBias(2)) return false;
  } else {
    if (!FloatInOut() || !IsConstantFloat(weights) || Rank(weights) != 2) return false;
    if (bias && !IsConstantFloat(bias)) return false;
  }
  op_->keep_dims = p->keep_num_dims;
  return Activation(p->activation);
}

bool Reader::Reshape() {
  const tfl::Tensor* shape = Input(1);
  if (!Input(0) || IsConstant(Input(0)) || Rank(Input(0)) > 4 || Rank(Output()) > 4) return false;
  const tfl::Type type = Input(0)->type;
  if (Output()->type != type) return false;  // the bytes are copied unchanged
  if (type != tfl::kFloat32 && type != tfl::kInt32 && type != tfl::kInt8) return false;
  return IsConstant(shape) && shape->type == tfl::kInt32 && Rank(shape) == 1 &&
         shape->bytes >= size_t(shape->dims->data[0]) * 4;
}

bool Reader::Concat() {
  const auto* p = Options<tfl::ConcatenationParams>();
  if (!p || !IsFloat(Output()) || p->activation != tfl::kActNone) return false;
  bool computed = false;
  for (int i = 0; i < node_.inputs->size; ++i) {
    if (!IsFloat(Input(i)) || Rank(Input(i)) < 1 || Rank(Input(i)) > 4) return false;
    computed |= !IsConstant(Input(i));
  }
  return computed && Axis(p->axis, Rank(Input(0)));
}

// The operator's inputs are the axis and the tensor that is split.
bool Reader::Split() {
  const tfl::Tensor* x = Input(1);
  std::vector<int> axis;
  if (!IsFloat(x) || IsConstant(x) || Rank(x) < 1 || Rank(x) > 4 || !Numbers(0, 1, &axis)) return false;
  for (int i = 0; i < node_.outputs->size; ++i) {
    const int t = node_.outputs->data[i];
    if (t < 0 || size_t(t) >= context_->tensors_size || !IsFloat(&context_->tensors[t])) return false;
  }
  op_->in = {node_.inputs->data[1]};
  op_->parts = node_.outputs->size;
  return Axis(axis[0], Rank(x));
}

bool Reader::StridedSlice() {
  constexpr int kVersionOfOffset = 8;
  const auto* p = Options<tfl::StridedSliceParams>();
  if (!p || !FloatInOut() || p->ellipsis_mask || p->new_axis_mask || (version_ >= kVersionOfOffset && p->offset))
    return false;
  const int rank = Rank(Input(0));
  std::vector<int> parts[3];  // begin, end, stride
  for (int i = 0; i < 3; ++i)
    if (!Numbers(i + 1, rank, &parts[i])) return false;
  for (int axis = 0; axis < rank; ++axis) {
    if (parts[2][axis] == 0) return false;
    for (const auto& part : parts) op_->numbers.push_back(part[axis]);
  }
  op_->begin_mask = p->begin_mask;
  op_->end_mask = p->end_mask;
  op_->shrink_mask = p->shrink_axis_mask;
  return rank > 0;
}

bool Reader::Pad() {
  const bool whole = !Input(2) && MovesInt8();
  if (!(whole || FloatInOut()) || !Numbers(1, 2 * Rank(Input(0)), &op_->numbers)) return false;
  for (int size : op_->numbers)
    if (size < 0) return false;
  if (!Input(2)) return true;
  if (!IsConstantFloat(Input(2)) || Input(2)->bytes != sizeof(float)) return false;
  std::memcpy(&op_->fill, Input(2)->data, sizeof(float));
  return true;
}

bool Reader::ResizeBilinear() {
  const auto* p = Options<tfl::ResizeBilinearParams>();
  if (!p || !FloatInOut() || Rank(Input(0)) != 4 || !Numbers(1, 2, &op_->numbers)) return false;
  op_->align_corners = p->align_corners;
  op_->half_pixel_centers = p->half_pixel_centers;
  return op_->numbers[0] > 0 && op_->numbers[1] > 0 && !(p->align_corners && p->half_pixel_centers);
}

}  // namespace r2b
