// A graph as the plan sees it: tensors and operators, with nothing of TensorFlow Lite in it. import.cc fills it from an
// interpreter; tests fill it by hand.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace r2b {

enum class DType : uint8_t { kFloat, kInt32, kInt8, kUInt8, kBool, kOther };
int ByteSize(DType type);

// Shapes are at most 4-dimensional here; shorter ones are aligned right and read as images: NHWC.
struct Shape {
  int n = 1, h = 1, w = 1, c = 1;
  int64_t count() const { return int64_t(n) * h * w * c; }
  bool operator==(const Shape& o) const { return n == o.n && h == o.h && w == o.w && c == o.c; }
};
Shape AsImage(const std::vector<int>& dims);

struct Tensor {
  DType type = DType::kOther;
  std::vector<int> dims;
  const void* constant = nullptr;  // values known before the graph runs, owned by the model
  float scale = 0;                 // of a tensor of 8-bit numbers: value = scale * (number - zero_point)
  int zero_point = 0;
  std::vector<float> scales;  // of 8-bit weights: one for each output channel, or one for all
  std::string name;
};

enum class OpKind : uint8_t {
  // Larq Compute Engine's.
  kQuantize,
  kDequantize,
  kBconv,
  kBmaxPool,
  // TensorFlow Lite's, float32; kConv, kDense, kMaxPool, kPad and kReshape of int8 too.
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
  // TensorFlow Lite's, to 8-bit numbers and from them.
  kToBytes,
  kFromBytes,
};
const char* OpName(OpKind kind);

struct Op {
  OpKind kind = OpKind::kReshape;
  std::vector<int> in;  // -1: an optional input that is absent
  int out = -1;
  int node = -1;  // index in the interpreter, for messages

  // Windows. `kernel_*` comes from the filter's shape for convolutions.
  int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  bool same_padding = false;
  bool pad_one = false;   // bconv: padding counts as +1 instead of nothing
  int channels_in = 0;    // bconv: before packing
  bool subtract = false;  // kAdd: second operand counts negative

  bool clamp = false;  // fused activation, or the operator itself
  float lo = 0, hi = 0;
  float beta = 1;  // softmax
  bool keep_dims = true;

  int axis = 0;              // kConcat, kSplit
  int part = 0, parts = 1;   // kSplit: which of how many equal parts; there is an operator for each
  std::vector<int> numbers;  // what constants say: the output's shape (kTransposeConv), its height and width
                             // (kResizeBilinear), values before and after of each axis (kPad), begin, end and stride
                             // of each axis (kStridedSlice)
  int begin_mask = 0, end_mask = 0, shrink_mask = 0;  // kStridedSlice: a bit for each axis
  bool align_corners = false, half_pixel_centers = false;
  float fill = 0;  // kPad
};

struct Graph {
  std::vector<Tensor> tensors;
  std::vector<Op> ops;  // in an order in which they can run
  std::vector<int> inputs, outputs;
};

constexpr int kMostByteProducts = 1 << 16;  // of two 8-bit numbers in a 32-bit sum, whatever the numbers are

// Output extent and leading padding of a window along one axis, by TensorFlow's rules. Output is <= 0 where the window
// does not fit.
struct Extent {
  int out, before;
};
Extent WindowExtent(int in, int kernel, int stride, int dilation, bool same_padding);

// What kSplit and kStridedSlice take of an axis: `extent` values from `begin` on, `stride` apart.
struct Slice {
  int begin, stride, extent;
  bool shrunk;  // the result does not have this axis
};
// Of each axis of an input of these dimensions. Empty where the operator's options do not fit them.
std::vector<Slice> SlicesOf(const Op& op, const std::vector<int>& dims);

// Checks every operator's operands and computes the shapes of all non-constant tensors from those of the inputs. On
// failure says which operator, which values, and what to do about it.
bool InferShapes(Graph* graph, std::string* error);

}  // namespace r2b
