#include <cmath>

#include "reader.h"

namespace r2b {
namespace {

// Says what is wrong with a scale that is not finite or not above 0. The number itself would explain no more, and code
// that prints floats would add 13 KB to the WebAssembly file.
const char* Kind(float scale) {
  if (std::isnan(scale)) return "not a number";
  if (std::isinf(scale)) return "infinite";
  return scale == 0 ? "0" : "negative";
}

}  // namespace

bool Reader::ByteScale(const tfl::Tensor* t, const char* which) {
  const tfl::AffineQuantization* affine = Affine(*t);
  if (affine && affine->scale && affine->scale->size > 1)
    return Fail(std::string(which) + " must have one scale; it has " + std::to_string(affine->scale->size) +
                "; convert the model again");
  if (!(t->params.scale > 0) || !std::isfinite(t->params.scale))
    return Fail(std::string(which) + " must have a finite scale above 0; it is " + Kind(t->params.scale) +
                "; convert the model again");
  const int low = t->type == tfl::kUInt8 ? 0 : -128, high = low + 255;
  if (t->params.zero_point < low || t->params.zero_point > high)
    return Fail(std::string(which) + " must have a zero point within " + std::to_string(low) + " to " +
                std::to_string(high) + "; it is " + std::to_string(t->params.zero_point) + "; convert the model again");
  return true;
}

bool Reader::ByteScales(const tfl::Tensor* weights, int channels) {
  const tfl::AffineQuantization* affine = Affine(*weights);
  const int scales = affine && affine->scale ? affine->scale->size : 0;
  if (scales != 1 && scales != channels)
    return Fail("int8 weights must have one scale, or one for each of the " + std::to_string(channels) +
                " output channels; they have " + std::to_string(scales) + "; convert the model again");
  if (scales > 1 && affine->quantized_dimension != 0)
    return Fail("the scales of int8 weights must be those of dimension 0, the output channels; they are of dimension " +
                std::to_string(affine->quantized_dimension) + "; convert the model again");
  for (int i = 0; i < scales; ++i)
    if (!(affine->scale->data[i] > 0) || !std::isfinite(affine->scale->data[i]))
      return Fail("a scale of int8 weights must be finite and above 0; number " + std::to_string(i) + " is " +
                  Kind(affine->scale->data[i]) + "; convert the model again");
  for (int i = 0; affine->zero_point && i < affine->zero_point->size; ++i)
    if (affine->zero_point->data[i] != 0)
      return Fail("int8 weights must have the zero point 0; number " + std::to_string(i) + " is " +
                  std::to_string(affine->zero_point->data[i]) + "; convert the model again");
  return true;
}

bool Reader::ByteBias(const tfl::Tensor* bias, int outputs) {
  if (bias->type != tfl::kInt32 || !IsConstant(bias) || Rank(bias) != 1 || bias->dims->data[0] != outputs)
    return Fail("the bias of an int8 operator must be a constant vector of " + std::to_string(outputs) +
                " int32 numbers; convert the model again");
  return true;
}

bool Reader::AreInt8(int rank) const {
  const tfl::Tensor *x = Input(0), *weights = Input(1);
  return x->type == tfl::kInt8 && Output()->type == tfl::kInt8 && !IsConstant(x) && Rank(x) <= 4 && weights &&
         weights->type == tfl::kInt8 && IsConstant(weights) && Rank(weights) == rank && weights->dims->data[0] > 0;
}

bool Reader::ByteFilterAndBias(int rank) {
  if (!AreInt8(rank) || (rank == 4 && Rank(Input(0)) != 4)) return false;
  const tfl::Tensor* weights = Input(1);
  const int outputs = weights->dims->data[0];
  if (rank == 4) {
    op_->kernel_h = weights->dims->data[1];
    op_->kernel_w = weights->dims->data[2];
  }
  return ByteScale(Input(0), "the input of an int8 operator") &&
         ByteScale(Output(), "the output of an int8 operator") && ByteScales(weights, outputs) &&
         (!Input(2) || ByteBias(Input(2), outputs));
}

bool Reader::MovesInt8() {
  const tfl::Tensor *x = Input(0), *out = Output();
  if (!x || x->type != tfl::kInt8 || out->type != tfl::kInt8 || IsConstant(x) || Rank(x) > 4) return false;
  return ByteScale(x, "the input") && ByteScale(out, "the output") && x->params.scale == out->params.scale &&
         x->params.zero_point == out->params.zero_point;
}

bool Reader::ToBytes() {
  const tfl::Tensor *x = Input(0), *out = Output();
  if (!x || IsConstant(x) || Rank(x) > 4 || !IsBytes(out) || (!IsFloat(x) && !IsBytes(x))) return false;
  return (IsFloat(x) || ByteScale(x, "the input")) && ByteScale(out, "the output");
}

bool Reader::FromBytes() {
  const tfl::Tensor* x = Input(0);
  return IsBytes(x) && !IsConstant(x) && Rank(x) <= 4 && IsFloat(Output()) && ByteScale(x, "the input");
}

}  // namespace r2b
