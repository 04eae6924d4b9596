// The root of a step that resizes a feature map: RESIZE_BILINEAR.
#include <algorithm>
#include <cmath>

#include "memory.h"
#include "steps/line.h"
#include "steps/roots.h"

namespace r2b {
namespace {

// For each output position along an axis: `first` and `second` are the two input positions between which it lies, and
// `part` is its distance from `first`. The formulas are TensorFlow Lite's. (Before the first pixel, `first` and
// `second` are both 0, and `part` is negative.)
struct Positions {
  std::vector<int> first, second;
  std::vector<float> part;

  Positions(const Op& op, int in, int out) {
    const bool corners = op.align_corners && out > 1;
    const float scale = corners ? float(in - 1) / float(out - 1) : float(in) / float(out);
    for (int i = 0; i < out; ++i) {
      const float at = op.half_pixel_centers ? (float(i) + 0.5f) * scale - 0.5f : float(i) * scale;
      first.push_back(std::min(std::max(int(std::floor(at)), 0), in - 1));
      second.push_back(std::min(std::max(int(std::ceil(at)), 0), in - 1));
      part.push_back(at - float(first.back()));
    }
  }
};

class Bilinear : public LineRoot {
 public:
  Bilinear(const Graph& graph, const Op& op)
      : Bilinear(op, AsImage(graph.tensors[op.in[0]].dims), AsImage(graph.tensors[op.out].dims)) {}
  const char* name() const override { return "bilinear"; }

 private:
  Bilinear(const Op& op, const Shape& in, const Shape& out) : rows_(op, in.h, out.h), columns_(op, in.w, out.w) {}

  void Fill(const RowRun& run, uint8_t* to, ptrdiff_t pixel) const override {
    const Storage& in = run.memory[run.step.input];
    const uint8_t* image = in.base + run.image * in.image;
    const Shape& out = run.step.out;
    run.kernels->bilinear({image + rows_.first[run.y] * in.row, image + rows_.second[run.y] * in.row,
                           columns_.first.data(), columns_.second.data(), columns_.part.data(), rows_.part[run.y],
                           in.pixel, pixel, out.w, out.c, to});
  }

  const Positions rows_, columns_;
};

}  // namespace

std::unique_ptr<RowRoot> MakeBilinear(const Graph& graph, const Op& op) {
  return std::make_unique<Bilinear>(graph, op);
}

}  // namespace r2b
