#include "operands.h"

namespace r2b {
namespace {

// Returns a number for each channel: `sign` times the constant's value for the channel, or times its only value.
std::shared_ptr<std::vector<float>> Spread(const Tensor& constant, float sign, int channels) {
  const float* values = static_cast<const float*>(constant.constant);
  const bool one = AsImage(constant.dims).c == 1;
  auto vector = std::make_shared<std::vector<float>>(channels);
  for (int c = 0; c < channels; ++c) (*vector)[c] = sign * values[one ? 0 : c];
  return vector;
}

// True if an operand that has one pixel for each image, or one for all images, can be applied.
bool FitsImages(const Shape& operand, const Shape& shape, const Shape& pixels) {
  return operand.n == 1 || (operand.n == pixels.n && shape == pixels);
}

// True if an operand that has a value for every pixel can be applied. If a RESHAPE has changed the value's shape, the
// operand must be a single row with as many pixels as an image in registers.
bool FitsPixels(const Shape& operand, const Shape& shape, const Shape& pixels) {
  if (!(shape == pixels))
    return operand.n == 1 && operand.h == 1 && operand.w == shape.w && shape.w == pixels.h * pixels.w;
  return (operand.n == 1 || operand.n == pixels.n) && operand.h == pixels.h && operand.w == pixels.w;
}

// Changes the stage's kind to the one whose operand has a single number for all channels of a pixel. False if there is
// no such kind.
bool OneForAllChannels(StagePlan* stage) {
  if (stage->kind == Stage::kPrelu) return false;
  stage->kind = stage->kind == Stage::kMul ? Stage::kMulPixel : Stage::kAddPixel;
  return true;
}

}  // namespace

bool AddOperand(const Graph& graph, const Op& op, int t, const Shape& shape, const Shape& pixels, StagePlan* stage) {
  const Tensor& tensor = graph.tensors[t];
  const Shape s = AsImage(tensor.dims);
  if (tensor.type != DType::kFloat || (s.c != 1 && s.c != shape.c)) return false;
  const bool plain = s.h == 1 && s.w == 1;
  if (plain && s.n == 1 && tensor.constant) {
    stage->constant = Spread(tensor, op.subtract ? -1.0f : 1.0f, shape.c);
    return true;
  }
  if (op.subtract || !(plain ? FitsImages(s, shape, pixels) : FitsPixels(s, shape, pixels))) return false;
  if (s.c != shape.c && (plain || !OneForAllChannels(stage))) return false;
  stage->tensor = t;
  stage->per_pixel = !plain;
  stage->per_image = s.n > 1;
  return true;
}

}  // namespace r2b
