// The root of a step that copies a tensor into memory with a border around each image (see memory.h).
#include <cstring>

#include "memory.h"
#include "steps/roots.h"

namespace r2b {
namespace {

class Pad : public RowRoot {
 public:
  const char* name() const override { return "pad"; }
  Reads reads() const override { return Reads::kRuns; }
  bool has_stages() const override { return false; }

  void Run(const RowRun& run, const Epilogue&) const override {
    const Storage &in = run.memory[run.step.input], &out = run.memory[run.step.output];
    std::memcpy(out.base + run.image * out.image + run.y * out.row, in.base + run.image * in.image + run.y * in.row,
                size_t(run.step.out.w) * in.pixel);
  }
};

}  // namespace

std::unique_ptr<RowRoot> MakePad() { return std::make_unique<Pad>(); }

}  // namespace r2b
