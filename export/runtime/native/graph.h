// The graph from which a plan is made: tensors and operators, independent of TensorFlow Lite. import.cc translates
// TensorFlow Lite's structures into it; tests fill it by hand.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace r2b {

enum class DType : uint8_t { kFloat, kInt32, kInt8, kUInt8, kBool, kOther };
int ByteSize(DType type);

// A tensor's shape, read as NHWC. If the tensor has fewer than four dimensions, they are the last ones here, and the
// first ones are 1.
struct Shape {
  int n = 1, h = 1, w = 1, c = 1;
  int64_t count() const { return int64_t(n) * h * w * c; }
  bool operator==(const Shape& o) const { return n == o.n && h == o.h && w == o.w && c == o.c; }
};
Shape AsImage(const std::vector<int>& dims);

struct Tensor {
  DType type = DType::kOther;
  std::vector<int> dims;
  const void* constant = nullptr;  // the values, owned by the model; null if they are not known before the graph runs
  float scale = 0;                 // of an 8-bit tensor: value = scale * (number - zero_point)
  int zero_point = 0;
  std::vector<float> scales;  // of 8-bit weights: one for each output channel, or one for all
  std::string name;
};

enum class OpKind : uint8_t {
  // Larq Compute Engine's operators.
  kQuantize,
  kDequantize,
  kBconv,
  kBmaxPool,
  // TensorFlow Lite's operators on float32; kConv, kDense, kMaxPool, kPad and kReshape also run on int8, and kReshape
  // on int32.
  kConv,
  kMaxPool,
  kAvgPool,
  kMean,
  kAdd,
  kMul,
  kPrelu,
  kClamp,
  kLogistic,
  kSoftmax,
  kReshape,
  kDense,
  kDepthwise,
  kTransposeConv,
  kConcat,
  kSplit,
  kStridedSlice,
  kPad,
  kResizeBilinear,
  kMinimum,
  kMaximum,
  kRound,
  // TensorFlow Lite's QUANTIZE and DEQUANTIZE, to and from 8-bit numbers.
  kToBytes,
  kFromBytes,
};
const char* OpName(OpKind kind);

struct Op {
  OpKind kind = OpKind::kReshape;
  std::vector<int> in;  // indices of tensors; -1: an optional input that is absent
  int out = -1;
  int node = -1;  // the node's index in the interpreter or the file, for messages

  // The window. For convolutions, kernel_h and kernel_w are those of the filter.
  int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  bool same_padding = false;
  bool pad_one = false;   // bconv: padding counts as +1 instead of 0
  int channels_in = 0;    // bconv: input channels, before bit packing
  bool subtract = false;  // kAdd: the second operand is subtracted

  bool clamp = false;  // the result is clamped to [lo, hi], by a fused activation or by kClamp itself
  float lo = 0, hi = 0;
  float beta = 1;         // softmax
  bool keep_dims = true;  // kMean, kDense: the output has as many dimensions as the input

  int axis = 0;              // kConcat, kSplit
  int part = 0, parts = 1;   // kSplit: this Op yields the part with this index, of `parts` equal parts
  std::vector<int> numbers;  // values of constant inputs: the output's shape (kTransposeConv) or height and width
                             // (kResizeBilinear), padding before and after each axis (kPad), begin, end and stride
                             // for each axis (kStridedSlice)
  // kStridedSlice: if bit i is set, the begin (begin_mask) or the end (end_mask) of axis i is ignored, or the result
  // does not have axis i (shrink_mask).
  int begin_mask = 0, end_mask = 0, shrink_mask = 0;
  bool align_corners = false, half_pixel_centers = false;
  float fill = 0;  // kPad: the value of the padding
};

struct Graph {
  std::vector<Tensor> tensors;
  std::vector<Op> ops;  // in an order in which they can run
  std::vector<int> inputs, outputs;
};

constexpr int kMostByteProducts = 1 << 16;  // a 32-bit sum of this many int8 products cannot overflow

// Along one axis, the number of outputs of a window and the padding before the input, by TensorFlow's rules. `out` is 0
// if the window does not fit the input.
struct Extent {
  int out, before;
};
Extent WindowExtent(int in, int kernel, int stride, int dilation, bool same_padding);

// The part of an axis that kSplit or kStridedSlice takes: `extent` values from `begin` on, `stride` apart.
struct Slice {
  int begin, stride, extent;
  bool shrunk;  // the result does not have this axis
};
// One slice for each axis of an input with these dimensions. Empty if the operator's options do not fit the dimensions.
std::vector<Slice> SlicesOf(const Op& op, const std::vector<int>& dims);

// Checks every operator's operands and computes the shapes of all non-constant tensors from those of the inputs. On
// failure returns false, and `*error` names the operator and says what is wrong with it.
bool InferShapes(Graph* graph, std::string* error);

}  // namespace r2b
