#include "graph.h"

#include <algorithm>
#include <limits>

#include "limits.h"

namespace r2b {

int ByteSize(DType type) { return type == DType::kInt8 || type == DType::kUInt8 || type == DType::kBool ? 1 : 4; }

Shape AsImage(const std::vector<int>& dims) {
  int d[4] = {1, 1, 1, 1};
  const size_t rank = std::min<size_t>(dims.size(), 4);
  for (size_t i = 0; i < rank; ++i) d[4 - rank + i] = dims[dims.size() - rank + i];
  return {d[0], d[1], d[2], d[3]};
}

const char* OpName(OpKind kind) {
  static const char* const names[] = {"LceQuantize",
                                      "LceDequantize",
                                      "LceBconv2d",
                                      "LceBMaxPool2d",
                                      "CONV_2D",
                                      "MAX_POOL_2D",
                                      "AVERAGE_POOL_2D",
                                      "MEAN",
                                      "ADD",
                                      "MUL",
                                      "PRELU",
                                      "RELU",
                                      "LOGISTIC",
                                      "SOFTMAX",
                                      "RESHAPE",
                                      "FULLY_CONNECTED",
                                      "DEPTHWISE_CONV_2D",
                                      "TRANSPOSE_CONV",
                                      "CONCATENATION",
                                      "SPLIT",
                                      "STRIDED_SLICE",
                                      "PAD",
                                      "RESIZE_BILINEAR",
                                      "MINIMUM",
                                      "MAXIMUM",
                                      "ROUND",
                                      "QUANTIZE",
                                      "DEQUANTIZE"};
  static_assert(sizeof names / sizeof *names == size_t(OpKind::kFromBytes) + 1);
  return names[int(kind)];
}

Extent WindowExtent(int in, int kernel, int stride, int dilation, bool same_padding) {
  const int64_t reach = int64_t(kernel - 1) * dilation + 1;
  if (!same_padding) return {in < reach ? 0 : int((in - reach) / stride + 1), 0};
  const int64_t out = (int64_t(in) + stride - 1) / stride;
  const int64_t padding = std::max<int64_t>((out - 1) * stride + reach - in, 0);
  return {int(out), int(padding / 2)};
}

namespace {

std::string Dims(const std::vector<int>& dims) { return DimsText(dims); }

struct Checker {
  Graph* graph;
  std::string* error;

  const Tensor& In(const Op& op, int i) { return graph->tensors[op.in[i]]; }

  bool Fail(const Op& op, const std::string& what) {
    *error = std::string(OpName(op.kind)) + " (node " + std::to_string(op.node) + "): " + what;
    return false;
  }

  bool Window(const Op& op, const std::vector<int>& in, int channels, std::vector<int>* out) {
    const Extent h = WindowExtent(in[1], op.kernel_h, op.stride_h, op.dilation_h, op.same_padding);
    const Extent w = WindowExtent(in[2], op.kernel_w, op.stride_w, op.dilation_w, op.same_padding);
    if (h.out < 1 || w.out < 1)
      return Fail(op, "a window of " + std::to_string(op.kernel_h) + "x" + std::to_string(op.kernel_w) +
                          " does not fit the input " + Dims(in) + "; give the model a larger input or SAME padding");
    *out = {in[0], h.out, w.out, channels};
    return true;
  }

