#include "memory.h"

namespace r2b {
namespace {

// A tensor with a single block or a single column is left out: rows of blocks would be the same layout.
bool MayLieInBlocks(const Tensor& tensor, const Storage& s) {
  return tensor.type == DType::kFloat && tensor.dims.size() == 4 && tensor.dims[3] > kBlock &&
         tensor.dims[3] % kBlock == 0 && tensor.dims[2] > 1 && !tensor.constant && !s.external && !s.border.any();
}

class Blocked {
 public:
  Blocked(const Graph& graph, const std::vector<Storage>& storage) : graph_(graph) {
    for (size_t t = 0; t < graph.tensors.size(); ++t) blocks_.push_back(MayLieInBlocks(graph.tensors[t], storage[t]));
  }
  bool operator[](size_t tensor) const { return blocks_[tensor]; }

  // Excludes the tensors that a step does not read or write in whole blocks.
  void Exclude(const Step& step) {
    if (step.flat)
      for (int t : step.Reads(graph_)) blocks_[t] = false;
    for (const StagePlan& stage : step.stages)
      if (stage.tensor >= 0 && !InRegisters(step, stage.tensor)) blocks_[stage.tensor] = false;
    if (!ReadsBlocks(step)) blocks_[step.input] = false;
    if (step.rows)
      for (int t : step.rows->more_inputs()) blocks_[t] = false;
    if (!step.rows || !step.rows->has_stages()) blocks_[step.output] = false;
  }

 private:
  // True if the tensor's blocks are those of the values in registers.
  bool InRegisters(const Step& step, int tensor) const {
    return step.rows->whole_blocks() && AsImage(graph_.tensors[tensor].dims) == step.out;
  }
  bool ReadsBlocks(const Step& step) const {
    if (!step.rows) return false;
    switch (step.rows->reads()) {
      case RowRoot::Reads::kWindow: return true;
      case RowRoot::Reads::kPixel: return InRegisters(step, step.input);
      default: return false;
    }
  }

  const Graph& graph_;
  std::vector<bool> blocks_;
};

}  // namespace

void LayInBlocks(const Graph& graph, const Program& program, std::vector<Storage>* storage) {
  Blocked blocked(graph, *storage);
  for (const Step& step : program.steps) {
    blocked.Exclude(step);
    if (step.feeder) blocked.Exclude(*step.feeder);
  }
  for (size_t t = 0; t < storage->size(); ++t) {
    if (!blocked[t]) continue;
    Storage& s = (*storage)[t];
    s.pixel = kBlock * ptrdiff_t(sizeof(float));
    s.gap = (graph.tensors[t].dims[2] - 1) * s.pixel;
  }
}

}  // namespace r2b
