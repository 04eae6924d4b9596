// The step of an element-wise operator that no stage can apply, because of its kind or its operands.
#include "arithmetic.h"

#include "memory.h"
#include "steps/values.h"

namespace r2b {
namespace {

ArithmeticRun::Kind KindOf(const Op& op) {
  switch (op.kind) {
    case OpKind::kMul: return ArithmeticRun::kMul;
    case OpKind::kPrelu: return ArithmeticRun::kPrelu;
    case OpKind::kMinimum: return ArithmeticRun::kMinimum;
    case OpKind::kMaximum: return ArithmeticRun::kMaximum;
    case OpKind::kRound: return ArithmeticRun::kRound;
    case OpKind::kAdd: return op.subtract ? ArithmeticRun::kSub : ArithmeticRun::kAdd;
    default: return ArithmeticRun::kFirst;
  }
}

class Arithmetic : public ValuesRoot {
 public:
  Arithmetic(const Graph& graph, const Op& op)
      : ValuesRoot(graph, op, "arithmetic"),
        op_(op),
        x_(op.in[0]),
        y_(op.in.size() > 1 ? op.in[1] : x_),
        values_(AsImage(graph.tensors[op.out].dims), AsImage(graph.tensors[x_].dims), AsImage(graph.tensors[y_].dims)) {
  }
  int items() const override { return int(values_.items()); }

  void Run(const FlatRun& run) const override {
    ArithmeticRun all{};
    all.kind = KindOf(op_);
    all.clamp = op_.clamp;
    all.lo = op_.lo;
    all.hi = op_.hi;
    all.x = run.memory.At<const float>(x_);
    all.y = run.memory.At<const float>(y_);
    all.out = run.memory.At<float>(run.step.output);
    values_.Run(run.kernels, all, run.begin, run.end);
  }

 private:
  const Op& op_;
  const int x_, y_;
  const Broadcast values_;
};

}  // namespace

std::unique_ptr<FlatRoot> MakeArithmetic(const Graph& graph, const Op& op) {
  return std::make_unique<Arithmetic>(graph, op);
}

}  // namespace r2b
