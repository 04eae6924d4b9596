// The root of a step that convolves signs.
//
// Let `depth` be the number of products of one output, over all taps. Let x = 2 * popcount(input ^ weights), where
// inputs in the padding count as +1 (bit 0). Let s be the sum of the weights of the taps in the padding. Then the dot
// product over the other taps is depth - (x + s). If padding counts as +1 (Op::pad_one), s is replaced by 0.
//
// As in LCE's reference kernel, s is added to x before anything is clamped or rounded, so x + s is a whole number.
// (LCE's optimised kernel adds -multiplier * s to the result instead. With a bias of 0, rounding may then make the
// result differ from 0 where the dot product is 0.)
//
// Float outputs are float(x + s) * -multiplier + (bias + depth * multiplier). This is LCE's order of operations, so the
// outputs have the same bits.
#include <algorithm>

#include "memory.h"
#include "steps/convolution.h"
#include "steps/roots.h"

namespace r2b {
namespace {

// The taps [begin, end) of a window that lie inside the image, along one axis.
struct Taps {
  int begin, end;
  bool operator==(const Taps& t) const { return begin == t.begin && end == t.end; }
  bool Has(int tap) const { return tap >= begin && tap < end; }
};

// Outputs along one axis, classified by which of their taps lie inside the image.
struct TapClasses {
  std::vector<Taps> taps;  // of each class; in class 0 all taps lie inside
  std::vector<int> of;     // class of each output
};

TapClasses ClassifyTaps(int outputs, int inputs, int kernel, int stride, int dilation, int before) {
  TapClasses classes{{{0, kernel}}, {}};
  for (int i = 0; i < outputs; ++i) {
    const int at = i * stride - before;
    Taps inside{kernel, 0};
    for (int k = 0; k < kernel; ++k)
      if (at + k * dilation >= 0 && at + k * dilation < inputs)
        inside = {std::min(inside.begin, k), std::max(inside.end, k + 1)};
    const auto found = std::find(classes.taps.begin(), classes.taps.end(), inside);
    classes.of.push_back(int(found - classes.taps.begin()));
    if (found == classes.taps.end()) classes.taps.push_back(inside);
  }
  return classes;
}

int Groups(const Graph& graph, const Op& op) { return (op.channels_in + 31) / 32 / graph.tensors[op.in[1]].dims[3]; }

class Bconv : public ConvolutionRoot {
 public:
  Bconv(const Graph& graph, const Op& op)
      : ConvolutionRoot(graph, op, Groups(graph, op)),
        filter_(graph.tensors[op.in[1]].dims),
        in_group_(filter_[0] / groups_),
        padded_(Blocks(in_group_) * kBlock) {}
  const char* name() const override { return "bconv"; }
  Splits splits() const override { return groups_ == 1 ? Splits::kFreely : Splits::kNever; }
  bool whole_blocks() const override { return groups_ == 1; }

  void Prepare(const Setting& setting) override {
    const bool deep = filter_[1] * filter_[2] * filter_[3] * 32 > setting.kernels->max_depth;
    kernels_ = deep ? PortableKernels() : setting.kernels;
    weights_ = setting.weights->Bits(setting.graph, op_.in[1], groups_, kernels_->chunk_bits);
    PrepareOutputs(setting.graph);
    PrepareClamp(setting.graph.tensors[op_.out].type);
    if (op_.same_padding && !op_.pad_one)
      PrepareCorrections(static_cast<const uint32_t*>(setting.graph.tensors[op_.in[1]].constant),
                         AsImage(setting.graph.tensors[op_.out].dims));
  }

  WorkspaceSize Lay(const Step& step, const Memory& memory) override {
    const Storage& input = memory[step.input];
    LayRuns(input);
    return {kernels_->bconv_scratch(step.out.w, RunsFrom(nullptr, input)), 0, 0};
  }

  void Run(const RowRun& run, const Epilogue& epilogue) const override {
    const Storage& input = run.memory[run.step.input];
    const int width = run.step.out.w;
    BconvRow row{};
    row.block_bytes = weights_.block_bytes;
    row.width = width;
    row.unscaled = unscaled_;
    row.clamp = clamp_;
    row.lo = lo_;
    row.hi = hi_;
    row.corrections =
        correction_tables_.empty() ? nullptr : correction_tables_.data() + size_t(correction_rows_[run.y]) * width;
    row.scratch = run.workspace->scratch.data();
    for (int g = 0; g < groups_; ++g) {
      const bool alone = groups_ == 1;
      const int slot = alone ? run.begin_channel : g * padded_;  // of the first channel, see slot()
      row.input = Runs(input, run.image, run.y);
      row.input.origin += g * (input.pixel / groups_);
      row.weights = weights_.bytes->data() + slot / kBlock * weights_.block_bytes;
      row.channel0 = alone ? run.begin_channel : g * in_group_;
      row.channels = alone ? run.end_channel - run.begin_channel : in_group_;
      row.multiplier = multiplier_.data() + slot;
      row.bias = bias_.data() + slot;
      row.correction0 = slot;
      kernels_->bconv(row, epilogue);
    }
  }

 private:
  int outputs() const { return filter_[0]; }
  int taps() const { return filter_[1] * filter_[2]; }
  int channels() const { return op_.channels_in / groups_; }  // of one group
  double depth() const { return double(taps()) * channels(); }
  // In vectors over the output channels, each group is padded to whole blocks. vector() is the length of these vectors,
  // and slot(o) is the index of channel o.
  size_t vector() const { return size_t(groups_) * padded_; }
  size_t slot(int o) const { return size_t(o / in_group_) * padded_ + o % in_group_; }

