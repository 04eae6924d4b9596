// The root of a step that convolves int8 numbers and requantises the exact sums to int8 numbers, as TensorFlow Lite's
// reference kernels do. A dense layer is treated as a 1x1 convolution.
#include <algorithm>

#include "fixed_point.h"
#include "memory.h"
#include "steps/convolution.h"
#include "steps/roots.h"

namespace r2b {
namespace {

class Qconv : public ConvolutionRoot {
 public:
  // `source` is the tensor that the root reads: the operator's input, or the input of a QUANTIZE from uint8 before it,
  // whose work the root does.
  Qconv(const Graph& graph, const Op& op, int source)
      : ConvolutionRoot(graph, op, 1),
        dense_(op.kind == OpKind::kDense),
        pixel_(dense_ ? graph.tensors[op.in[1]].dims[1] : in_.c),
        flip_(graph.tensors[source].type == DType::kUInt8 ? 0x80 : 0),
        zero_point_(graph.tensors[op.in[0]].zero_point),
        small_(IsSmall(graph)) {}
  const char* name() const override { return dense_ ? "dense-int8" : "conv-int8"; }
  Splits splits() const override { return Splits::kFreely; }
  bool may_feed() const override { return true; }
  const Requantisation* LeaveUnfinished() override {
    unfinished_ = small_;
    return unfinished_ ? &output_ : nullptr;
  }
  bool OmitZeroPoint() override { return omits_zero_point_ = true; }
  Border border() const override { return {}; }  // padding is added in scratch memory

  void Prepare(const Setting& setting) override {
    packing_ = setting.kernels->byte_packing;
    const bool per_row = op_.dilation_w == 1;
    columns_ = {pixel_ * (per_row ? op_.kernel_w : 1), ProductsOf(packing_), 0};
    JoinRests();
    weights_ = setting.weights->Bytes(setting.graph, op_.in[1], columns_);
    PrepareOutput(setting.graph);
  }

  WorkspaceSize Lay(const Step& step, const Memory&) override {
    const int bytes = ActivationBytes(packing_);
    const Border around = dense_ ? Border{} : ConvolutionRoot::border();
    width_ = dense_ ? step.out.w : in_.w;
    before_ = around.left * pixel_;
    after_ = around.right * pixel_;
    line_ = QconvLine(packing_, int64_t(before_) + int64_t(width_) * pixel_ + after_);
    segments_.clear();
    for (int first = 0; first < (keeps_lines() ? op_.kernel_h : 1); ++first) {
      for (int y = 0; y < op_.kernel_h; ++y)
        for (int x = 0; x < (op_.dilation_w == 1 ? 1 : op_.kernel_w); ++x)
          segments_.push_back((first + y) % op_.kernel_h * line_ + ptrdiff_t(x) * op_.dilation_w * pixel_ * bytes);
      for (int plane = 0; plane < planes(); ++plane) segments_.push_back((op_.kernel_h + plane) * line_);
    }
    if (planes()) {
      no_bytes_.assign(size_t(step.out.w - 1) * size_t(stride()) + 4, 0);
      pixel_starts_.assign(no_bytes_.size() + 4, 0);
      for (size_t i = 4; i < pixel_starts_.size(); i += size_t(stride())) pixel_starts_[i] = 0xff;
    }
    WorkspaceSize size;
    size.scratch = lines_bytes() + size_t(op_.kernel_h) * sizeof(const uint8_t*);
    return size;
  }

