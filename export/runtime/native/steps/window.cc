#include "steps/window.h"

#include <algorithm>

namespace r2b {

// A mean has one window, which is the whole image.
Window::Window(const Graph& graph, const Op& op)
    : in(AsImage(graph.tensors[op.in[0]].dims)),
      kernel_h(op.kind == OpKind::kMean ? in.h : op.kernel_h),
      kernel_w(op.kind == OpKind::kMean ? in.w : op.kernel_w),
      stride_h(op.stride_h),
      stride_w(op.stride_w),
      h(WindowExtent(in.h, kernel_h, stride_h, op.dilation_h, op.same_padding)),
      w(WindowExtent(in.w, kernel_w, stride_w, op.dilation_w, op.same_padding)) {
  for (int x = 0; x < w.out; ++x) {
    const int begin = x * stride_w - w.before;
    begin_columns.push_back(std::max(begin, 0));
    end_columns.push_back(std::min(begin + kernel_w, in.w));
  }
}

int Window::FirstRow(int y) const { return std::max(y * stride_h - h.before, 0); }
int Window::EndRow(int y) const { return std::min(y * stride_h - h.before + kernel_h, in.h); }

}  // namespace r2b
