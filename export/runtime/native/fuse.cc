// Chooses the steps of a program (see program.h).
#include <algorithm>

#include "operands.h"
#include "program.h"
#include "steps/roots.h"

namespace r2b {
namespace {

class Fuser {
 public:
  Fuser(const Graph& graph, std::vector<Step>* steps) : graph_(graph), steps_(*steps) {
    const size_t tensors = graph.tensors.size();
    producer_.assign(tensors, -1);
    consumers_.resize(tensors);
    output_.assign(tensors, false);
    group_.assign(graph.ops.size(), -1);
    for (size_t i = 0; i < graph.ops.size(); ++i) {
      producer_[graph.ops[i].out] = int(i);
      for (int t : graph.ops[i].in)
        if (t >= 0) consumers_[t].push_back(int(i));
    }
    for (int t : graph.outputs) output_[t] = true;
  }

  int Run() {
    for (size_t i = 0; i < graph_.ops.size(); ++i)
      if (group_[i] < 0) Root(int(i));
    Order();
    return sums_;
  }

 private:
  const Tensor& T(int t) const { return graph_.tensors[t]; }
  bool Constant(int t) const { return T(t).constant != nullptr; }

  // ---- absorbing ----

  // True if tensor `t` depends, directly or indirectly, on a result of step `target`.
  bool DependsOn(int t, int target) const {
    std::vector<int> todo{t};
    std::vector<bool> seen(graph_.tensors.size(), false);
    while (!todo.empty()) {
      const int at = todo.back();
      todo.pop_back();
      if (at < 0 || seen[at]) continue;
      seen[at] = true;
      const int op = producer_[at];
      if (op < 0) continue;
      if (group_[op] == target) return true;
      if (group_[op] < 0) {
        for (int in : graph_.ops[op].in) todo.push_back(in);
      } else {  // a step can run only when the inputs of all its operators are there
        for (int other : steps_[group_[op]].ops)
          for (int in : graph_.ops[other].in)
            if (in >= 0 && (producer_[in] < 0 || group_[producer_[in]] != group_[op])) todo.push_back(in);
      }
    }
    return false;
  }

  // Absorbs operator `op_index` into step `index`, which has tensor `t` in registers: adds the stages that apply the
  // operator to `t`. Returns the operator whose result is then in registers: `op_index`, or a MUL that was absorbed
  // with it (see Swish()). Returns -1 and changes nothing if no stages can apply the operator.
  //
  // A RESHAPE that keeps the number of channels needs no stage. The registers still hold the pixels of step->out, in
  // the same order, but later operands have the shapes of the graph, which may differ from step->out.
  int Continue(Step* step, int index, int op_index, int t) {
    const Op& op = graph_.ops[op_index];
    if (group_[op_index] >= 0 || !KeepsValues(op, t)) return -1;
    const int product = op.kind == OpKind::kLogistic ? Swish(op_index) : -1;
    const int last = product < 0 ? op_index : product;
    if (!AddStages(step, index, op, t, product >= 0)) return -1;
    Clamp(graph_.ops[last], step);
    for (int absorbed : {op_index, last})
      if (group_[absorbed] != index) Absorb(step, index, absorbed);
    return last;
  }

  // Adds the stages of Continue(), except the clamp. `product`: whether a LOGISTIC's result is multiplied by its input.
  bool AddStages(Step* step, int index, const Op& op, int t, bool product) {
    StagePlan stage{};
    switch (op.kind) {
      case OpKind::kReshape:
      case OpKind::kClamp: return true;
      case OpKind::kFromBytes: return FromBytes(T(t), step);
      case OpKind::kLogistic: stage.kind = product ? Stage::kMulLogistic : Stage::kLogistic; break;
      case OpKind::kMul:
      case OpKind::kAdd:
      case OpKind::kPrelu:
        if (!Arithmetic(op, index, t, step->out, &stage)) return false;
        break;
      default: return false;
    }
    step->stages.push_back(stage);
    return true;
  }

  void Absorb(Step* step, int index, int op_index) {
    step->ops.push_back(op_index);
    group_[op_index] = index;
  }

