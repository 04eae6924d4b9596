// The root of a step that takes part of a tensor, by a range and a stride for each axis: STRIDED_SLICE and SPLIT.
#include "memory.h"
#include "steps/line.h"
#include "steps/roots.h"

namespace r2b {
namespace {

class SliceRoot : public LineRoot {
 public:
  SliceRoot(const Graph& graph, const Op& op) {
    const std::vector<int>& dims = graph.tensors[op.in[0]].dims;
    const std::vector<Slice> slices = SlicesOf(op, dims);
    const int in = 4 - int(dims.size());
    int out = 4 - int(graph.tensors[op.out].dims.size());
    for (size_t i = 0; i < slices.size(); ++i) {
      begin_[in + int(i)] = slices[i].begin;
      if (!slices[i].shrunk) axes_[out++] = {in + int(i), slices[i].stride};
    }
  }
  const char* name() const override { return "slice"; }

 private:
  void Fill(const RowRun& run, uint8_t* to, ptrdiff_t pixel) const override {
    const Storage& in = run.memory[run.step.input];
    const ptrdiff_t strides[] = {in.image, in.row, in.pixel, ptrdiff_t(sizeof(float))};
    const auto step = [&](int axis) { return axes_[axis].stride * strides[axes_[axis].of]; };
    const uint8_t* from = in.base + run.image * step(0) + run.y * step(1);
    for (int i = 0; i < 4; ++i) from += begin_[i] * strides[i];
    const Shape& out = run.step.out;
    if (step(3) == ptrdiff_t(sizeof(float)) || out.c == 1) return CopyPixels(to, pixel, from, step(2), out.w, out.c);
    for (int x = 0; x < out.w; ++x, to += pixel, from += step(2))
      for (int c = 0; c < out.c; ++c)
        reinterpret_cast<float*>(to)[c] = *reinterpret_cast<const float*>(from + c * step(3));
  }

  struct Axis {
    int of = 0, stride = 0;  // the input axis that becomes this output axis, and the slice's stride along it
  };
  Axis axes_[4];  // of the output, as NHWC; an axis that the output lacks has stride 0
  int begin_[4] = {};
};

}  // namespace

std::unique_ptr<RowRoot> MakeSlice(const Graph& graph, const Op& op) { return std::make_unique<SliceRoot>(graph, op); }

}  // namespace r2b