  void PrepareOutputs(const Graph& graph) {
    multiplier_.assign(vector(), 0);
    bias_.assign(vector(), 0);
    const DType type = graph.tensors[op_.out].type;
    if (type == DType::kInt32) return Threshold(static_cast<const int32_t*>(graph.tensors[op_.in[4]].constant));
    const Tensor &multiplier = graph.tensors[op_.in[2]], &bias = graph.tensors[op_.in[3]];
    // If the multiplier and the bias are not both constant vectors, stages apply them.
    const bool vectors = multiplier.dims.size() == 1 && bias.dims.size() == 1 && multiplier.constant && bias.constant;
    if (!vectors) return LeavePlain();
    Scale(static_cast<const float*>(multiplier.constant), static_cast<const float*>(bias.constant),
          graph.tensors[op_.out]);
  }

  // The output bit is set if x + s > 2 * threshold, that is, if 2 * threshold - (x + s) < 0.
  void Threshold(const int32_t* thresholds) {
    for (int o = 0; o < outputs(); ++o) {
      multiplier_[slot(o)] = -1;
      bias_[slot(o)] = float(2.0 * thresholds[o]);
    }
  }

  // Makes the root yield the dot product itself.
  void LeavePlain() {
    for (int o = 0; o < outputs(); ++o) {
      multiplier_[slot(o)] = -1;
      bias_[slot(o)] = float(depth());
    }
  }

  void Scale(const float* multipliers, const float* biases, const Tensor& output) {
    const bool bytes = output.type == DType::kInt8;
    const double scale = bytes ? output.scale : 1.0, zero = bytes ? output.zero_point : 0.0;
    for (int o = 0; o < outputs(); ++o) {
      const double multiplier = multipliers[o], bias = biases[o];
      multiplier_[slot(o)] = float(-multiplier / scale);
      bias_[slot(o)] = float((bias + depth() * multiplier) / scale + zero);
    }
  }

  void PrepareClamp(DType output) {
    clamp_ = op_.clamp && output != DType::kInt32;
    lo_ = float(depth() - std::min<double>(op_.hi, depth()));
    hi_ = float(depth() - std::max<double>(op_.lo, -depth()));
    unscaled_ = !clamp_;
    for (int o = 0; o < outputs(); ++o) unscaled_ &= multiplier_[slot(o)] == -1;
  }

  // For each class of rows and each class of columns, makes a table of s for all output channels. (The comment at the
  // top of the file defines s.) Outputs whose taps all lie inside the image use none.
  void PrepareCorrections(const uint32_t* filter, const Shape& out) {
    const TapClasses rows = ClassifyTaps(out.h, in_.h, op_.kernel_h, op_.stride_h, op_.dilation_h, extent_h_.before),
                     columns = ClassifyTaps(out.w, in_.w, op_.kernel_w, op_.stride_w, op_.dilation_w, extent_w_.before);
    correction_rows_ = rows.of;
    if (rows.taps.size() == 1 && columns.taps.size() == 1) return;
    const std::vector<int> tap_sums = TapSums(filter);
    corrections_.assign(rows.taps.size() * columns.taps.size() * vector(), 0);
    float* table = corrections_.data();
    for (const Taps& ys : rows.taps)
      for (const Taps& xs : columns.taps) {
        for (int o = 0; o < outputs(); ++o) table[slot(o)] = float(OutsideSum(tap_sums, ys, xs, o));
        table += vector();
      }
    for (size_t cy = 0; cy < rows.taps.size(); ++cy)
      for (int cx : columns.of)
        correction_tables_.push_back(cy || cx ? &corrections_[(cy * columns.taps.size() + cx) * vector()] : nullptr);
  }

  // Returns the sum of each tap's weights, [tap][output].
  std::vector<int> TapSums(const uint32_t* filter) const {
    const int words = filter_[3];
    std::vector<int> sums(size_t(taps()) * outputs());
    for (int o = 0; o < outputs(); ++o)
      for (int t = 0; t < taps(); ++t) {
        int negative = 0;
        for (int i = 0; i < words; ++i) negative += __builtin_popcount(filter[(size_t(o) * taps() + t) * words + i]);
        sums[size_t(t) * outputs() + o] = channels() - 2 * negative;
      }
    return sums;
  }

  int OutsideSum(const std::vector<int>& tap_sums, const Taps& ys, const Taps& xs, int output) const {
    int sum = 0;
    for (int y = 0; y < op_.kernel_h; ++y)
      for (int x = 0; x < op_.kernel_w; ++x)
        if (!ys.Has(y) || !xs.Has(x)) sum += tap_sums[size_t(y * op_.kernel_w + x) * outputs() + output];
    return sum;
  }

  const std::vector<int> filter_;  // the filter's dimensions: outputs, height, width, words per tap
  const int in_group_, padded_;    // output channels of a group; the same, rounded up to whole blocks
  const Kernels* kernels_ = nullptr;
  PackedWeights weights_;
  std::vector<float> multiplier_, bias_;
  bool unscaled_ = false, clamp_ = false;
  float lo_ = 0, hi_ = 0;
  std::vector<float> corrections_;
  std::vector<int> correction_rows_;             // class of each row of outputs
  std::vector<const float*> correction_tables_;  // [class of rows][column]: null where all taps are inside
};

}  // namespace

std::unique_ptr<RowRoot> MakeBconv(const Graph& graph, const Op& op) { return std::make_unique<Bconv>(graph, op); }

}  // namespace r2b
