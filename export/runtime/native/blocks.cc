#include "memory.h"

namespace r2b {
namespace {

// Finds the tensors between steps that every step reads and writes in whole blocks of channels, with any stride between
// pixels. Only float images without a border qualify.
class Blocked {
 public:
  Blocked(const Graph& graph, const Program& program, const std::vector<Storage>& storage) : graph_(graph) {
    for (size_t t = 0; t < graph.tensors.size(); ++t) {
      const Tensor& tensor = graph.tensors[t];
      const Storage& s = storage[t];
      blocks_.push_back(tensor.type == DType::kFloat && tensor.dims.size() == 4 && !tensor.constant && !s.external &&
                        !s.border.any());
    }
    for (const Step& step : program.steps) {
      Exclude(step);
      if (step.feeder) Exclude(*step.feeder);
    }
  }
  bool operator[](size_t tensor) const { return blocks_[tensor]; }

 private:
  // Excludes the tensors that the step reads or writes in another way.
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

  // True if the step's values in registers are whole blocks, and the tensor has the shape of these values.
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

// True if the tensor can be stored in rows of blocks, and that layout differs from NHWC: the tensor has several blocks
// of channels, all full, and several columns.
bool FillsBlocks(const Tensor& tensor) {
  return tensor.dims[3] > kBlock && tensor.dims[3] % kBlock == 0 && tensor.dims[2] > 1;
}

}  // namespace

void LayOutPixels(const Graph& graph, const Program& program, int threads, std::vector<Storage>* storage) {
  const Blocked blocked(graph, program, *storage);
  for (size_t t = 0; t < storage->size(); ++t) {
    if (!blocked[t]) continue;
    const Tensor& tensor = graph.tensors[t];
    Storage& s = (*storage)[t];
    if (FillsBlocks(tensor)) {
      if (threads == 1) continue;
      s.pixel = kBlock * ptrdiff_t(sizeof(float));
      s.gap = (tensor.dims[2] - 1) * s.pixel;
    } else if (PixelStride(s.pixel) != s.pixel) {
      s.pixel = PixelStride(s.pixel);
      s.row = tensor.dims[2] * s.pixel;
      s.image = tensor.dims[1] * s.row;
      s.bytes = size_t(tensor.dims[0]) * size_t(s.image);
    }
  }
}

}  // namespace r2b
