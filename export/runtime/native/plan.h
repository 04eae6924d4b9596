// A plan is a graph that has been made ready to run. It has three parts:
//
// Program (program.h): the graph as a short list of steps. A step applies as many operators as it can to a value while
// the value is in registers. The classes in steps/ compute the values with which steps begin.
// Memory (memory.h): the place of every tensor that must exist between steps.
// Executor (executor.h): runs the steps in several threads. Results equal those of one thread to the last bit.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "executor.h"
#include "graph.h"
#include "kernels/kernels.h"
#include "limits.h"
#include "memory.h"
#include "program.h"
#include "thread_pool.h"
#include "weights.h"

namespace r2b {

class Plan {
 public:
  // With `profile`, runs measure the time of each step. Plans of one graph may share `weights`, the packed weights.
  Plan(Graph graph, const Kernels* kernels, bool profile,
       std::shared_ptr<WeightCache> weights = std::make_shared<WeightCache>());
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  // Sets an input's shape for the next Prepare().
  void SetDims(int tensor, const int* dims, int rank);
  // Sets the limits of the next Prepare().
  void SetLimits(const Limits& limits) { limits_ = limits; }
  // Infers shapes, fuses operators into steps, and allocates memory. May be called again after shapes have changed.
  // False, with the reason in `*error`, if the graph cannot be run, or would exceed the limits.
  bool Prepare(int threads, std::string* error);
  // The memory and the work that the last Prepare() counted against the limits.
  const Budget& budget() const { return budget_; }
  const std::vector<int>& dims(int tensor) const { return graph_.tensors[tensor].dims; }
  void Bind(int tensor, void* data) { memory_.Bind(tensor, data); }
  // All inputs and outputs must be bound. The pool must not have more threads than were given to Prepare().
  void Run(ThreadPool* pool) { executor_.Run(pool, profile_); }

  const Graph& graph() const { return graph_; }
  // The time that each step has taken since the last Prepare(); 0 unless the plan was made with `profile`.
  std::vector<StepProfile> Profile() const { return executor_.Profile(); }

 private:
  bool PrepareAll(int threads, std::string* error);

  Graph graph_;
  const size_t tensors_;  // the number in the given graph; further ones are copies with a border
  Limits limits_;
  Budget budget_{graph_};
  const Kernels* kernels_;
  bool profile_;
  const std::shared_ptr<WeightCache> weights_;  // survives Prepare()
  Program program_;
  Memory memory_;
  Executor executor_;
};

}  // namespace r2b
