// The step of a RESHAPE that no other step absorbs: it copies the values.
#include <cstring>

#include "memory.h"
#include "steps/values.h"

namespace r2b {
namespace {

class Copy : public ValuesRoot {
 public:
  Copy(const Graph& graph, const Op& op)
      : ValuesRoot(graph, op, "copy"),
        size_(ByteSize(graph.tensors[op.in[0]].type)),
        items_(int(AsImage(graph.tensors[op.in[0]].dims).count())) {}
  int items() const override { return items_; }

  void Run(const FlatRun& run) const override {
    std::memmove(run.memory.At<uint8_t>(run.step.output) + run.begin * size_,
                 run.memory.At<uint8_t>(run.step.input) + run.begin * size_, size_t((run.end - run.begin) * size_));
  }

 private:
  const int64_t size_;  // of a value, in bytes
  const int items_;
};

}  // namespace

std::unique_ptr<FlatRoot> MakeCopy(const Graph& graph, const Op& op) { return std::make_unique<Copy>(graph, op); }

}  // namespace r2b
