#include "plan.h"

namespace r2b {

Plan::Plan(Graph graph, const Kernels* kernels, bool profile, std::shared_ptr<WeightCache> weights)
    : graph_(std::move(graph)),
      tensors_(graph_.tensors.size()),
      kernels_(kernels),
      profile_(profile),
      weights_(std::move(weights)) {}

void Plan::SetDims(int tensor, const int* dims, int rank) { graph_.tensors[tensor].dims.assign(dims, dims + rank); }

bool Plan::Prepare(int threads, std::string* error) {
  budget_.Begin(limits_);
  try {
    return PrepareAll(threads, error);
  } catch (const Refused& refused) {
    *error = refused.what();
    return false;
  }
}

bool Plan::PrepareAll(int threads, std::string* error) {
  executor_ = Executor();  // the old executor refers to steps that Fuse() deletes
  graph_.tensors.resize(tensors_);
  if (!InferShapes(&graph_, error)) return false;
  TakeOperators(graph_, *kernels_, &budget_);
  if (!Fuse(graph_, &program_, error)) return false;
  const Setting setting{graph_, kernels_, weights_.get()};
  for (Step& step : program_.steps) {
    if (step.feeder) step.feeder->rows->Prepare(setting);
    if (step.rows) step.rows->Prepare(setting);
    if (step.flat) step.flat->Prepare(setting);
  }
  memory_.Prepare(&graph_, &program_, &budget_, threads);
  executor_.Prepare(&graph_, &program_, &memory_, kernels_, &budget_, threads);
  return true;
}

}  // namespace r2b
