#include "graph.h"

#include <algorithm>
#include <limits>

#include "limits.h"

namespace r2b {

int ByteSize(DType type) { return type == DType::kInt8 || type == DType::kBool ? 1 : 4; }

Shape AsImage(const std::vector<int>& dims) {
  int d[4] = {1, 1, 1, 1};
  const size_t rank = std::min<size_t>(dims.size(), 4);
  for (size_t i = 0; i < rank; ++i) d[4 - rank + i] = dims[dims.size() - rank + i];
  return {d[0], d[1], d[2], d[3]};
}

const char* OpName(OpKind kind) {
  static const char* const names[] = {"LceQuantize", "LceDequantize", "LceBconv2d",      "LceBMaxPool2d",
                                      "CONV_2D",     "MAX_POOL_2D",   "AVERAGE_POOL_2D", "MEAN",
                                      "ADD",         "MUL",           "PRELU",           "RELU",
                                      "LOGISTIC",    "SOFTMAX",       "RESHAPE",         "FULLY_CONNECTED"};
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

  bool Bconv(const Op& op, std::vector<int>* out) {
    const Tensor &input = In(op, 0), &filter = In(op, 1);
    const std::vector<int>& f = filter.dims;
    if (input.dims.size() != 4 || f.size() != 4)
      return Fail(op, "input " + Dims(input.dims) + " and filter " + Dims(f) + " must have 4 dimensions");
    const int words = (op.channels_in + 31) / 32;
    if (input.dims[3] != words)
      return Fail(op, "the input " + Dims(input.dims) + " holds " + std::to_string(input.dims[3]) +
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
      return Fail(op, "a filter of " + Dims(f) + " words is larger than accumulators hold (4194304 products)");
    const DType type = graph->tensors[op.out].type;
    if (type == DType::kInt32) {
      if (op.in.size() < 5 || op.in[4] < 0 || !In(op, 4).constant || In(op, 4).type != DType::kInt32 ||
          In(op, 4).dims != std::vector<int>{f[0]})
        return Fail(op, "a bit-packed output needs " + std::to_string(f[0]) +
                            " constant int32 thresholds as input 4; convert the model again");
    } else {
      for (int i = 2; i < 4; ++i) {
        if (int(op.in.size()) <= i || op.in[i] < 0 || In(op, i).type != DType::kFloat)
          return Fail(
              op, std::string(i == 2 ? "multiplier" : "bias") + " must be a float32 tensor; convert the model again");
        const std::vector<int>& d = In(op, i).dims;
        const bool vector = d == std::vector<int>{f[0]} && In(op, i).constant;
        if (!vector && (AsImage(d).c != f[0] || d.size() > 4 || type != DType::kFloat))
          return Fail(op, std::string(i == 2 ? "multiplier " : "bias ") + Dims(d) +
                              " must be a constant vector of the " + std::to_string(f[0]) + " output channels");
      }
    }
    if (!Window(op, input.dims, type == DType::kInt32 ? (f[0] + 31) / 32 : f[0], out)) return false;
    if (type != DType::kInt32)
      for (int i = 2; i < 4; ++i) {
        const Shape s = AsImage(In(op, i).dims);
        if (s.n != 1 || (s.h != 1 && s.h != (*out)[1]) || (s.w != 1 && s.w != (*out)[2]) || (s.h == 1) != (s.w == 1))
          return Fail(op, "multiplier or bias " + Dims(In(op, i).dims) + " does not fit the output " + Dims(*out));
      }
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

  bool Check(Op& op) {
    const std::vector<int>& in = In(op, 0).dims;
    std::vector<int>* out = &graph->tensors[op.out].dims;
    std::vector<int> stored = *out;
    switch (op.kind) {
      case OpKind::kQuantize:
        *out = in;
        if (in.empty()) return Fail(op, "a scalar has no channels to pack");
        out->back() = (in.back() + 31) / 32;
        return true;
      case OpKind::kDequantize:
        // How many channels the last word holds is written only in the output's stored shape.
        *out = in;
        if (in.empty() || stored.size() != in.size() || (int64_t(stored.back()) + 31) / 32 != in.back())
          return Fail(op, "output " + Dims(stored) + " does not fit " + Dims(in) + " words of 32 channels");
        out->back() = stored.back();
        return true;
      case OpKind::kBconv: return Bconv(op, out);
      case OpKind::kBmaxPool:
      case OpKind::kMaxPool:
      case OpKind::kAvgPool:
        if (in.size() != 4) return Fail(op, "input " + Dims(in) + " must have 4 dimensions");
        return Window(op, in, in[3], out);
      case OpKind::kConv: {
        const std::vector<int>& f = In(op, 1).dims;
        if (in.size() != 4 || f.size() != 4 || in[3] != f[3])
          return Fail(op, "input " + Dims(in) + " and filter " + Dims(f) + " do not fit");
        if (op.in.size() > 2 && op.in[2] >= 0 && In(op, 2).dims != std::vector<int>{f[0]})
          return Fail(op, "bias " + Dims(In(op, 2).dims) + " must be a vector of " + std::to_string(f[0]));
        return Window(op, in, f[0], out);
      }
      case OpKind::kMean:
        if (in.size() != 4) return Fail(op, "input " + Dims(in) + " must have 4 dimensions");
        if (op.keep_dims) *out = {in[0], 1, 1, in[3]};
        else *out = {in[0], in[3]};
        return true;
      case OpKind::kAdd:
      case OpKind::kMul: return Broadcast(op, in, In(op, 1).dims, out);
      case OpKind::kPrelu:
        return Broadcast(op, in, In(op, 1).dims, out) &&
               (*out == in || Fail(op, "the slopes " + Dims(In(op, 1).dims) + " do not fit " + Dims(in)));
      case OpKind::kClamp:
      case OpKind::kLogistic:
      case OpKind::kSoftmax: *out = in; return true;
      case OpKind::kReshape: return Reshape(op, out);
      case OpKind::kDense: {
        const std::vector<int>& f = In(op, 1).dims;
        const int64_t count = Elements(in).value();
        if (f.size() != 2 || f[1] < 1 || count % f[1] != 0 || (op.keep_dims && (in.empty() || in.back() != f[1])))
          return Fail(op, "weights " + Dims(f) + " do not fit the input " + Dims(in));
        if (op.in.size() > 2 && op.in[2] >= 0 && In(op, 2).dims != std::vector<int>{f[0]})
          return Fail(op, "bias " + Dims(In(op, 2).dims) + " must be a vector of " + std::to_string(f[0]));
        if (op.keep_dims) {
          *out = in;
          out->back() = f[0];
        } else {
          *out = {int(count / f[1]), f[0]};
        }
        return true;
      }
    }
    return Fail(op, "unknown operator");
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
  for (Op& op : graph->ops) {
    for (int i : op.in)
      if (i >= 0 && !holds(op, i, "input")) return false;
    if (!checker.Check(op) || !holds(op, op.out, "output")) return false;
    if (graph->tensors[op.out].dims.size() > 4)
      return checker.Fail(op, "tensors of more than 4 dimensions are not supported");
  }
  return true;
}

}  // namespace r2b
