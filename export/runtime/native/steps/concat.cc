// The root of a step that concatenates tensors.
#include "memory.h"
#include "steps/line.h"
#include "steps/roots.h"

namespace r2b {
namespace {

class Concat : public LineRoot {
 public:
  Concat(const Graph& graph, const Op& op) : op_(op), axis_(op.axis + 4 - int(graph.tensors[op.out].dims.size())) {
    for (int t : op.in) shapes_.push_back(AsImage(graph.tensors[t].dims));
  }
  const char* name() const override { return "concat"; }
  std::vector<int> more_inputs() const override { return {op_.in.begin() + 1, op_.in.end()}; }

 private:
  enum Axis { kImage, kRow, kColumn, kChannel };

  void Fill(const RowRun& run, uint8_t* to, ptrdiff_t pixel) const override {
    int image = run.image, y = run.y;
    for (size_t i = 0; i < shapes_.size(); ++i) {
      const Shape& shape = shapes_[i];
      // If the tensors are concatenated along images or rows, the whole row comes from one of them.
      int* at = axis_ == kImage ? &image : axis_ == kRow ? &y : nullptr;
      const int extent = axis_ == kImage ? shape.n : shape.h;
      if (at && *at >= extent) {
        *at -= extent;
        continue;
      }
      const Storage& from = run.memory[op_.in[i]];
      CopyPixels(to, pixel, from.base + image * from.image + y * from.row, from.pixel, shape.w, shape.c);
      if (at) return;
      to += axis_ == kColumn ? shape.w * pixel : shape.c * ptrdiff_t(sizeof(float));
    }
  }

  const Op& op_;
  const int axis_;  // an Axis
  std::vector<Shape> shapes_;
};

}  // namespace

std::unique_ptr<RowRoot> MakeConcat(const Graph& graph, const Op& op) { return std::make_unique<Concat>(graph, op); }

}  // namespace r2b
