#include "steps/step.h"

#include <algorithm>

namespace r2b {

int Step::FindStage(Stage::Kind kind) const {
  const auto found = std::find_if(stages.begin(), stages.end(), [&](const StagePlan& s) { return s.kind == kind; });
  return found == stages.end() ? -1 : int(found - stages.begin());
}

std::vector<int> Step::Reads(const Graph& graph) const {
  std::vector<int> reads;
  if (flat) {
    for (int t : graph.ops[op()].in)
      if (t >= 0) reads.push_back(t);
  }
  if (rows) {
    reads.push_back(source().input);
    for (int t : source().rows->more_inputs()) reads.push_back(t);
  }
  for (const Step* part : {this, &source()})
    for (const StagePlan& stage : part->stages)
      if (stage.tensor >= 0 && !stage.stores()) reads.push_back(stage.tensor);
  return reads;
}

std::vector<int> Step::Writes() const {
  std::vector<int> writes;
  for (const StagePlan& stage : stages)
    if (stage.stores()) writes.push_back(stage.tensor);
  if (!rows || !rows->has_stages()) writes.push_back(output);
  return writes;
}

}  // namespace r2b