  // Checks that the input's words and the output channels divide into groups, and that accumulators can hold the sums.
  bool BconvChannels(const Op& op) {
    const std::vector<int>&input = In(op, 0).dims, &f = In(op, 1).dims;
    if (input.size() != 4 || f.size() != 4)
      return Fail(op, "input " + Dims(input) + " and filter " + Dims(f) + " must have 4 dimensions");
    const int words = (op.channels_in + 31) / 32;
    if (input[3] != words)
      return Fail(op, "the input " + Dims(input) + " holds " + std::to_string(input[3]) +
                          " words of 32 channels, channels_in = " + std::to_string(op.channels_in) + " needs " +
                          std::to_string(words) + "; convert the model again");
    if (f[3] < 1 || words % f[3] != 0 || (f[3] != words && (op.channels_in / (words / f[3])) % 32 != 0))
      return Fail(op, "filter " + Dims(f) + " does not divide " + std::to_string(op.channels_in) +
                          " input channels into groups of whole 32-bit words");
    const int groups = words / f[3];
    if (f[0] % groups != 0)
      return Fail(op,
                  std::to_string(f[0]) + " output channels do not divide into " + std::to_string(groups) + " groups");
    if (int64_t(f[1]) * f[2] * op.channels_in >= (1 << 22))
      return Fail(op,
                  "a filter of " + Dims(f) + " words has more products than an accumulator holds (at most 4194303)");
    return true;
  }

  bool BconvThresholds(const Op& op, int outputs) {
    const bool there = op.in.size() >= 5 && op.in[4] >= 0 && In(op, 4).constant && In(op, 4).type == DType::kInt32;
    return (there && In(op, 4).dims == std::vector<int>{outputs}) ||
           Fail(op, "a bit-packed output needs " + std::to_string(outputs) +
                        " constant int32 thresholds as input 4; convert the model again");
  }

  // Checks the multiplier (input 2) or the bias (input 3) of a convolution whose output is not bit-packed. It must be a
  // constant vector over the output channels. For a float output it may also be any other tensor with these channels,
  // constant or not, since LCE's converter folds such tensors into the operator.
  bool BconvScale(const Op& op, int i, int outputs) {
    const std::string name = i == 2 ? "multiplier" : "bias";
    if (int(op.in.size()) <= i || op.in[i] < 0 || In(op, i).type != DType::kFloat)
      return Fail(op, name + " must be a float32 tensor; convert the model again");
    const std::vector<int>& d = In(op, i).dims;
    if (d == std::vector<int>{outputs} && In(op, i).constant) return true;
    return (AsImage(d).c == outputs && d.size() <= 4 && graph->tensors[op.out].type == DType::kFloat) ||
           Fail(op, name + " " + Dims(d) + " must be a constant vector of the " + std::to_string(outputs) +
                        " output channels");
  }

  bool BconvScaleFits(const Op& op, int i, const std::vector<int>& out) {
    const Shape s = AsImage(In(op, i).dims);
    const bool per_channel = s.h == 1 && s.w == 1, whole = s.h == out[1] && s.w == out[2];
    return (s.n == 1 && (per_channel || whole)) ||
           Fail(op, (i == 2 ? "multiplier " : "bias ") + Dims(In(op, i).dims) + " does not fit the output " +
                        Dims(out) + "; convert the model again");
  }

  bool Bconv(const Op& op, std::vector<int>* out) {
    if (!BconvChannels(op)) return false;
    const std::vector<int>& input = In(op, 0).dims;
    const int outputs = In(op, 1).dims[0];
    if (graph->tensors[op.out].type == DType::kInt32)
      return BconvThresholds(op, outputs) && Window(op, input, (outputs + 31) / 32, out);
    return BconvScale(op, 2, outputs) && BconvScale(op, 3, outputs) && Window(op, input, outputs, out) &&
           BconvScaleFits(op, 2, *out) && BconvScaleFits(op, 3, *out);
  }

  bool Quantize(const Op& op, std::vector<int>* out) {
    *out = In(op, 0).dims;
    if (out->empty()) return Fail(op, "a scalar has no channels to pack");
    out->back() = (out->back() + 31) / 32;
    return true;
  }

  // Only the output's shape in the file says how many channels the last word holds.
  bool Dequantize(const Op& op, std::vector<int>* out) {
    const std::vector<int>& in = In(op, 0).dims;
    const std::vector<int> stored = *out;
    *out = in;
    if (in.empty() || stored.size() != in.size() || (int64_t(stored.back()) + 31) / 32 != in.back())
      return Fail(op, "output " + Dims(stored) + " does not fit " + Dims(in) + " words of 32 channels");
    out->back() = stored.back();
    return true;
  }