  // True if the operator's result has one float for each value of `t`, in the same order. False if the operator's only
  // operand is a constant.
  bool KeepsValues(const Op& op, int t) const {
    const Shape shape = AsImage(T(t).dims), result = AsImage(T(op.out).dims);
    if (T(op.out).type != DType::kFloat || result.c != shape.c) return false;
    if (op.kind != OpKind::kReshape && !(result == shape)) return false;
    const bool unary = op.kind == OpKind::kReshape || op.kind == OpKind::kClamp || op.kind == OpKind::kLogistic ||
                       op.kind == OpKind::kFromBytes;
    return !unary || !Constant(t);
  }

  // Adds the stages that dequantise int8 numbers in registers. A number minus the zero point is whole, so only its
  // product with the scale is rounded.
  static bool FromBytes(const Tensor& numbers, Step* step) {
    const auto add = [&](Stage::Kind kind, float constant) {
      StagePlan stage{};
      stage.kind = kind;
      stage.constant = std::make_shared<std::vector<float>>(size_t(Blocks(step->out.c)) * kBlock, constant);
      step->stages.push_back(stage);
    };
    if (numbers.zero_point) add(Stage::kAdd, float(-numbers.zero_point));
    add(Stage::kMul, numbers.scale);
    return true;
  }

  // Makes the stage that applies a MUL, ADD or PRELU to `t` and the other operand. `pixels` is the shape of the values
  // in registers. False if no stage can apply the operator.
  bool Arithmetic(const Op& op, int index, int t, const Shape& pixels, StagePlan* stage) const {
    const bool first = op.in[0] == t;
    const int other = op.in[first ? 1 : 0];
    if (!first && (op.kind == OpKind::kPrelu || op.subtract)) return false;
    if (other == t) return OnItself(op, t, stage);
    stage->kind = op.kind == OpKind::kMul ? Stage::kMul : op.kind == OpKind::kAdd ? Stage::kAdd : Stage::kPrelu;
    if (!AddOperand(graph_, op, other, AsImage(T(t).dims), pixels, stage)) return false;
    if (!Constant(other) && DependsOn(other, index)) return false;
    if (stage->kind == Stage::kPrelu && AtMostOne(*stage)) stage->kind = Stage::kPreluMax;
    return true;
  }

  // The same if both operands are `t`.
  bool OnItself(const Op& op, int t, StagePlan* stage) const {
    stage->kind = op.kind == OpKind::kMul ? Stage::kMulSelf : Stage::kAddSelf;
    return op.kind != OpKind::kPrelu && !op.subtract && !Constant(t);
  }

  static bool AtMostOne(const StagePlan& slopes) {
    const auto& constant = slopes.constant;
    return constant && std::all_of(constant->begin(), constant->end(), [](float slope) { return slope <= 1; });
  }

  // Returns the MUL of a LOGISTIC's result and input if it alone reads the result and no step has absorbed it; else -1.
  int Swish(int logistic) const {
    const int t = graph_.ops[logistic].in[0], sigma = graph_.ops[logistic].out;
    if (output_[sigma] || consumers_[sigma].size() != 1) return -1;
    const int product = consumers_[sigma][0];
    const Op& op = graph_.ops[product];
    const bool of_both = op.in.size() == 2 && (op.in[0] == t || op.in[1] == t);
    return op.kind == OpKind::kMul && of_both && group_[product] < 0 ? product : -1;
  }

  bool GlobalAverage(const Op& op, const Shape& shape) const {
    if (op.kind == OpKind::kMean) return true;
    return op.kind == OpKind::kAvgPool && !op.clamp && op.kernel_h == shape.h && op.kernel_w == shape.w &&
           !op.same_padding;
  }

  // Absorbs a chain of operators, as far as possible. The first reads tensor `t`, in the registers of step `index`.
  void Extend(int index, int t) {
    while (t >= 0) {
      std::vector<StagePlan> side = SideStages(index, t);
      Step* step = &steps_[index];
      // One consumer is applied in registers. The others, except those in `side`, read the value from memory.
      const size_t mark = step->stages.size();
      const int next = InRegisters(*step, t) ? ContinueAny(step, index, t) : -1;
      // The store and the side stages run before the consumer's stages, which change the value.
      if (Needed(index, t)) side.insert(side.begin(), Store(StoreKind(t), t));
      step->stages.insert(step->stages.begin() + mark, side.begin(), side.end());
      t = next < 0 ? -1 : graph_.ops[next].out;
    }
  }

