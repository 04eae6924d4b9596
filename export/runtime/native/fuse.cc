// Chooses the steps of a plan: see plan.h for what fusion means.
#include <algorithm>

#include "plan.h"

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

  // Whether tensor `t` is computed, through whatever steps, from a result of step `target`.
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
      } else {  // a step runs as a whole, when all of its operators can
        for (int other : steps_[group_[op]].ops)
          for (int in : graph_.ops[other].in)
            if (in >= 0 && (producer_[in] < 0 || group_[producer_[in]] != group_[op])) todo.push_back(in);
      }
    }
    return false;
  }

  // Adds the stages by which `op` continues value `t`, and returns the operator whose result is then in registers: `op`
  // or one that was absorbed with it. -1, and nothing done, where it cannot.
  //
  // A RESHAPE that leaves the channels alone moves nothing: registers keep the pixels of step->out, in the same order,
  // while operands are given in the shape that the graph sees.
  int Continue(Step* step, int index, int op_index, int t) {
    const Op& op = graph_.ops[op_index];
    const Shape shape = AsImage(T(t).dims), result = AsImage(T(op.out).dims);
    if (group_[op_index] >= 0 || T(op.out).type != DType::kFloat || result.c != shape.c) return -1;
    if (Constant(t) && (op.kind == OpKind::kReshape || op.kind == OpKind::kClamp || op.kind == OpKind::kLogistic))
      return -1;
    if (op.kind != OpKind::kReshape && !(result == shape)) return -1;
    StagePlan stage{};
    int last = op_index;
    switch (op.kind) {
      case OpKind::kReshape:
      case OpKind::kClamp: break;
      case OpKind::kLogistic:
        last = Swish(op_index);
        stage.kind = last < 0 ? Stage::kLogistic : Stage::kMulLogistic;
        if (last < 0) last = op_index;
        step->stages.push_back(stage);
        break;
      case OpKind::kMul:
      case OpKind::kAdd:
      case OpKind::kPrelu:
        if (!Arithmetic(op, index, t, step->out, &stage)) return -1;
        step->stages.push_back(stage);
        break;
      default: return -1;
    }
    Clamp(graph_.ops[last], step);
    for (int absorbed : {op_index, last}) {
      if (group_[absorbed] == index) continue;
      step->ops.push_back(absorbed);
      group_[absorbed] = index;
    }
    return last;
  }

  // The stage of an operator on value `t` and another operand.
  bool Arithmetic(const Op& op, int index, int t, const Shape& pixels, StagePlan* stage) const {
    const bool first = op.in[0] == t;
    const int other = op.in[first ? 1 : 0];
    if (!first && (op.kind == OpKind::kPrelu || op.subtract)) return false;
    if (other == t) {
      stage->kind = op.kind == OpKind::kMul ? Stage::kMulSelf : Stage::kAddSelf;
      return op.kind != OpKind::kPrelu && !op.subtract && !Constant(t);
    }
    stage->kind = op.kind == OpKind::kMul ? Stage::kMul : op.kind == OpKind::kAdd ? Stage::kAdd : Stage::kPrelu;
    if (!Operand(op, other, AsImage(T(t).dims), pixels, stage)) return false;
    if (!Constant(other) && DependsOn(other, index)) return false;
    if (stage->kind == Stage::kPrelu && stage->constant &&
        std::all_of(stage->constant->begin(), stage->constant->end(), [](float slope) { return slope <= 1; }))
      stage->kind = Stage::kPreluMax;
    return true;
  }

  // The multiplication of what a LOGISTIC reads by its result, if nothing else wants that result; or -1.
  int Swish(int logistic) const {
    const int t = graph_.ops[logistic].in[0], sigma = graph_.ops[logistic].out;
    if (output_[sigma] || consumers_[sigma].size() != 1) return -1;
    const int product = consumers_[sigma][0];
    const Op& op = graph_.ops[product];
    const bool of_both = op.in.size() == 2 && (op.in[0] == t || op.in[1] == t);
    return op.kind == OpKind::kMul && of_both && group_[product] < 0 ? product : -1;
  }

  // How tensor `t` is applied to a value of shape `shape` in the graph that has the pixels of `pixels` in registers.
  bool Operand(const Op& op, int t, const Shape& shape, const Shape& pixels, StagePlan* stage) const {
    const Tensor& tensor = T(t);
    Shape s = AsImage(tensor.dims);
    if (tensor.type != DType::kFloat || (s.c != 1 && s.c != shape.c)) return false;
    const bool plain = s.h == 1 && s.w == 1;
    if (plain && s.n == 1 && tensor.constant) {
      const float* values = static_cast<const float*>(tensor.constant);
      stage->constant = std::make_shared<std::vector<float>>(shape.c);
      for (int c = 0; c < shape.c; ++c) (*stage->constant)[c] = (op.subtract ? -1 : 1) * values[s.c == 1 ? 0 : c];
      return true;
    }
    if (op.subtract) return false;
    if (!(shape == pixels) && !plain) {
      // One image, its pixels in a row.
      if (s.n != 1 || s.h != 1 || s.w != shape.w || shape.w != pixels.h * pixels.w) return false;
      s.h = pixels.h;
      s.w = pixels.w;
    }
    if ((s.n != 1 && s.n != pixels.n) || (!plain && (s.h != pixels.h || s.w != pixels.w))) return false;
    if (plain && s.n > 1 && !(shape == pixels)) return false;
    if (s.c != shape.c) {
      if (plain || stage->kind == Stage::kPrelu) return false;
      stage->kind = stage->kind == Stage::kMul ? Stage::kMulPixel : Stage::kAddPixel;
    }
    stage->tensor = t;
    stage->per_pixel = !plain;
    stage->per_image = s.n > 1;
    return true;
  }

  static bool GlobalAverage(const Op& op, const Shape& shape, bool clamped) {
    if (op.kind == OpKind::kMean) return true;
    return op.kind == OpKind::kAvgPool && !clamped && op.kernel_h == shape.h && op.kernel_w == shape.w &&
           !op.same_padding;
  }

  // The value of tensor `t` is in registers: do everything with it that needs no detour through memory.
  void Extend(int index, int t) {
    for (;;) {
      const Shape shape = AsImage(T(t).dims);
      Step* step = &steps_[index];
      std::vector<StagePlan> side;
      std::vector<std::pair<int, int>> finish;  // (operator, sums)
      for (int c : consumers_[t]) {
        const Op& op = graph_.ops[c];
        if (group_[c] >= 0) continue;
        if (op.kind == OpKind::kQuantize && T(t).type == DType::kFloat) {
          side.push_back(Store(Stage::kStoreBits, op.out));
          step->ops.push_back(c);
          group_[c] = index;
        } else if (GlobalAverage(op, shape, op.clamp) && T(t).dims.size() == 4 && shape == step->out) {
          if (step->sums < 0) {
            step->sums = sums_++;
            StagePlan sum{};
            sum.kind = Stage::kSum;
            side.push_back(sum);
            sum_tensor_ = t;
          } else if (sum_tensor_ != t) {
            continue;  // one sum per step; another average is a step of its own
          }
          finish.emplace_back(c, step->sums);
        }
      }
      for (const auto& [op, sums] : finish) {
        Step s{};
        s.kind = Step::kFinishSum;
        s.ops = {op};
        s.input = t;
        s.output = graph_.ops[op].out;
        s.sums = sums;
        s.out = shape;
        group_[op] = int(steps_.size());
        steps_.push_back(s);
      }
      step = &steps_[index];  // push_back may have moved it
      // Continue along one consumer; what remains reads the value from memory.
      const size_t mark = step->stages.size();
      const int next = T(t).type == DType::kFloat ? ContinueAny(step, index, t) : -1;
      bool needed = output_[t];
      for (int c : consumers_[t])
        needed |= group_[c] != index && !(group_[c] >= 0 && steps_[group_[c]].kind == Step::kFinishSum &&
                                          steps_[group_[c]].sums == step->sums);
      // Stores and side effects see the value before the continuation changes it. The store comes first.
      if (needed) side.insert(side.begin(), Store(StoreKind(t), t));
      step->stages.insert(step->stages.begin() + mark, side.begin(), side.end());
      if (next < 0) return;
      t = graph_.ops[next].out;
    }
  }

  // Continues along a consumer of `t`: along one that wants the logistic function alone only where there is no other.
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

  void Root(int op_index) {
    const Op& op = graph_.ops[op_index];
    const int index = int(steps_.size());
    Step step{};
    step.ops = {op_index};
    step.input = op.in[0];
    step.output = op.out;
    step.out = AsImage(T(op.out).dims);
    group_[op_index] = index;
    sum_tensor_ = -1;
    bool extend = true;
    const auto alone = [&](Step::Kind kind) {
      step.kind = kind;
      extend = false;
    };
    switch (op.kind) {
      case OpKind::kBconv:
        step.kind = Step::kBconv;
        step.out.c = T(op.in[1]).dims[0];
        BconvScale(op, &step);
        break;
      case OpKind::kConv:
        step.kind = Step::kFconv;
        Clamp(op, &step);
        break;
      case OpKind::kMaxPool:
      case OpKind::kAvgPool:
      case OpKind::kMean:
        step.kind = Step::kPool;
        Clamp(op, &step);
        if (!op.keep_dims) {  // [N, C] is no image that element-wise operators could continue
          step.out = Shape{AsImage(T(op.in[0]).dims).n, 1, 1, step.out.c};
          step.stages.push_back(Store(Stage::kStoreFloat, op.out));
          extend = false;
        }
        break;
      case OpKind::kQuantize:
        alone(Step::kPackBytes);
        if (T(op.in[0]).type == DType::kFloat) {
          LoadRoot(op_index, op.in[0]);
          return;
        }
        break;
      case OpKind::kAdd:
      case OpKind::kMul:
      case OpKind::kPrelu:
      case OpKind::kClamp:
        if (LoadElementwise(op_index)) return;
        alone(Step::kBinary);
        break;
      case OpKind::kBmaxPool: alone(Step::kBmaxPool); break;
      case OpKind::kDequantize: alone(Step::kUnpack); break;
      case OpKind::kLogistic:
        if (Swish(op_index) >= 0 && !Constant(op.in[0])) {
          LoadRoot(op_index, op.in[0]);
          return;
        }
        alone(Step::kLogistic);
        break;
      case OpKind::kSoftmax: alone(Step::kSoftmax); break;
      case OpKind::kReshape: alone(Step::kCopy); break;
      case OpKind::kDense: alone(Step::kDense); break;
    }
    steps_.push_back(step);
    if (extend) Extend(index, op.out);
  }

  static void Clamp(const Op& op, Step* step) {
    if (!op.clamp) return;
    StagePlan clamp{};
    clamp.kind = Stage::kClamp;
    clamp.lo = op.lo;
    clamp.hi = op.hi;
    step->stages.push_back(clamp);
  }

  // LCE's converter also folds a multiplication by a whole [height, width, channels] tensor into the convolution. Such
  // scales become stages; the convolution then yields the plain dot product.
  void BconvScale(const Op& op, Step* step) {
    if (T(op.out).type == DType::kInt32) return;
    for (int i = 2; i < 4; ++i) {
      if (T(op.in[i]).dims.size() == 1 && Constant(op.in[i]) && T(op.in[5 - i]).dims.size() == 1 &&
          Constant(op.in[5 - i]))
        continue;
      StagePlan stage{};
      stage.kind = i == 2 ? Stage::kMul : Stage::kAdd;
      Operand(op, op.in[i], step->out, step->out, &stage);
      step->stages.push_back(stage);
    }
  }

  // Reads tensor `t` and extends it; op_index is the first to be absorbed.
  void LoadRoot(int op_index, int t) {
    const int index = int(steps_.size());
    group_[op_index] = -1;
    Step step{};
    step.kind = Step::kLoad;
    step.input = t;
    step.out = AsImage(T(t).dims);
    steps_.push_back(step);
    // The value is in memory already, so what is not absorbed needs no store: Extend is told by making it seem kept.
    ExtendLoaded(index, t, op_index);
  }

  void ExtendLoaded(int index, int t, int first) {
    Step* step = &steps_[index];
    const Op& op = graph_.ops[first];
    if (op.kind == OpKind::kQuantize) {
      step->stages.push_back(Store(Stage::kStoreBits, op.out));
      step->ops.push_back(first);
      group_[first] = index;
      // Continue with what else can be done while the value is at hand.
      const int next = ContinueAny(step, index, t);
      if (next >= 0) Extend(index, graph_.ops[next].out);
      return;
    }
    const int last = Continue(step, index, first, t);
    Extend(index, graph_.ops[last].out);
  }

  bool LoadElementwise(int op_index) {
    const Op& op = graph_.ops[op_index];
    const Shape shape = AsImage(T(op.out).dims);
    for (int t : op.in) {
      if (Constant(t) || T(t).type != DType::kFloat || !(AsImage(T(t).dims) == shape)) continue;
      // Try on a scratch step whether the operator continues this operand.
      Step trial{};
      trial.out = shape;
      const int index = int(steps_.size());
      group_[op_index] = -1;
      steps_.push_back(trial);
      const bool works = Continue(&steps_.back(), index, op_index, t) >= 0;
      steps_.pop_back();
      group_[op_index] = index;
      if (!works) continue;
      LoadRoot(op_index, t);
      return true;
    }
    return false;
  }

  // ---- order ----

  // Steps in an order in which they can run, keeping the graph's where it is free.
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
      ordered.push_back(steps_[best]);
    }
    steps_ = ordered;
  }

  const Graph& graph_;
  std::vector<Step>& steps_;
  std::vector<int> producer_;
  std::vector<std::vector<int>> consumers_;
  std::vector<bool> output_;
  std::vector<int> group_;  // step of each operator, -1 while free
  int sums_ = 0, sum_tensor_ = -1;
};

}  // namespace

bool Fuse(const Graph& graph, std::vector<Step>* steps, int* sums, std::string* error) {
  steps->clear();
  size_t operators = 0;
  *sums = Fuser(graph, steps).Run();
  for (const Step& step : *steps) operators += step.ops.size();
  if (operators == graph.ops.size()) return true;
  *error = "internal error: the operators could not be put in order";
  return false;
}

}  // namespace r2b
