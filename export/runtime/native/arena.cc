#include <algorithm>

#include "memory.h"

namespace r2b {
namespace {

bool Contains(const std::vector<int>& tensors, int tensor) {
  return std::find(tensors.begin(), tensors.end(), tensor) != tensors.end();
}

class Arena {
 public:
  Arena(const Graph& graph, const std::vector<Step>& steps, std::vector<Storage>* storage, Budget* budget)
      : graph_(graph), steps_(steps), storage_(*storage), budget_(*budget) {}

  size_t LayOut() {
    FindLifetimes();
    for (int s = 0; s < int(steps_.size()); ++s) OverwriteShortcuts(s);
    return Place();
  }

 private:
  void FindLifetimes() {
    first_.assign(storage_.size(), -1);
    last_.assign(storage_.size(), -1);
    for (int s = 0; s < int(steps_.size()); ++s) {
      for (int t : steps_[s].Writes()) {
        if (first_[t] < 0) first_[t] = s;
        last_[t] = std::max(last_[t], s);
        storage_[t].written = true;
      }
      for (int t : steps_[s].Reads(graph_)) last_[t] = std::max(last_[t], s);
    }
  }

  bool Movable(int t) const {
    return storage_[t].written && !storage_[t].external && !graph_.tensors[t].constant && !storage_[t].border.any();
  }

  // ---- aliases: in y = f(x) + shortcut, y may overwrite a shortcut that no later step reads, pixel by pixel ----

  void OverwriteShortcuts(int s) {
    for (const StagePlan& store : steps_[s].stages) {
      if (store.kind != Stage::kStoreFloat || !Movable(store.tensor) || first_[store.tensor] != s) continue;
      for (const StagePlan& operand : steps_[s].stages) {
        if (&operand == &store) break;  // only what is read before the store can be overwritten
        if (!EndsPixelByPixel(operand, s) || !SameLayout(operand.tensor, store.tensor) ||
            ReadOtherwise(steps_[s], operand.tensor, &store))
          continue;
        Share(operand.tensor, store.tensor);
        break;
      }
    }
  }

  // True if step `s` reads the operand pixel by pixel, an earlier step wrote it, and no later step reads it.
  bool EndsPixelByPixel(const StagePlan& operand, int s) const {
    const int o = operand.tensor;
    return o >= 0 && !operand.stores() && operand.per_pixel && Movable(o) && last_[o] == s && first_[o] != s;
  }

  bool SameLayout(int operand, int stored) const {
    const Storage &o = storage_[operand], &s = storage_[stored];
    return o.bytes == s.bytes && o.gap == s.gap && s.alias < 0;
  }

  // True if the step also reads the tensor in a way that `store` would disturb: at other pixels, or after `store`.
  bool ReadOtherwise(const Step& step, int tensor, const StagePlan* store) const {
    if (tensor == step.input && step.rows->reads() != RowRoot::Reads::kPixel) return true;
    if (Contains(step.rows->more_inputs(), tensor)) return true;
    if (step.feeder && Contains(step.feeder->Reads(graph_), tensor)) return true;
    const StagePlan* end = step.stages.data() + step.stages.size();
    return std::any_of(store + 1, end, [&](const StagePlan& later) { return later.tensor == tensor; });
  }

  void Share(int operand, int stored) {
    int root = operand;
    while (storage_[root].alias >= 0) root = storage_[root].alias;
    storage_[stored].alias = root;
    last_[root] = std::max(last_[root], last_[stored]);
    // Extend the lifetime of the operand itself too: no second store of this step may overwrite it.
    last_[operand] = std::max(last_[operand], last_[stored]);
  }

  // ---- greedy placement of tensors, the largest first ----

  size_t Place() {
    std::vector<int> order;
    for (int t = 0; t < int(storage_.size()); ++t)
      if (Movable(t) && storage_[t].alias < 0) order.push_back(t);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return storage_[a].bytes > storage_[b].bytes; });
    size_t total = 0;
    for (auto t = order.begin(); t != order.end(); ++t) {
      const size_t at = FirstGap(*t, std::vector<int>(order.begin(), t));
      storage_[*t].offset = at;
      Grow(*t, at, &total);
    }
    return total;
  }

  size_t Size(int t) const { return RoundUp(storage_[t].bytes + kSlack); }

  // Returns the lowest offset at which the tensor fits. It may share memory with a tensor of `placed` only if their
  // lifetimes are disjoint.
  size_t FirstGap(int t, const std::vector<int>& placed) const {
    std::vector<std::pair<size_t, size_t>> taken;
    for (int p : placed)
      if (first_[p] <= last_[t] && first_[t] <= last_[p])
        taken.emplace_back(storage_[p].offset, storage_[p].offset + Size(p));
    std::sort(taken.begin(), taken.end());
    size_t at = 0;
    for (const auto& [begin, end] : taken) {
      if (at + Size(t) <= begin) break;
      at = std::max(at, end);
    }
    return at;
  }

  void Grow(int t, size_t at, size_t* total) {
    const Count end = Count(int64_t(at)) + Size(t);
    if (end > int64_t(*total))
      budget_.TakeMemory(steps_[first_[t]].op(), Count(end.value() - int64_t(*total)),
                         "memory for " + DimsText(graph_.tensors[t].dims));
    *total = std::max(*total, at + Size(t));
  }

  const Graph& graph_;
  const std::vector<Step>& steps_;
  std::vector<Storage>& storage_;
  Budget& budget_;
  std::vector<int> first_, last_;  // the first and the last step in which each tensor exists
};

}  // namespace

size_t LayOutArena(const Graph& graph, const Program& program, std::vector<Storage>* storage, Budget* budget) {
  return Arena(graph, program.steps, storage, budget).LayOut();
}

}  // namespace r2b