  // True if the registers hold exactly the tensor's values. The int8 outputs of a binary convolution are rounded only
  // when they are stored.
  bool InRegisters(const Step& step, int t) const {
    return T(t).type == DType::kFloat || (T(t).type == DType::kInt8 && graph_.ops[step.op()].kind != OpKind::kBconv);
  }

  // Absorbs the operators that pack the signs of `t` or quantise it to int8, and sums `t` for operators that average
  // it. Returns the stages for this. They leave the values in registers unchanged.
  std::vector<StagePlan> SideStages(int index, int t) {
    std::vector<StagePlan> side;
    for (int c : consumers_[t]) {
      if (group_[c] >= 0) continue;
      const Op& op = graph_.ops[c];
      if (op.kind == OpKind::kQuantize && T(t).type == DType::kFloat) {
        side.push_back(Store(Stage::kStoreBits, op.out));
        Absorb(&steps_[index], index, c);
      } else if (op.kind == OpKind::kToBytes && T(t).type == DType::kFloat && T(op.out).type == DType::kInt8) {
        side.push_back(Store(Stage::kStoreInt8, op.out));
        side.back().scale = T(op.out).scale;
        side.back().zero_point = T(op.out).zero_point;
        Absorb(&steps_[index], index, c);
      } else if (GlobalAverage(op, AsImage(T(t).dims)) && T(t).dims.size() == 4 &&
                 AsImage(T(t).dims) == steps_[index].out) {
        AddSum(index, c, t, &side);
      }
    }
    return side;
  }

  // Adds the stage that sums `t`, and makes the step that divides the sum. A step sums at most one tensor. The average
  // of another one becomes a pooling step.
  void AddSum(int index, int average, int t, std::vector<StagePlan>* side) {
    Step& step = steps_[index];
    if (step.sums >= 0 && sum_tensor_ != t) return;
    if (step.sums < 0) {
      step.sums = sums_++;
      sum_tensor_ = t;
      StagePlan sum{};
      sum.kind = Stage::kSum;
      side->push_back(sum);
    }
    Step finish = NewStep(average);
    finish.input = t;
    finish.out = step.out;
    finish.sums = step.sums;
    steps_.push_back(std::move(finish));
  }

  // True if another step or the caller reads `t` from memory.
  bool Needed(int index, int t) const {
    const auto reads = [&](int c) {
      const bool sums_up =
          group_[c] >= 0 && steps_[group_[c]].finishes_sum() && steps_[group_[c]].sums == steps_[index].sums;
      return group_[c] != index && !sums_up;
    };
    return output_[t] || std::any_of(consumers_[t].begin(), consumers_[t].end(), reads);
  }

  // Calls Continue() for each consumer of `t` until one is absorbed. A LOGISTIC without a MUL (see Swish()) comes last.
  int ContinueAny(Step* step, int index, int t) {
    for (bool plain : {false, true})
      for (int c : consumers_[t]) {
        if (plain != (graph_.ops[c].kind == OpKind::kLogistic && Swish(c) < 0)) continue;
        const int next = Continue(step, index, c, t);
        if (next >= 0) return next;
      }
    return -1;
  }

  Stage::Kind StoreKind(int t) const {
    return T(t).type == DType::kInt8    ? Stage::kStoreInt8
           : T(t).type == DType::kInt32 ? Stage::kStoreBits
                                        : Stage::kStoreFloat;
  }
  static StagePlan Store(Stage::Kind kind, int tensor) {
    StagePlan stage{};
    stage.kind = kind;
    stage.tensor = tensor;
    stage.per_pixel = stage.per_image = true;
    return stage;
  }

  // ---- roots ----

  // Makes a step that begins with the operator but has no root yet.
  Step NewStep(int op_index) {
    const Op& op = graph_.ops[op_index];
    Step step;
    step.ops = {op_index};
    step.input = op.in[0];
    step.output = op.out;
    step.out = AsImage(T(op.out).dims);
    group_[op_index] = int(steps_.size());
    return step;
  }

