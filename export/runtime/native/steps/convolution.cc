#include "steps/convolution.h"

#include <algorithm>

#include "memory.h"

namespace r2b {

ConvolutionRoot::ConvolutionRoot(const Graph& graph, const Op& op, int groups)
    : op_(op),
      in_(AsImage(graph.tensors[op.in[0]].dims)),
      groups_(groups),
      extent_h_(WindowExtent(in_.h, op.kernel_h, op.stride_h, op.dilation_h, op.same_padding)),
      extent_w_(WindowExtent(in_.w, op.kernel_w, op.stride_w, op.dilation_w, op.same_padding)) {}

Border ConvolutionRoot::border() const {
  const auto after = [](int in, const Extent& e, int kernel, int stride, int dilation) {
    return std::max(0, (e.out - 1) * stride + (kernel - 1) * dilation + 1 - in - e.before);
  };
  return {extent_h_.before, extent_w_.before, after(in_.h, extent_h_, op_.kernel_h, op_.stride_h, op_.dilation_h),
          after(in_.w, extent_w_, op_.kernel_w, op_.stride_w, op_.dilation_w)};
}

void ConvolutionRoot::LayRuns(const Storage& input) {
  const bool per_row = op_.dilation_w == 1 && groups_ == 1;
  segments_.clear();
  for (int y = 0; y < op_.kernel_h; ++y)
    for (int x = 0; x < (per_row ? 1 : op_.kernel_w); ++x)
      segments_.push_back(y * op_.dilation_h * input.row + x * op_.dilation_w * input.pixel);
  run_length_ = in_.c / groups_ * (per_row ? op_.kernel_w : 1);
}

RunList ConvolutionRoot::Runs(const Storage& input, int image, int y) const {
  return RunsFrom(input.base + image * input.image + (y * op_.stride_h - extent_h_.before) * input.row -
                      extent_w_.before * input.pixel,
                  input);
}

RunList ConvolutionRoot::RunsFrom(const uint8_t* origin, const Storage& input) const {
  return {origin, op_.stride_w * input.pixel, segments_.data(), int(segments_.size()), run_length_};
}

}  // namespace r2b
