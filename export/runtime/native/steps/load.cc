// The root of a step that only loads a tensor from memory and applies stages to it.
#include "memory.h"
#include "steps/roots.h"

namespace r2b {
namespace {

class Load : public RowRoot {
 public:
  const char* name() const override { return "elementwise"; }
  Reads reads() const override { return Reads::kPixel; }

  void Run(const RowRun& run, const Epilogue& epilogue) const override {
    const Storage& in = run.memory[run.step.input];
    run.kernels->load(
        {in.base + run.image * in.image + run.y * in.row, in.pixel, in.gap, run.step.out.w, run.step.out.c}, epilogue);
  }
};

}  // namespace

std::unique_ptr<RowRoot> MakeLoad() { return std::make_unique<Load>(); }

}  // namespace r2b