  void Run(const RowRun& run, const Epilogue& epilogue) const override {
    const int c0 = run.begin_channel, bytes = ActivationBytes(packing_);
    uint8_t* scratch = run.workspace->scratch.data();
    auto** lines = reinterpret_cast<const uint8_t**>(scratch + lines_bytes());
    FindLines(run, lines);
    QconvRow row{};
    row.lines = lines;
    row.rows = op_.kernel_h;
    row.before = before_;
    row.values = width_ * pixel_;
    row.after = after_;
    row.flip = flip_;
    row.zero_point = zero_point_;
    row.scratch = scratch;
    row.line_bytes = line_;
    if (keeps_lines()) {
      const int64_t top = int64_t(run.y) * op_.stride_h - extent_h_.before;
      row.first = int((top % op_.kernel_h + op_.kernel_h) % op_.kernel_h);
    }
    row.fresh = keeps_lines() && run.follows ? std::min(op_.stride_h, op_.kernel_h) : op_.kernel_h;
    const int segments = int(segments_.size()) / (keeps_lines() ? op_.kernel_h : 1);
    row.input = {row.scratch, ptrdiff_t(stride()) * bytes, segments_.data() + ptrdiff_t(row.first) * segments, segments,
                 columns_.of_segment()};
    row.planes = planes();
    row.joined = columns_.joined;
    row.rest = columns_.rest();
    row.pixel_starts = pixel_starts_.data();
    row.no_bytes = no_bytes_.data();
    row.weights = weights_.bytes->data() + c0 / kBlock * weights_.block_bytes;
    row.block_bytes = weights_.block_bytes;
    row.output = output_;
    for (auto** vector : {&row.output.bias, &row.output.multiplier, &row.output.left, &row.output.right}) *vector += c0;
    row.unfinished = unfinished_;
    row.width = run.step.out.w;
    row.channel0 = c0;
    row.channels = run.end_channel - c0;
    run.kernels->qconv(row, epilogue);
  }

 private:
  int64_t stride() const { return int64_t(op_.stride_w) * pixel_; }  // in values
  int planes() const { return columns_.of_rests(op_.kernel_h); }
  // Whether the next row of outputs reuses rows in scratch memory.
  bool keeps_lines() const { return !dense_ && op_.dilation_h == 1 && op_.kernel_h > op_.stride_h; }
  // The bytes of QconvRow::scratch. The pointers of QconvRow::lines follow in the same buffer.
  size_t lines_bytes() const { return size_t(op_.kernel_h + planes()) * size_t(line_) + kScratchMargin; }

  // Joins the last values of kernel rows in planes (see QconvRow) if that results in fewer columns.
  void JoinRests() {
    const bool bytes = packing_ != BytePacking::kPairs;
    if (!bytes || op_.dilation_w > 1 || columns_.length < columns_.products) return;
    ByteColumns joined = columns_;
    joined.joined = int(std::min<int64_t>(columns_.products, stride()));
    if (joined.rest() && joined.of_rests(op_.kernel_h) < op_.kernel_h) columns_ = joined;
  }

  // The input is contiguous: tensors of 8-bit numbers have no borders and no special layouts (see memory.h).
  void FindLines(const RowRun& run, const uint8_t** lines) const {
    const Storage& in = run.memory[run.step.input];
    const ptrdiff_t line = ptrdiff_t(width_) * pixel_;
    if (dense_) {
      lines[0] = in.base + (ptrdiff_t(run.image) * run.step.out.h + run.y) * line;
      return;
    }
    for (int i = 0; i < op_.kernel_h; ++i) {
      const int64_t y = int64_t(run.y) * op_.stride_h - extent_h_.before + int64_t(i) * op_.dilation_h;
      lines[i] = y < 0 || y >= in_.h ? nullptr : in.base + (ptrdiff_t(run.image) * in_.h + y) * line;
    }
  }

  // Returns null if there is no bias.
  const int32_t* Bias(const Graph& graph) const {
    if (op_.in.size() <= 2 || op_.in[2] < 0) return nullptr;
    return static_cast<const int32_t*>(graph.tensors[op_.in[2]].constant);
  }

