#include "limits.h"

#include <algorithm>

#include "aligned_buffer.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"

namespace r2b {
namespace {

constexpr int64_t kList = 32;  // bytes on the heap for a short std::vector, after the allocator's rounding

// Work in float products: kPlanning for each pair of operators, the others for each element.
constexpr int64_t kPooled = 4, kBits = 16, kElementwise = 8, kTranscendental = 32, kPlanning = 1000;

int64_t MiB(int64_t bytes) { return bytes / (1 << 20) + (bytes % (1 << 20) != 0); }
int64_t Billions(int64_t work) { return work / 1000000000 + (work % 1000000000 != 0); }

// The number of output channels that are packed and computed, after padding each group to whole blocks.
Count Padded(int64_t outputs, int64_t groups) {
  return Count((outputs / groups + kBlock - 1) / kBlock * kBlock) * groups;
}

struct Operators {
  const Graph& graph;
  const Kernels& kernels;
  Budget* budget;

  const std::vector<int>& In(const Op& op, size_t i) const { return graph.tensors[op.in[i]].dims; }
  Count In(const Op& op) const { return Elements(In(op, 0)); }
  Count Out(const Op& op) const { return Elements(graph.tensors[op.out].dims); }

  // Counts the memory of the tables that list a window's columns and rows.
  void Window(int index, const Op& op) const {
    const Shape out = AsImage(graph.tensors[op.out].dims);
    budget->TakeMemory(index, (Count(out.w) + out.h) * (4 * sizeof(int)), "tables of its window");
  }

  void Convolution(int index, const Op& op) const {
    const std::vector<int>& f = In(op, 1);
    const Shape out = AsImage(graph.tensors[op.out].dims);
    const bool binary = op.kind == OpKind::kBconv;
    const int64_t groups = binary ? std::max((op.channels_in + 31) / 32 / f[3], 1) : 1;
    const Count taps = Count(f[1]) * f[2], padded = Padded(f[0], groups), depth = taps * f[3];
    const std::string filter = "a filter of " + DimsText(f);
    // An upper bound, even if the portable kernels run because these kernels' accumulators cannot hold the sums: the
    // portable kernels pack a word into the fewest bytes.
    const int64_t bytes = binary ? PackedWordBytes(kernels.chunk_bits) : int64_t(sizeof(float));
    const bool whole = graph.tensors[op.in[0]].type == DType::kInt8;
    budget->TakeMemory(index, padded * (whole ? ByteWeights(op, f) : depth * bytes) + padded * (whole ? 16 : 8),
                       "weights of " + filter);
    budget->TakeMemory(index, (taps + f[1]) * (whole ? f[1] : 1) * sizeof(ptrdiff_t), "offsets of " + filter);
    if (whole)
      budget->TakeMemory(index, (Count(out.w) * op.stride_w * f[3] + kAlign) * 2, "masks of the rows of " + filter);
    Window(index, op);
    const std::string output =
        " for " + std::to_string(out.n) + "x" + std::to_string(out.h) + "x" + std::to_string(out.w) + " outputs";
    budget->TakeWork(index, Count(out.n) * out.h * out.w * padded * depth + padded * depth * 32, filter + output);
    if (!binary || !op.same_padding || op.pad_one) return;
    // Zero padding needs a table of corrections for each set of filter rows and columns that can lie outside the image
    // together.
    const auto classes = [](int size, int kernel) { return Count(std::min<int64_t>(size, 2 * int64_t(kernel))) + 1; };
    const Count tables = classes(out.h, f[1]) * classes(out.w, f[2]);
    budget->TakeMemory(index, tables * padded * 4 + taps * f[0] * 4 + classes(out.h, f[1]) * out.w * sizeof(void*),
                       "tables of the zero padding of " + filter);
    budget->TakeWork(index,
                     tables * taps * f[0] + Count(out.h) * f[1] * 3 + Count(out.w) * f[2] * 3 + padded * depth * 4,
                     "the tables of the zero padding of " + filter);
  }

  // An upper bound on the bytes of one output channel's packed int8 weights. Each contiguous run of weights is filled
  // up to whole columns of 32 bits.
  Count ByteWeights(const Op& op, const std::vector<int>& f) const {
    const bool dense = f.size() == 2, rows = dense || op.dilation_w == 1;
    const int64_t length = dense ? f[1] : int64_t(f[3]) * (rows ? f[2] : 1),
                  products = ProductsOf(kernels.byte_packing);
    return Count(dense ? 1 : f[1]) * (rows ? 1 : f[2]) * ((length + products - 1) / products) * 4;
  }

  void Depthwise(int index, const Op& op) const {
    const std::vector<int>& f = In(op, 1);
    const Count taps = Count(f[1]) * f[2], weights = taps * Padded(f[3], 1);
    budget->TakeMemory(index, weights * sizeof(float) + taps * sizeof(ptrdiff_t),
                       "weights of a filter of " + DimsText(f));
    budget->TakeWork(index, Out(op) * taps + weights,
                     "a filter of " + DimsText(f) + " for an output of " + DimsText(graph.tensors[op.out].dims));
  }

