// The step that turns packed signs into floats, int8 numbers or bools.
#include <algorithm>
#include <cmath>

#include "memory.h"
#include "steps/values.h"

namespace r2b {
namespace {

class Unpack : public ValuesRoot {
 public:
  Unpack(const Graph& graph, const Op& op)
      : ValuesRoot(graph, op, "dequantize"),
        type_(graph.tensors[op.out].type),
        pixels_(PixelsOf(graph.tensors[op.out])) {
    if (type_ == DType::kInt8) SetBytes(graph.tensors[op.out]);
  }
  int items() const override { return pixels_.count; }

  void Run(const FlatRun& run) const override {
    const int channels = pixels_.channels, pixels = run.end - run.begin;
    const uint32_t* in = run.memory.At<uint32_t>(run.step.input) + int64_t(run.begin) * Blocks(channels);
    const int64_t first = int64_t(run.begin) * channels;
    if (type_ == DType::kFloat)
      return run.kernels->unpack(in, pixels, channels, run.memory.At<float>(run.step.output) + first);
    run.kernels->unpack_bytes(in, pixels, channels, plus_, minus_, run.memory.At<int8_t>(run.step.output) + first);
  }

 private:
  // Sets the int8 numbers that represent +1 and -1, as nearly as the output's scale and zero point allow.
  void SetBytes(const Tensor& output) {
    const int step = output.scale > 0 ? int(std::min(255.0f, std::round(1.0f / output.scale))) : 0;
    plus_ = int8_t(std::min(127, output.zero_point + step));
    minus_ = int8_t(std::max(-128, output.zero_point - step));
  }

  const DType type_;
  const Pixels pixels_;
  int8_t plus_ = 1, minus_ = 0;  // these values are for bools: true stands for +1
};

}  // namespace

std::unique_ptr<FlatRoot> MakeUnpack(const Graph& graph, const Op& op) { return std::make_unique<Unpack>(graph, op); }

}  // namespace r2b