  // Makes a step that begins with an operator which no step has absorbed, and extends it where possible.
  void Root(int op_index) {
    const Op& op = graph_.ops[op_index];
    sum_tensor_ = -1;
    switch (op.kind) {
      case OpKind::kBconv: return Bconv(op_index);
      case OpKind::kConv: return OfBytes(op) ? Qconv(op_index) : Rows(op_index, MakeFconv(graph_, op));
      case OpKind::kMaxPool: return OfBytes(op) ? Moved(op_index, MakeMaxBytes(graph_, op)) : Pool(op_index);
      case OpKind::kAvgPool:
      case OpKind::kMean: return Pool(op_index);
      case OpKind::kQuantize:
        if (T(op.in[0]).type == DType::kFloat) return LoadRoot(op_index, op.in[0]);
        return Flat(op_index, MakePackBytes(graph_, op));
      case OpKind::kAdd:
      case OpKind::kMul:
      case OpKind::kPrelu:
      case OpKind::kClamp:
        if (!LoadElementwise(op_index)) Flat(op_index, MakeArithmetic(graph_, op));
        return;
      default: return Plain(op_index);
    }
  }

  // Continues Root() for further kinds of operators.
  void Plain(int op_index) {
    const Op& op = graph_.ops[op_index];
    switch (op.kind) {
      case OpKind::kBmaxPool: return Moved(op_index, MakeBmaxPool(graph_, op));
      case OpKind::kDequantize: return Flat(op_index, MakeUnpack(graph_, op));
      case OpKind::kLogistic:
        if (Swish(op_index) >= 0 && !Constant(op.in[0])) return LoadRoot(op_index, op.in[0]);
        return Flat(op_index, MakeLogistic(graph_, op));
      case OpKind::kSoftmax: return Flat(op_index, MakeSoftmax(graph_, op));
      case OpKind::kReshape: return Flat(op_index, MakeCopy(graph_, op));
      case OpKind::kDense: return OfBytes(op) ? Qconv(op_index) : Flat(op_index, MakeDense(graph_, op));
      case OpKind::kToBytes:
      case OpKind::kFromBytes: return Bytes(op_index);
      case OpKind::kMinimum:
      case OpKind::kMaximum:
      case OpKind::kRound: return Flat(op_index, MakeArithmetic(graph_, op));
      default: return Layout(op_index);
    }
  }

  // Continues Root() for the remaining kinds of operators.
  void Layout(int op_index) {
    const Op& op = graph_.ops[op_index];
    switch (op.kind) {
      case OpKind::kDepthwise: return Rows(op_index, MakeDepthwise(graph_, op));
      case OpKind::kTransposeConv: return Rows(op_index, MakeTransposeConv(graph_, op));
      case OpKind::kConcat: return Rows(op_index, MakeConcat(graph_, op));
      case OpKind::kPad:
        return OfBytes(op) ? Moved(op_index, MakePadBytes(graph_, op)) : Rows(op_index, MakeSurround(graph_, op));
      case OpKind::kResizeBilinear: return Rows(op_index, MakeBilinear(graph_, op));
      default: return Rows(op_index, MakeSlice(graph_, op));
    }
  }

  void Flat(int op_index, std::unique_ptr<FlatRoot> root) {
    Step step = NewStep(op_index);
    step.flat = std::move(root);
    steps_.push_back(std::move(step));
  }

  // Makes a step whose root writes the output itself, without stages.
  void Moved(int op_index, std::unique_ptr<RowRoot> root) {
    Step step = NewStep(op_index);
    step.rows = std::move(root);
    steps_.push_back(std::move(step));
  }

  void Bconv(int op_index) {
    const Op& op = graph_.ops[op_index];
    Step step = NewStep(op_index);
    step.rows = MakeBconv(graph_, op);
    step.out.c = T(op.in[1]).dims[0];
    BconvScale(op, &step);
    AddAndExtend(std::move(step), op.out);
  }

  bool OfBytes(const Op& op) const { return T(op.in[0]).type == DType::kInt8; }