  void PrepareOutput(const Graph& graph) {
    const Tensor &in = graph.tensors[op_.in[0]], &filter = graph.tensors[op_.in[1]], &out = graph.tensors[op_.out];
    const int outputs = filter.dims[0];
    const size_t padded = size_t(Blocks(outputs)) * kBlock, depth = size_t(Elements(filter.dims).value()) / outputs;
    for (auto* vector : {&bias_, &multiplier_, &left_, &right_}) vector->assign(padded, 0);
    const int32_t* bias = Bias(graph);
    // In scratch memory an activation is stored as number - zero point + excess.
    const int32_t excess = packing_ == BytePacking::kPairs      ? 0
                           : packing_ == BytePacking::kUnsigned ? in.zero_point + 128
                                                                : in.zero_point;
    const auto* weights = static_cast<const int8_t*>(filter.constant);
    for (int o = 0; o < outputs; ++o) {
      int32_t sum = 0;
      for (size_t i = 0; i < depth; ++i) sum += weights[o * depth + i];
      bias_[o] = int32_t((bias ? uint32_t(bias[o]) : 0) - uint32_t(excess) * uint32_t(sum));
      const FixedPoint scale(Scale(in, filter, out, o));
      multiplier_[o] = scale.multiplier;
      left_[o] = scale.left;
      right_[o] = scale.right;
    }
    const int32_t omitted = omits_zero_point_ ? out.zero_point : 0;
    output_ = {bias_.data(),
               multiplier_.data(),
               left_.data(),
               right_.data(),
               out.zero_point - omitted,
               (op_.clamp ? NumberOf(op_.lo, out) : -128) - omitted,
               (op_.clamp ? NumberOf(op_.hi, out) : 127) - omitted,
               small_};
  }

  // Returns the value of Requantisation::small. If it is true, requantisation is non-decreasing, as LeaveUnfinished()
  // requires: sum + bias fits 32 bits, and nothing is shifted to the left.
  bool IsSmall(const Graph& graph) const {
    const Tensor &in = graph.tensors[op_.in[0]], &filter = graph.tensors[op_.in[1]], &out = graph.tensors[op_.out];
    constexpr int64_t kExact = 1 << 24, kMostProduct = 255 * 128;
    const int64_t depth = Elements(filter.dims).value() / filter.dims[0];
    if (dense_ || depth * kMostProduct >= kExact) return false;
    const int32_t* bias = Bias(graph);
    for (int o = 0; o < filter.dims[0]; ++o) {
      if (bias && std::abs(int64_t(bias[o])) >= Requantisation::kMostBias / 2) return false;
      const FixedPoint scale(Scale(in, filter, out, o));
      if (scale.left > 0 || scale.right == 0 || scale.right > Requantisation::kMostRight) return false;
    }
    return true;
  }

  // Returns the scale that turns sums of products into output numbers: input scale * weight scale / output scale. If a
  // dense layer has a single scale for all weights, TensorFlow Lite rounds the product of the first two to a float.
  double Scale(const Tensor& in, const Tensor& filter, const Tensor& out, int o) const {
    const float scale = filter.scales[filter.scales.size() == 1 ? 0 : size_t(o)];
    if (dense_ && filter.scales.size() == 1) return double(in.scale * scale) / double(out.scale);
    return double(in.scale) * double(scale) / double(out.scale);
  }

  const bool dense_;
  const int pixel_;  // values per input pixel
  const uint8_t flip_;
  const int32_t zero_point_;
  const bool small_;  // Requantisation::small
  BytePacking packing_ = BytePacking::kPairs;
  PackedWeights weights_;
  std::vector<int32_t> bias_, multiplier_, left_, right_;
  Requantisation output_{};  // of all channels
  bool unfinished_ = false, omits_zero_point_ = false;
  ByteColumns columns_{};
  std::vector<uint8_t> pixel_starts_, no_bytes_;
  int width_ = 0, before_ = 0, after_ = 0;
  ptrdiff_t line_ = 0;
  std::vector<ptrdiff_t> segments_;
};

}  // namespace

std::unique_ptr<RowRoot> MakeQconv(const Graph& graph, const Op& op, int source) {
  return std::make_unique<Qconv>(graph, op, source);
}

}  // namespace r2b