  bool Pool(const Op& op, std::vector<int>* out) {
    const std::vector<int>& in = In(op, 0).dims;
    if (in.size() != 4) return Fail(op, "input " + Dims(in) + " must have 4 dimensions");
    return Window(op, in, in[3], out);
  }

  bool Bias(const Op& op, int outputs) {
    return op.in.size() <= 2 || op.in[2] < 0 || In(op, 2).dims == std::vector<int>{outputs} ||
           Fail(op, "bias " + Dims(In(op, 2).dims) + " must be a vector of " + std::to_string(outputs));
  }

  // Checks that the sums of an int8 convolution or dense layer fit 32 bits.
  bool ByteDepth(const Op& op) {
    if (In(op, 0).type != DType::kInt8) return true;
    const std::vector<int>& f = In(op, 1).dims;
    const int64_t depth = (Elements(f).value() + f[0] - 1) / f[0];
    return depth <= kMostByteProducts ||
           Fail(op, "a filter of " + Dims(f) + " adds up " + std::to_string(depth) +
                        " int8 products; a 32-bit sum holds at most " + std::to_string(kMostByteProducts));
  }

  bool Conv(const Op& op, std::vector<int>* out) {
    const std::vector<int>&in = In(op, 0).dims, &f = In(op, 1).dims;
    if (in.size() != 4 || f.size() != 4 || in[3] != f[3])
      return Fail(op, "input " + Dims(in) + " and filter " + Dims(f) + " do not fit each other");
    return Bias(op, f[0]) && ByteDepth(op) && Window(op, in, f[0], out);
  }

  bool Depthwise(const Op& op, std::vector<int>* out) {
    const std::vector<int>&in = In(op, 0).dims, &f = In(op, 1).dims;
    if (in.size() != 4 || f.size() != 4 || f[0] != 1 || in[3] < 1 || f[3] % in[3] != 0)
      return Fail(op, "input " + Dims(in) + " and filter " + Dims(f) +
                          " do not fit each other; the filter's outputs must be a multiple of the input's channels");
    return Bias(op, f[3]) && Window(op, in, f[3], out);
  }

  bool TransposeConv(const Op& op, std::vector<int>* out) {
    const std::vector<int>&in = In(op, 0).dims, &f = In(op, 1).dims;
    if (in.size() != 4 || f.size() != 4 || in[3] != f[3])
      return Fail(op, "input " + Dims(in) + " and filter " + Dims(f) + " do not fit each other");
    *out = op.numbers;
    const std::vector<int>& o = *out;
    const auto fits = [&](int size, int kernel, int stride, int from) {
      return size > 0 && WindowExtent(size, kernel, stride, 1, op.same_padding).out == from;
    };
    if (o.size() != 4 || o[0] != in[0] || o[3] != f[0] || !fits(o[1], op.kernel_h, op.stride_h, in[1]) ||
        !fits(o[2], op.kernel_w, op.stride_w, in[2]))
      return Fail(op, "the file's output shape " + Dims(o) + " is not what filter " + Dims(f) + " makes of the input " +
                          Dims(in) + "; convert the model for inputs of this size");
    return Bias(op, f[0]);
  }

  bool Concat(const Op& op, std::vector<int>* out) {
    *out = In(op, 0).dims;
    if (op.axis >= int(out->size())) return Fail(op, "input " + Dims(*out) + " has no axis " + std::to_string(op.axis));
    Count along = 0;
    for (size_t i = 0; i < op.in.size(); ++i) {
      std::vector<int> part = In(op, int(i)).dims;
      if (part.size() == out->size()) {
        along = along + part[op.axis];
        part[op.axis] = (*out)[op.axis];
      }
      if (part != *out)
        return Fail(op, "inputs " + Dims(*out) + " and " + Dims(In(op, int(i)).dims) + " differ in more than axis " +
                            std::to_string(op.axis));
    }
    return SetDim(op, op.axis, along, out);
  }

