// The root of a step that takes maxima of packed signs over windows.
#include <algorithm>

#include "memory.h"
#include "steps/roots.h"
#include "steps/window.h"

namespace r2b {
namespace {

class BmaxPool : public RowRoot {
 public:
  BmaxPool(const Graph& graph, const Op& op) : window_(graph, op) {}
  const char* name() const override { return "bmaxpool"; }
  Reads reads() const override { return Reads::kRuns; }
  bool has_stages() const override { return false; }

  void Run(const RowRun& run, const Epilogue&) const override {
    const Storage &in = run.memory[run.step.input], &out = run.memory[run.step.output];
    const uint8_t* image = in.base + run.image * in.image;
    uint8_t* z = out.base + run.image * out.image + run.y * out.row;
    for (int x = 0; x < run.step.out.w; ++x, z += out.pixel)
      Reduce(image, in, run.y, x, run.step.out.c, reinterpret_cast<uint32_t*>(z));
  }

 private:
  // The maximum is -1 (bit 1) only if all signs in the window are -1.
  void Reduce(const uint8_t* image, const Storage& in, int y, int x, int words, uint32_t* z) const {
    std::fill(z, z + words, ~uint32_t(0));
    for (int i = window_.FirstRow(y); i < window_.EndRow(y); ++i)
      for (int j = window_.begin_columns[x]; j < window_.end_columns[x]; ++j) {
        const uint32_t* v = reinterpret_cast<const uint32_t*>(image + i * in.row + j * in.pixel);
        for (int w = 0; w < words; ++w) z[w] &= v[w];
      }
  }

  const Window window_;
};

}  // namespace

std::unique_ptr<RowRoot> MakeBmaxPool(const Graph& graph, const Op& op) {
  return std::make_unique<BmaxPool>(graph, op);
}

}  // namespace r2b
