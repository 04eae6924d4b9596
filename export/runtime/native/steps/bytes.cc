// The steps of QUANTIZE (from floats to 8-bit numbers, or from 8-bit numbers to another scale or type) and DEQUANTIZE
// (from 8-bit numbers to floats).
#include <algorithm>
#include <array>

#include "fixed_point.h"
#include "memory.h"
#include "steps/values.h"

namespace r2b {
namespace {

class ToBytes : public ValuesRoot {
 public:
  ToBytes(const Graph& graph, const Op& op)
      : ValuesRoot(graph, op, "to-int8"),
        unsigned_(graph.tensors[op.out].type == DType::kUInt8),
        scale_(graph.tensors[op.out].scale),
        zero_point_(graph.tensors[op.out].zero_point),
        items_(int(AsImage(graph.tensors[op.out].dims).count())) {}
  int items() const override { return items_; }

  void Run(const FlatRun& run) const override {
    int8_t* to = run.memory.At<int8_t>(run.step.output) + run.begin;
    run.kernels->to_bytes(run.memory.At<float>(run.step.input) + run.begin, run.end - run.begin, scale_,
                          zero_point_ - (unsigned_ ? 128 : 0), to);
    if (unsigned_)
      for (int i = 0; i < run.end - run.begin; ++i) to[i] = int8_t(to[i] ^ -128);
  }

 private:
  // Copies of the output's fields, since memory planning adds tensors to the graph, which moves those that are there.
  const bool unsigned_;
  const float scale_;
  const int32_t zero_point_;
  const int items_;
};

// Looks up the result for each 8-bit number in a table of 256 entries.
template <class Answer>
class FromBytes : public ValuesRoot {
 public:
  FromBytes(const Graph& graph, const Op& op, const char* name, const std::array<Answer, 256>& answers)
      : ValuesRoot(graph, op, name), answers_(answers), items_(int(AsImage(graph.tensors[op.in[0]].dims).count())) {}
  int items() const override { return items_; }

  void Run(const FlatRun& run) const override {
    const uint8_t* from = run.memory.At<uint8_t>(run.step.input);
    Answer* to = run.memory.At<Answer>(run.step.output);
    for (int i = run.begin; i < run.end; ++i) to[i] = answers_[from[i]];
  }

 private:
  const std::array<Answer, 256> answers_;
  const int items_;
};

// Returns of(number - in.zero_point) for each of the 256 bytes, which are read as numbers of the type of `in` (uint8 or
// int8).
template <class Answer, class Of>
std::array<Answer, 256> Table(const Tensor& in, Of of) {
  std::array<Answer, 256> answers{};
  for (int byte = 0; byte < 256; ++byte) {
    const int number = in.type == DType::kUInt8 ? byte : int8_t(byte);
    answers[size_t(byte)] = of(number - in.zero_point);
  }
  return answers;
}

}  // namespace

std::unique_ptr<FlatRoot> MakeToBytes(const Graph& graph, const Op& op) {
  const Tensor &in = graph.tensors[op.in[0]], &out = graph.tensors[op.out];
  if (in.type == DType::kFloat) return std::make_unique<ToBytes>(graph, op);
  const FixedPoint scale(double(in.scale) / double(out.scale));
  const int least = LeastNumber(out.type);
  const auto number = [&](int steps) {
    const int product = FixedProduct(uint32_t(steps), scale.multiplier, scale.left, scale.right);
    return uint8_t(int(std::clamp<int64_t>(int64_t(product) + out.zero_point, least, least + 255)));
  };
  return std::make_unique<FromBytes<uint8_t>>(graph, op, "to-int8", Table<uint8_t>(in, number));
}

std::unique_ptr<FlatRoot> MakeFromBytes(const Graph& graph, const Op& op) {
  const Tensor& in = graph.tensors[op.in[0]];
  return std::make_unique<FromBytes<float>>(graph, op, "from-int8",
                                            Table<float>(in, [&](int steps) { return in.scale * float(steps); }));
}

}  // namespace r2b
