// The root of a step that convolves floats.
#include "memory.h"
#include "steps/convolution.h"
#include "steps/roots.h"

namespace r2b {
namespace {

class Fconv : public ConvolutionRoot {
 public:
  Fconv(const Graph& graph, const Op& op) : ConvolutionRoot(graph, op, 1) {}
  const char* name() const override { return "conv"; }
  Splits splits() const override { return Splits::kFreely; }
  bool may_feed() const override { return true; }

  void Prepare(const Setting& setting) override {
    weights_ = setting.weights->Floats(setting.graph, op_.in[1]);
    bias_ = PaddedBias(setting.graph, op_);
  }

  WorkspaceSize Lay(const Step& step, const Memory& memory) override {
    LayRuns(memory[step.input]);
    return {};
  }

  void Run(const RowRun& run, const Epilogue& epilogue) const override {
    const int c0 = run.begin_channel;
    const uint8_t* weights = weights_.bytes->data() + c0 / kBlock * weights_.block_bytes;
    run.kernels->fconv({Runs(run.memory[run.step.input], run.image, run.y), reinterpret_cast<const float*>(weights),
                        weights_.block_bytes, bias_.data() + c0, run.step.out.w, c0, run.end_channel - c0},
                       epilogue);
  }

 private:
  PackedWeights weights_;
  std::vector<float> bias_;
};

}  // namespace

std::unique_ptr<RowRoot> MakeFconv(const Graph& graph, const Op& op) { return std::make_unique<Fconv>(graph, op); }

}  // namespace r2b
