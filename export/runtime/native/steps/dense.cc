// The step of a dense layer on floats. Products are added in the order of TensorFlow Lite, which has one order for a
// single input vector and another for several (see kernels.h).
#include <algorithm>

#include "memory.h"
#include "steps/roots.h"

namespace r2b {
namespace {

class Dense : public FlatRoot {
 public:
  Dense(const Graph& graph, const Op& op)
      : op_(op),
        outputs_(graph.tensors[op.in[1]].dims[0]),
        inputs_(graph.tensors[op.in[1]].dims[1]),
        batch_(int(AsImage(graph.tensors[op.in[0]].dims).count() / inputs_)) {}
  const char* name() const override { return "dense"; }
  int items() const override { return (outputs_ + unit() - 1) / unit(); }
  int64_t work() const override { return int64_t(outputs_) * inputs_ * batch_; }

  void Prepare(const Setting& setting) override {
    weights_ = batch_ == 1 ? setting.weights->Dense(setting.graph, op_.in[1])
                           : setting.weights->Floats(setting.graph, op_.in[1]);
    bias_ = PaddedBias(setting.graph, op_);
  }

  void Run(const FlatRun& run) const override {
    const int begin = std::min(run.begin * unit(), outputs_), end = std::min(run.end * unit(), outputs_);
    const float* x = run.memory.At<float>(run.step.input);
    float* y = run.memory.At<float>(run.step.output);
    if (batch_ == 1) {
      RunOne(run.kernels, x, begin, end, y);
    } else if (begin < end) {
      RunSeveral(run.kernels, x, begin, end, y);
    }
    if (op_.clamp) Clamp(begin, end, y);
  }

 private:
  int unit() const { return batch_ == 1 ? kDenseGroup : kBlock; }  // outputs per item

  void RunOne(const Kernels* kernels, const float* x, int begin, int end, float* y) const {
    kernels->dense(x, reinterpret_cast<const float*>(weights_.bytes->data()), inputs_, begin, end, y);
    for (int o = begin; o < end; ++o) y[o] += bias_[o];
  }

  // Treats the input vectors as the pixels of an image, to which a 1x1 convolution is applied.
  void RunSeveral(const Kernels* kernels, const float* x, int begin, int end, float* y) const {
    const ptrdiff_t segment = 0;
    const RunList runs{reinterpret_cast<const uint8_t*>(x), inputs_ * ptrdiff_t(sizeof(float)), &segment, 1, inputs_};
    Stage store;
    store.kind = Stage::kStoreFloat;
    store.out = reinterpret_cast<uint8_t*>(y);
    store.in = store.out;
    store.pixel = outputs_ * ptrdiff_t(sizeof(float));
    const uint8_t* packed = weights_.bytes->data() + begin / kBlock * weights_.block_bytes;
    kernels->fconv({runs, reinterpret_cast<const float*>(packed), weights_.block_bytes, bias_.data() + begin, batch_,
                    begin, end - begin},
                   {&store, 1});
  }

  void Clamp(int begin, int end, float* y) const {
    for (int b = 0; b < batch_; ++b)
      for (int o = begin; o < end; ++o) {
        float& v = y[int64_t(b) * outputs_ + o];
        v = std::min(std::max(v, op_.lo), op_.hi);
      }
  }

  const Op& op_;
  const int outputs_, inputs_, batch_;
  PackedWeights weights_;
  std::vector<float> bias_;
};

}  // namespace

std::unique_ptr<FlatRoot> MakeDense(const Graph& graph, const Op& op) { return std::make_unique<Dense>(graph, op); }

}  // namespace r2b