  void TransposeConv(int index, const Op& op) const {
    const std::vector<int>&f = In(op, 1), &in = In(op, 0);
    const Count weights = Count(f[1]) * f[2] * f[3] * Padded(f[0], 1);
    budget->TakeMemory(index, weights * sizeof(float) + Count(f[1]) * f[2] * 64,
                       "weights of a filter of " + DimsText(f));
    // Each input pixel is multiplied by the whole filter, and each output value is written.
    budget->TakeWork(index, Count(in[0]) * in[1] * in[2] * weights + weights + Out(op) * kElementwise,
                     "a filter of " + DimsText(f) + " for an input of " + DimsText(in));
  }

  void Pool(int index, const Op& op) const {
    const std::vector<int>& in = In(op, 0);
    const Count rows = std::min(op.kernel_h, in[1]);
    Window(index, op);
    budget->TakeMemory(index, rows * sizeof(void*), "rows of its window");
    budget->TakeWork(
        index, (rows * std::min(op.kernel_w, in[2]) + 1) * Out(op) * (op.kind == OpKind::kBmaxPool ? kBits : kPooled),
        "a window of " + std::to_string(op.kernel_h) + "x" + std::to_string(op.kernel_w) + " over " + DimsText(in));
  }

  void Dense(int index, const Op& op) const {
    const std::vector<int>& f = In(op, 1);
    const Count weights = Padded(f[0], 1) * f[1];
    const bool whole = graph.tensors[op.in[0]].type == DType::kInt8;
    budget->TakeMemory(index, whole ? Padded(f[0], 1) * (ByteWeights(op, f) + 16) : weights * sizeof(float),
                       "weights of " + DimsText(f));
    budget->TakeWork(index, Count(In(op).value() / std::max(f[1], 1)) * weights + weights,
                     "weights of " + DimsText(f) + " on an input of " + DimsText(In(op, 0)));
  }

  void Elementwise(int index, const Op& op) const {
    const bool arithmetic = op.kind == OpKind::kAdd || op.kind == OpKind::kMul || op.kind == OpKind::kPrelu;
    for (int t : op.in)  // a constant gets one value for each channel
      if (arithmetic && t >= 0 && graph.tensors[t].constant)
        budget->TakeMemory(index, Count(AsImage(graph.tensors[op.out].dims).c) * sizeof(float), "its constant");
    const bool transcendental = op.kind == OpKind::kLogistic || op.kind == OpKind::kSoftmax;
    budget->TakeWork(
        index, (In(op) + Out(op)) * (transcendental ? kTranscendental : kElementwise),
        "an input of " + DimsText(In(op, 0)) + " and an output of " + DimsText(graph.tensors[op.out].dims));
  }

  void Take(int index) const {
    const Op& op = graph.ops[size_t(index)];
    switch (op.kind) {
      case OpKind::kBconv:
      case OpKind::kConv: return Convolution(index, op);
      case OpKind::kDepthwise: return Depthwise(index, op);
      case OpKind::kTransposeConv: return TransposeConv(index, op);
      case OpKind::kBmaxPool:
      case OpKind::kMaxPool:
      case OpKind::kAvgPool: return Pool(index, op);
      case OpKind::kDense: return Dense(index, op);
      default: return Elementwise(index, op);
    }
  }
};

}  // namespace

Count Elements(const std::vector<int>& dims) {
  Count count = 1;
  for (int d : dims) count = count * d;
  return count;
}

std::string DimsText(const std::vector<int>& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

std::string Budget::Place(int op) const {
  if (op < 0) return "";
  const Op& named = graph_.ops[size_t(op)];
  return std::string(OpName(named.kind)) + " (node " + std::to_string(named.node) + "): ";
}

void Budget::TakeMemory(int op, Count bytes, const std::string& what) {
  memory_ = memory_ + bytes;
  if (!(memory_ > limits_.memory)) return;
  throw Refused(Place(op) + what + " takes " + std::to_string(MiB(bytes.value())) + " MiB (" +
                std::to_string(MiB(memory_.value())) +
                " with all before it), more than the option max_memory leaves (" + std::to_string(MiB(limits_.memory)) +
                " MiB); resize the model's input, or raise max_memory if the file can be trusted");
}

void Budget::TakeWork(int op, Count work, const std::string& what) {
  work_ = work_ + work;
  if (!(work_ > limits_.work)) return;
  throw Refused(Place(op) + what + " takes " + std::to_string(Billions(work.value())) + " billion operations (" +
                std::to_string(Billions(work_.value())) +
                " with all before it), more than the option max_work leaves (" +
                std::to_string(Billions(limits_.work)) +
                "); resize the model's input, or raise max_work if the file can be trusted");
}

void TakeOperators(const Graph& graph, const Kernels& kernels, Budget* budget) {
  // Fusion may look at every pair of operators.
  const Count operators(int64_t(graph.ops.size()));
  const std::string planning = "planning " + std::to_string(graph.ops.size()) + " operators in one part of the graph";
  budget->TakeWork(-1, operators * operators * kPlanning, planning);
  // The model and the plan each have a graph. Every operator and tensor has a list on the heap.
  const Count items =
      operators * (sizeof(Op) + kList) + Count(int64_t(graph.tensors.size())) * (sizeof(Tensor) + kList);
  budget->TakeMemory(-1, items * 2, planning);
  const Operators all{graph, kernels, budget};
  for (size_t i = 0; i < graph.ops.size(); ++i) all.Take(int(i));
}

}  // namespace r2b
