// Builds and runs plans of a few operators.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checks.h"
#include "plan.h"

namespace r2b {

struct Builder {
  Graph graph;
  std::vector<std::unique_ptr<Guarded>> constants;
  int Tensor(DType type, std::vector<int> dims) {
    r2b::Tensor t;
    t.type = type;
    t.dims = std::move(dims);
    graph.tensors.push_back(t);
    return int(graph.tensors.size()) - 1;
  }
  template <class T>
  int Constant(DType type, std::vector<int> dims, const std::vector<T>& values) {
    const int t = Tensor(type, std::move(dims));
    constants.push_back(std::make_unique<Guarded>(values.size() * sizeof(T)));
    std::memcpy(constants.back()->data<T>(), values.data(), values.size() * sizeof(T));
    graph.tensors[t].constant = constants.back()->data<T>();
    return t;
  }
  Op& Add(OpKind kind, std::vector<int> in, int out) {
    Op op;
    op.kind = kind;
    op.in = std::move(in);
    op.out = out;
    op.node = int(graph.ops.size());
    graph.ops.push_back(op);
    return graph.ops.back();
  }
};

// Plans the builder's graph and runs the plan twice. `inputs` are pairs (index of a tensor, memory). Returns the
// `count` values of the first output. Checks that the guard bytes around the inputs and this output stay unchanged.
template <class T>
std::vector<T> RunPlan(const Builder& b, const Kernels* kernels, int threads,
                       const std::vector<std::pair<int, Guarded*>>& inputs, size_t count, const std::string& what) {
  Plan plan(b.graph, kernels, false);
  std::string error;
  if (!plan.Prepare(threads, &error)) {
    Check(false, what + ": " + error);
    return std::vector<T>(count);
  }
  ThreadPool pool(threads);
  Guarded out(count * sizeof(T));
  for (const auto& input : inputs) plan.Bind(input.first, input.second->data<void>());
  plan.Bind(b.graph.outputs[0], out.data<void>());
  for (int run = 0; run < 2; ++run) plan.Run(&pool);
  Check(out.intact(), what + ": wrote outside the output");
  for (const auto& input : inputs) Check(input.second->intact(), what + ": wrote outside an input");
  return std::vector<T>(out.data<T>(), out.data<T>() + count);
}

}  // namespace r2b
