// The root of a step that surrounds a tensor with a constant value: PAD and PADV2.
#include <algorithm>

#include "memory.h"
#include "steps/line.h"
#include "steps/roots.h"

namespace r2b {
namespace {

class Surround : public LineRoot {
 public:
  Surround(const Graph& graph, const Op& op) : fill_(op.fill), in_(AsImage(graph.tensors[op.in[0]].dims)) {
    const int first = 4 - int(op.numbers.size() / 2);
    for (size_t i = 0; i < op.numbers.size() / 2; ++i) before_[first + int(i)] = op.numbers[2 * i];
  }
  const char* name() const override { return "surround"; }

 private:
  void Fill(const RowRun& run, uint8_t* to, ptrdiff_t pixel) const override {
    const Shape& out = run.step.out;
    const int image = run.image - before_[0], y = run.y - before_[1], left = before_[2], first = before_[3];
    if (image < 0 || image >= in_.n || y < 0 || y >= in_.h) return Constant(to, pixel, 0, out.w, 0, out.c);
    const int right = left + in_.w, last = first + in_.c;
    Constant(to, pixel, 0, left, 0, out.c);
    Constant(to, pixel, left, right, 0, first);
    Constant(to, pixel, left, right, last, out.c);
    Constant(to, pixel, right, out.w, 0, out.c);
    const Storage& in = run.memory[run.step.input];
    CopyPixels(to + left * pixel + first * ptrdiff_t(sizeof(float)), pixel, in.base + image * in.image + y * in.row,
               in.pixel, in_.w, in_.c);
  }

  void Constant(uint8_t* to, ptrdiff_t pixel, int begin, int end, int first, int last) const {
    if (first >= last) return;
    for (int x = begin; x < end; ++x) {
      float* at = reinterpret_cast<float*>(to + x * pixel);
      std::fill(at + first, at + last, fill_);
    }
  }

  const float fill_;
  const Shape in_;
  int before_[4] = {};  // the padding before each axis, as NHWC
};

}  // namespace

std::unique_ptr<RowRoot> MakeSurround(const Graph& graph, const Op& op) {
  return std::make_unique<Surround>(graph, op);
}

}  // namespace r2b