  // Sets the output's extent along an axis. Refuses an extent above kMostElements, which might not fit an int.
  bool SetDim(const Op& op, int axis, Count extent, std::vector<int>* out) {
    if (extent > kMostElements)
      return Fail(op, "axis " + std::to_string(axis) + " of the output would have " + std::to_string(extent.value()) +
                          " elements, more than a tensor may have (" + std::to_string(kMostElements) + ")");
    (*out)[axis] = int(extent.value());
    return true;
  }

  bool Slices(const Op& op, std::vector<int>* out) {
    const std::vector<int>& in = In(op, 0).dims;
    const std::vector<Slice> slices = SlicesOf(op, in);
    out->clear();
    if (op.kind == OpKind::kSplit && slices.empty())
      return Fail(op, "axis " + std::to_string(op.axis) + " of the input " + Dims(in) + " does not divide into " +
                          std::to_string(op.parts) + " equal parts");
    if (slices.empty()) return Fail(op, "begin, end and strides do not fit the input " + Dims(in));
    for (const Slice& slice : slices) {
      if (slice.extent < 1)
        return Fail(op, "the slice of the input " + Dims(in) + " is empty; resize the model's input");
      if (!slice.shrunk) out->push_back(slice.extent);
    }
    return true;
  }

  bool Pad(const Op& op, std::vector<int>* out) {
    *out = In(op, 0).dims;
    if (op.numbers.size() != 2 * out->size())
      return Fail(op, std::to_string(op.numbers.size() / 2) + " pairs of paddings do not fit the input " + Dims(*out));
    for (size_t i = 0; i < out->size(); ++i)
      if (!SetDim(op, int(i), Count((*out)[i]) + op.numbers[2 * i] + op.numbers[2 * i + 1], out)) return false;
    return true;
  }

  bool ResizeBilinear(const Op& op, std::vector<int>* out) {
    const std::vector<int>& in = In(op, 0).dims;
    if (in.size() != 4) return Fail(op, "input " + Dims(in) + " must have 4 dimensions");
    *out = {in[0], op.numbers[0], op.numbers[1], in[3]};
    return true;
  }

  bool Mean(const Op& op, std::vector<int>* out) {
    const std::vector<int>& in = In(op, 0).dims;
    if (in.size() != 4) return Fail(op, "input " + Dims(in) + " must have 4 dimensions");
    if (op.keep_dims) *out = {in[0], 1, 1, in[3]};
    else *out = {in[0], in[3]};
    return true;
  }

  bool Broadcast(const Op& op, const std::vector<int>& a, const std::vector<int>& b, std::vector<int>* out) {
    const size_t rank = std::max(a.size(), b.size());
    out->assign(rank, 1);
    for (size_t i = 0; i < rank; ++i) {
      const int x = i < rank - a.size() ? 1 : a[i - (rank - a.size())];
      const int y = i < rank - b.size() ? 1 : b[i - (rank - b.size())];
      if (x != y && x != 1 && y != 1) return Fail(op, "shapes " + Dims(a) + " and " + Dims(b) + " do not broadcast");
      (*out)[i] = x == 1 ? y : x;
    }
    return true;
  }

  bool Reshape(const Op& op, std::vector<int>* out) {
    const Tensor& input = In(op, 0);
    const int64_t count = Elements(input.dims).value();
    const Tensor& wanted = In(op, 1);
    if (wanted.dims.size() != 1 || wanted.type != DType::kInt32)
      return Fail(op, "the new shape must be a vector of int32");
    const int32_t* target = static_cast<const int32_t*>(wanted.constant);
    out->assign(target, target + wanted.dims[0]);
    int free = -1;
    Count known = 1;
    for (size_t i = 0; i < out->size(); ++i) {
      if ((*out)[i] < 0) free = int(i);
      else known = known * (*out)[i];
    }
    if (free >= 0 && known.value() > 0) (*out)[free] = int(count / known.value());
    if (free >= 0) known = known * (*out)[free];
    if (known.value() != count) return Fail(op, "cannot give " + Dims(input.dims) + " the shape " + Dims(*out));
    return true;
  }

