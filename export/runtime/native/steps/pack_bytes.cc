// The step that packs the signs of int8 numbers (negative: below the zero point) or of bools (true: +1; false: -1).
#include <algorithm>

#include "memory.h"
#include "steps/values.h"

namespace r2b {
namespace {

class PackBytes : public ValuesRoot {
 public:
  PackBytes(const Graph& graph, const Op& op)
      : ValuesRoot(graph, op, "quantize"),
        bools_(graph.tensors[op.in[0]].type == DType::kBool),
        zero_point_(graph.tensors[op.in[0]].zero_point),
        pixels_(PixelsOf(graph.tensors[op.in[0]])) {}
  int items() const override { return pixels_.count; }

  void Run(const FlatRun& run) const override {
    const int channels = pixels_.channels, words = Blocks(channels);
    const uint8_t* in = run.memory.At<uint8_t>(run.step.input);
    uint32_t* out = run.memory.At<uint32_t>(run.step.output);
    for (int pixel = run.begin; pixel < run.end; ++pixel)
      for (int w = 0; w < words; ++w)
        out[int64_t(pixel) * words + w] =
            Word(in + int64_t(pixel) * channels + w * kBlock, std::min(kBlock, channels - w * kBlock));
  }

 private:
  uint32_t Word(const uint8_t* values, int count) const {
    uint32_t bits = 0;
    for (int i = 0; i < count; ++i) {
      const bool negative = bools_ ? values[i] == 0 : int8_t(values[i]) < zero_point_;
      bits |= uint32_t(negative) << i;
    }
    return bits;
  }

  const bool bools_;
  const int zero_point_;
  const Pixels pixels_;
};

}  // namespace

std::unique_ptr<FlatRoot> MakePackBytes(const Graph& graph, const Op& op) {
  return std::make_unique<PackBytes>(graph, op);
}

}  // namespace r2b
