#include <algorithm>

#include "memory.h"
#include "steps/roots.h"

namespace r2b {
namespace {

class Padding {
 public:
  Padding(Graph* graph, Program* program, std::vector<Storage>* storage)
      : graph_(*graph), program_(*program), storage_(*storage) {}

  void Run() {
    FindFixed();
    std::vector<Step> all;
    for (Step& step : program_.steps) {
      if (step.rows && step.source().rows->border().any()) PadInput(&step.source(), &all);
      all.push_back(std::move(step));
    }
    program_.steps = std::move(all);
  }

 private:
  // Finds the tensors that cannot have a border, because a step or the caller reads or writes them without strides.
  void FindFixed() {
    fixed_.assign(graph_.tensors.size(), true);
    for (const Step& step : program_.steps)
      for (int t : step.Writes())
        if (step.rows && HasPixelsOf(step, t)) fixed_[t] = false;
    for (const Step& step : program_.steps)
      for (int t : step.Reads(graph_))
        if (!step.rows) fixed_[t] = true;
    for (int t : graph_.inputs) fixed_[t] = true;
    for (int t : graph_.outputs) fixed_[t] = true;
    for (size_t t = 0; t < fixed_.size(); ++t)
      if (graph_.tensors[t].constant || graph_.tensors[t].dims.size() != 4) fixed_[t] = true;
  }

  bool HasPixelsOf(const Step& step, int tensor) const {
    const Shape shape = AsImage(graph_.tensors[tensor].dims);
    return shape.n == step.out.n && shape.h == step.out.h && shape.w == step.out.w;
  }

  void PadInput(Step* step, std::vector<Step>* before) {
    if (fixed_[step->input]) step->input = CopyOf(step->input, before);
    Storage& s = storage_[step->input];
    const Border wanted = step->rows->border();
    s.padded_for = step->op();
    s.border = {std::max(s.border.top, wanted.top), std::max(s.border.left, wanted.left),
                std::max(s.border.bottom, wanted.bottom), std::max(s.border.right, wanted.right)};
  }

  // Returns the tensor's padded copy. The first call for a tensor adds the step that makes the copy to `before`.
  int CopyOf(int tensor, std::vector<Step>* before) {
    const auto known = std::find_if(copies_.begin(), copies_.end(), [&](auto& copy) { return copy.first == tensor; });
    if (known != copies_.end()) return known->second;
    const int copy = int(graph_.tensors.size());
    copies_.emplace_back(tensor, copy);
    graph_.tensors.push_back(Tensor(graph_.tensors[tensor]));
    graph_.tensors.back().constant = nullptr;
    storage_.push_back(Storage{});
    Step pad;
    pad.rows = MakePad();
    pad.input = tensor;
    pad.output = copy;
    pad.out = AsImage(graph_.tensors[tensor].dims);
    before->push_back(std::move(pad));
    return copy;
  }

  Graph& graph_;
  Program& program_;
  std::vector<Storage>& storage_;
  std::vector<bool> fixed_;
  std::vector<std::pair<int, int>> copies_;  // (tensor, its copy)
};

}  // namespace

void PadInputs(Graph* graph, Program* program, std::vector<Storage>* storage) {
  Padding(graph, program, storage).Run();
}

}  // namespace r2b
