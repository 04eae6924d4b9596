// The step of a logistic function that is not fused into another step.
#include "memory.h"
#include "steps/values.h"

namespace r2b {
namespace {

class Logistic : public ValuesRoot {
 public:
  Logistic(const Graph& graph, const Op& op)
      : ValuesRoot(graph, op, "logistic", 8), items_(int(AsImage(graph.tensors[op.in[0]].dims).count())) {}
  int items() const override { return items_; }

  void Run(const FlatRun& run) const override {
    run.kernels->logistic(run.memory.At<float>(run.step.input) + run.begin, run.end - run.begin,
                          run.memory.At<float>(run.step.output) + run.begin);
  }

 private:
  const int items_;
};

}  // namespace

std::unique_ptr<FlatRoot> MakeLogistic(const Graph& graph, const Op& op) {
  return std::make_unique<Logistic>(graph, op);
}

}  // namespace r2b
