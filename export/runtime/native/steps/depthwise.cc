// The root of a step that convolves each channel separately: DEPTHWISE_CONV_2D.
#include <algorithm>

#include "memory.h"
#include "steps/convolution.h"
#include "steps/roots.h"

namespace r2b {
namespace {

class Depthwise : public ConvolutionRoot {
 public:
  Depthwise(const Graph& graph, const Op& op)
      : ConvolutionRoot(graph, op, 1),
        outputs_(graph.tensors[op.in[1]].dims[3]),
        multiplier_(outputs_ / in_.c),
        taps_(op.kernel_h * op.kernel_w),
        threes_(op.kernel_w == 3 && op.stride_w == 1 && op.dilation_w == 1),
        span_((extent_w_.out - 1) * op.stride_w + (op.kernel_w - 1) * op.dilation_w + 1) {}
  const char* name() const override { return "depthwise"; }
  // If each channel has a single output, a block of outputs reads only the same block of inputs.
  Reads reads() const override { return multiplier_ == 1 ? Reads::kWindow : Reads::kRuns; }
  Splits splits() const override { return Splits::kFreely; }
  bool may_feed() const override { return !widens(); }

  void Prepare(const Setting& setting) override {
    weights_ = setting.weights->Channels(setting.graph, op_.in[1]);
    bias_ = PaddedBias(setting.graph, op_);
  }

  WorkspaceSize Lay(const Step& step, const Memory& memory) override {
    const Storage& input = memory[step.input];
    const ptrdiff_t value = outputs_ * ptrdiff_t(sizeof(float));
    offsets_.clear();
    for (int t = 0; t < taps_; ++t)
      offsets_.push_back(widens() ? (RowOf(t) * ptrdiff_t(span_) + ColumnOf(t) * op_.dilation_w) * value
                                  : RowOf(t) * op_.dilation_h * input.row + ColumnOf(t) * op_.dilation_w * input.pixel);
    WorkspaceSize size;
    if (widens()) size.ring = Count(op_.kernel_h) * span_ * outputs_ * sizeof(float);
    return size;
  }

  void Run(const RowRun& run, const Epilogue& epilogue) const override {
    const Storage& input = run.memory[run.step.input];
    const uint8_t* origin = input.base + run.image * input.image +
                            (run.y * op_.stride_h - extent_h_.before) * input.row - extent_w_.before * input.pixel;
    const int c = run.begin_channel;
    ptrdiff_t pixel = input.pixel;
    if (widens()) {
      Widen(run, origin, input);
      origin = run.workspace->ring.data();
      pixel = outputs_ * ptrdiff_t(sizeof(float));
    }
    run.kernels->depthwise({origin, op_.stride_w * pixel, input.gap, offsets_.data(), taps_, threes_, Weights(),
                            bias_.data(), run.step.out.w, c, run.end_channel},
                           epilogue);
  }

 private:
  // If a channel has several outputs, the input rows are first copied with each channel repeated for all its outputs.
  bool widens() const { return multiplier_ > 1; }

  void Widen(const RowRun& run, const uint8_t* origin, const Storage& input) const {
    float* to = reinterpret_cast<float*>(run.workspace->ring.data());
    for (int row = 0; row < op_.kernel_h; ++row)
      for (int x = 0; x < span_; ++x, to += outputs_) {
        const auto* from = reinterpret_cast<const float*>(origin + row * op_.dilation_h * input.row + x * input.pixel);
        for (int o = run.begin_channel; o < run.end_channel; ++o) to[o] = from[o / multiplier_];
      }
  }

  const float* Weights() const { return reinterpret_cast<const float*>(weights_.bytes->data()); }
  int RowOf(int tap) const { return tap / op_.kernel_w; }
  int ColumnOf(int tap) const { return tap % op_.kernel_w; }

  const int outputs_, multiplier_, taps_;
  const bool threes_;  // see DepthwiseRow
  const int span_;     // how many input columns a row of outputs spans
  PackedWeights weights_;
  std::vector<float> bias_;
  std::vector<ptrdiff_t> offsets_;  // of the taps, in bytes from an output pixel's origin
};

}  // namespace

std::unique_ptr<RowRoot> MakeDepthwise(const Graph& graph, const Op& op) {
  return std::make_unique<Depthwise>(graph, op);
}

}  // namespace r2b
