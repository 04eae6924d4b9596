// The step of a softmax over the last axis.
#include "memory.h"
#include "steps/values.h"

namespace r2b {
namespace {

class Softmax : public ValuesRoot {
 public:
  Softmax(const Graph& graph, const Op& op)
      : ValuesRoot(graph, op, "softmax", 8), beta_(op.beta), pixels_(PixelsOf(graph.tensors[op.out])) {}
  int items() const override { return pixels_.count; }

  void Run(const FlatRun& run) const override {
    const int64_t first = int64_t(run.begin) * pixels_.channels;
    run.kernels->softmax(run.memory.At<float>(run.step.input) + first, run.end - run.begin, pixels_.channels, beta_,
                         run.memory.At<float>(run.step.output) + first);
  }

 private:
  const float beta_;
  const Pixels pixels_;
};

}  // namespace

std::unique_ptr<FlatRoot> MakeSoftmax(const Graph& graph, const Op& op) { return std::make_unique<Softmax>(graph, op); }

}  // namespace r2b