  // Makes the step of a QUANTIZE or DEQUANTIZE, except for a QUANTIZE that convolutions absorb (Flips()).
  void Bytes(int op_index) {
    const Op& op = graph_.ops[op_index];
    if (op.kind == OpKind::kFromBytes) Flat(op_index, MakeFromBytes(graph_, op));
    else if (!Flips(op)) Flat(op_index, MakeToBytes(graph_, op));
  }

  // Makes the step of an int8 convolution or dense layer. It also does the work of a QUANTIZE before it (Flips()).
  void Qconv(int op_index) {
    const Op& op = graph_.ops[op_index];
    Step step = NewStep(op_index);
    const int producer = producer_[op.in[0]];
    if (producer >= 0 && graph_.ops[producer].kind == OpKind::kToBytes && Flips(graph_.ops[producer])) {
      step.input = graph_.ops[producer].in[0];
      if (group_[producer] < 0) Absorb(&step, int(steps_.size()), producer);
    }
    step.rows = MakeQconv(graph_, op, step.input);
    const int index = int(steps_.size());
    AddAndExtend(std::move(step), op.out);
    // Only a DEQUANTIZE is applied to int8 numbers in registers. If its stage that subtracts the zero point comes
    // first, the stage is dropped, and the root does not add the zero point.
    std::vector<StagePlan>& stages = steps_[index].stages;
    if (!stages.empty() && stages[0].kind == Stage::kAdd && steps_[index].rows->OmitZeroPoint())
      stages.erase(stages.begin());
  }

  // True for a QUANTIZE that only subtracts 128 from all numbers (from uint8 to int8, with the same scale), if only
  // convolutions and dense layers read its result.
  bool Flips(const Op& op) const {
    const Tensor &in = T(op.in[0]), &out = T(op.out);
    const auto convolves = [&](int c) {
      const OpKind kind = graph_.ops[c].kind;
      return kind == OpKind::kConv || kind == OpKind::kDense;
    };
    const std::vector<int>& readers = consumers_[op.out];
    return in.type == DType::kUInt8 && out.type == DType::kInt8 && in.scale == out.scale &&
           in.zero_point == out.zero_point + 128 && !output_[op.out] && !readers.empty() &&
           std::all_of(readers.begin(), readers.end(), convolves);
  }

  void Rows(int op_index, std::unique_ptr<RowRoot> root) {
    const Op& op = graph_.ops[op_index];
    Step step = NewStep(op_index);
    step.rows = std::move(root);
    Clamp(op, &step);
    AddAndExtend(std::move(step), op.out);
  }

  void Pool(int op_index) {
    const Op& op = graph_.ops[op_index];
    Step step = NewStep(op_index);
    step.rows = MakePool(graph_, op);
    Clamp(op, &step);
    if (op.keep_dims) return AddAndExtend(std::move(step), op.out);
    // The output, [N, C], is not an image, so the step cannot absorb element-wise operators.
    step.out = Shape{AsImage(T(op.in[0]).dims).n, 1, 1, step.out.c};
    step.stages.push_back(Store(Stage::kStoreFloat, op.out));
    steps_.push_back(std::move(step));
  }

  void AddAndExtend(Step step, int value) {
    const int index = int(steps_.size());
    steps_.push_back(std::move(step));
    Extend(index, value);
  }

  static void Clamp(const Op& op, Step* step) {
    if (!op.clamp) return;
    StagePlan clamp{};
    clamp.kind = Stage::kClamp;
    clamp.lo = op.lo;
    clamp.hi = op.hi;
    step->stages.push_back(clamp);
  }

  // LCE's converter may fold a multiplication by a whole [height, width, channels] tensor into the convolution. If the
  // multiplier or the bias is not a constant vector, both become stages, and the convolution yields the dot product.
  void BconvScale(const Op& op, Step* step) {
    if (T(op.out).type == DType::kInt32) return;
    for (int i = 2; i < 4; ++i) {
      if (T(op.in[i]).dims.size() == 1 && Constant(op.in[i]) && T(op.in[5 - i]).dims.size() == 1 &&
          Constant(op.in[5 - i]))
        continue;
      StagePlan stage{};
      stage.kind = i == 2 ? Stage::kMul : Stage::kAdd;
      AddOperand(graph_, op, op.in[i], step->out, step->out, &stage);
      step->stages.push_back(stage);
    }
  }