  bool Arithmetic(const Op& op, std::vector<int>* out) { return Broadcast(op, In(op, 0).dims, In(op, 1).dims, out); }

  bool Prelu(const Op& op, std::vector<int>* out) {
    const std::vector<int>& in = In(op, 0).dims;
    return Arithmetic(op, out) &&
           (*out == in || Fail(op, "the slopes " + Dims(In(op, 1).dims) + " do not fit " + Dims(in)));
  }

  bool SameShape(const Op& op, std::vector<int>* out) {
    *out = In(op, 0).dims;
    return true;
  }

  bool Dense(const Op& op, std::vector<int>* out) {
    const std::vector<int>&in = In(op, 0).dims, &f = In(op, 1).dims;
    const int64_t count = Elements(in).value();
    if (f.size() != 2 || f[1] < 1 || count % f[1] != 0 || (op.keep_dims && (in.empty() || in.back() != f[1])))
      return Fail(op, "weights " + Dims(f) + " do not fit the input " + Dims(in));
    if (!Bias(op, f[0]) || !ByteDepth(op)) return false;
    if (op.keep_dims) {
      *out = in;
      out->back() = f[0];
    } else {
      *out = {int(count / f[1]), f[0]};
    }
    return true;
  }

  // Checks the operator's operands and sets its output's shape.
  bool Check(const Op& op) {
    using Rule = bool (Checker::*)(const Op&, std::vector<int>* out);
    static constexpr Rule rules[] = {
        // In the order of OpKind.
        &Checker::Quantize,  &Checker::Dequantize, &Checker::Bconv,          &Checker::Pool,       &Checker::Conv,
        &Checker::Pool,      &Checker::Pool,       &Checker::Mean,           &Checker::Arithmetic, &Checker::Arithmetic,
        &Checker::Prelu,     &Checker::SameShape,  &Checker::SameShape,      &Checker::SameShape,  &Checker::Reshape,
        &Checker::Dense,     &Checker::Depthwise,  &Checker::TransposeConv,  &Checker::Concat,     &Checker::Slices,
        &Checker::Slices,    &Checker::Pad,        &Checker::ResizeBilinear, &Checker::Arithmetic, &Checker::Arithmetic,
        &Checker::SameShape, &Checker::SameShape,  &Checker::SameShape,
    };
    static_assert(sizeof rules / sizeof *rules == size_t(OpKind::kFromBytes) + 1);
    return (this->*rules[size_t(op.kind)])(op, &graph->tensors[op.out].dims);
  }
};

}  // namespace

bool InferShapes(Graph* graph, std::string* error) {
  Checker checker{graph, error};
  const auto holds = [&](const Op& op, int t, const char* which) {
    const std::vector<int>& dims = graph->tensors[t].dims;
    if (std::any_of(dims.begin(), dims.end(), [](int d) { return d < 1; }))
      return checker.Fail(op, which + (" shape " + Dims(dims)) + " has no elements; resize the model's input");
    return !(Elements(dims) > kMostElements) ||
           checker.Fail(op, which + (" shape " + Dims(dims)) + " has more than the " + std::to_string(kMostElements) +
                                " elements that a tensor may have; resize the model's input");
  };
  for (const Op& op : graph->ops) {
    for (int i : op.in) {
      if (i >= 0 && !holds(op, i, "input")) return false;
      if (i >= 0 && graph->tensors[i].dims.size() > 4)
        return checker.Fail(op, "tensors of more than 4 dimensions are not supported");
    }
    if (!checker.Check(op) || !holds(op, op.out, "output")) return false;
    if (graph->tensors[op.out].dims.size() > 4)
      return checker.Fail(op, "tensors of more than 4 dimensions are not supported");
  }
  return true;
}

}  // namespace r2b