  // Makes a step that loads tensor `t` from memory. It absorbs operator op_index first, and then others (Extend()).
  void LoadRoot(int op_index, int t) {
    const int index = int(steps_.size());
    group_[op_index] = -1;
    steps_.push_back(LoadStep(AsImage(T(t).dims)));
    Step* step = &steps_[index];
    step->input = t;
    const Op& op = graph_.ops[op_index];
    int next;
    if (op.kind == OpKind::kQuantize) {
      step->stages.push_back(Store(Stage::kStoreBits, op.out));
      Absorb(step, index, op_index);
      next = ContinueAny(step, index, t);
    } else {
      next = Continue(step, index, op_index, t);
    }
    if (next >= 0) Extend(index, graph_.ops[next].out);
  }

  static Step LoadStep(const Shape& out) {
    Step step;
    step.rows = MakeLoad();
    step.out = out;
    return step;
  }

  // Makes a step that loads one of the operator's operands and applies the operator to it. False if no stages can apply
  // the operator.
  bool LoadElementwise(int op_index) {
    const Op& op = graph_.ops[op_index];
    const Shape shape = AsImage(T(op.out).dims);
    for (int t : op.in) {
      if (Constant(t) || T(t).type != DType::kFloat || !(AsImage(T(t).dims) == shape)) continue;
      if (!Continues(op_index, t, shape)) continue;
      LoadRoot(op_index, t);
      return true;
    }
    return false;
  }

  // Finds out, with a temporary step, whether stages can apply the operator to tensor `t`.
  bool Continues(int op_index, int t, const Shape& shape) {
    steps_.push_back(LoadStep(shape));
    const bool works = Continue(&steps_.back(), int(steps_.size()) - 1, op_index, t) >= 0;
    steps_.pop_back();
    group_[op_index] = -1;
    return works;
  }

  // ---- order ----

  // Sorts the steps topologically. Steps whose order is free are sorted by the indices of their last operators.
  void Order() {
    std::vector<Step> ordered;
    std::vector<bool> done(steps_.size(), false);
    std::vector<std::vector<int>> needs(steps_.size());
    for (size_t s = 0; s < steps_.size(); ++s)
      for (int op : steps_[s].ops)
        for (int t : graph_.ops[op].in)
          if (t >= 0 && producer_[t] >= 0 && group_[producer_[t]] != int(s)) needs[s].push_back(group_[producer_[t]]);
    std::vector<int> first(steps_.size());
    for (size_t s = 0; s < steps_.size(); ++s) first[s] = *std::max_element(steps_[s].ops.begin(), steps_[s].ops.end());
    while (ordered.size() < steps_.size()) {
      int best = -1;
      for (size_t s = 0; s < steps_.size(); ++s) {
        if (done[s] || !std::all_of(needs[s].begin(), needs[s].end(), [&](int n) { return done[n]; })) continue;
        if (best < 0 || first[s] < first[best]) best = int(s);
      }
      if (best < 0) break;  // cannot happen: absorbing checks for cycles
      done[best] = true;
      ordered.push_back(std::move(steps_[best]));
    }
    steps_ = std::move(ordered);
  }

  const Graph& graph_;
  std::vector<Step>& steps_;
  std::vector<int> producer_;
  std::vector<std::vector<int>> consumers_;
  std::vector<bool> output_;
  std::vector<int> group_;          // step of each operator; -1: none yet
  int sums_ = 0, sum_tensor_ = -1;  // how many steps sum, and the tensor that the latest step sums
};

}  // namespace

bool Fuse(const Graph& graph, Program* program, std::string* error) {
  program->steps.clear();
  program->sums = Fuser(graph, &program->steps).Run();
  size_t operators = 0;
  for (const Step& step : program->steps) operators += step.ops.size();
  if (operators != graph.ops.size()) return *error = "internal error: the operators could not be put in order", false;
  FeedWindows(graph, &program->steps);
  return true;
}

}  // namespace r2b
