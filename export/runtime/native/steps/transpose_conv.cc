// The root of a step that spreads each input pixel over a window of outputs: TRANSPOSE_CONV.
//
// A phase consists of the output pixels whose row and column have the same remainders modulo the strides. All pixels of
// a phase use the same taps of the filter, and neighbouring ones read adjacent input pixels. So each phase is an
// ordinary convolution with these taps.
#include <algorithm>

#include "memory.h"
#include "steps/line.h"
#include "steps/roots.h"

namespace r2b {
namespace {

// One axis. Tap k of output `at` reads input (at + before - k) / stride, if this is a whole number.
struct Spread {
  int in, out, kernel, stride, before;

  int phases() const { return std::min(kernel, stride); }  // how many phases have taps
  int Taps(int phase) const { return phase < kernel ? (kernel - phase + stride - 1) / stride : 0; }
  int Phase(int at) const { return (at + before) % stride; }
  // The input that the first tap of output `at` reads; later taps read earlier inputs.
  int Input(int at) const { return (at + before) / stride; }
  int First(int phase) const { return (phase + stride - before % stride) % stride; }  // the phase's first output
  int BorderBefore() const { return std::max((kernel - 1 - before) / stride, 0); }
  int BorderAfter() const { return std::max((out - 1 + before) / stride - (in - 1), 0); }
};

class TransposeConv : public LineRoot {
 public:
  TransposeConv(const Graph& graph, const Op& op)
      : op_(op),
        outputs_(graph.tensors[op.in[1]].dims[0]),
        inputs_(graph.tensors[op.in[1]].dims[3]),
        rows_(Axis(AsImage(graph.tensors[op.in[0]].dims).h, op.numbers[1], op.kernel_h, op.stride_h, op)),
        columns_(Axis(AsImage(graph.tensors[op.in[0]].dims).w, op.numbers[2], op.kernel_w, op.stride_w, op)) {}
  const char* name() const override { return "transposed"; }
  Border border() const override {
    return {rows_.BorderBefore(), columns_.BorderBefore(), rows_.BorderAfter(), columns_.BorderAfter()};
  }

  void Prepare(const Setting& setting) override {
    weights_.clear();
    bias_ = PaddedBias(setting.graph, op_);
    for (int row = 0; row < rows_.phases(); ++row)
      for (int column = 0; column < columns_.phases(); ++column)
        weights_.push_back(setting.weights->Phase(setting.graph, op_.in[1], row, column, op_.stride_h, op_.stride_w));
  }

  WorkspaceSize Lay(const Step& step, const Memory& memory) override {
    const Storage& input = memory[step.input];
    offsets_.clear();
    for (int row = 0; row < rows_.phases(); ++row)
      for (int column = 0; column < columns_.phases(); ++column) {
        offsets_.emplace_back();
        for (int y = 0; y < rows_.Taps(row); ++y)
          for (int x = 0; x < columns_.Taps(column); ++x) offsets_.back().push_back(-y * input.row - x * input.pixel);
      }
    return LineRoot::Lay(step, memory);
  }

 private:
  static Spread Axis(int in, int out, int kernel, int stride, const Op& op) {
    return {in, out, kernel, stride, WindowExtent(out, kernel, stride, 1, op.same_padding).before};
  }

  void Fill(const RowRun& run, uint8_t* to, ptrdiff_t pixel) const override {
    const Storage& input = run.memory[run.step.input];
    const uint8_t* line = input.base + run.image * input.image + rows_.Input(run.y) * input.row;
    for (int phase = 0; phase < columns_.stride; ++phase) {
      const int first = columns_.First(phase);
      if (first < columns_.out) FillPhase(run, phase, line + columns_.Input(first) * input.pixel, to, pixel);
    }
  }

  void FillPhase(const RowRun& run, int column, const uint8_t* origin, uint8_t* to, ptrdiff_t pixel) const {
    const int row = rows_.Phase(run.y), first = columns_.First(column);
    Stage store;
    store.kind = Stage::kStoreFloat;
    store.out = to + first * pixel;
    store.in = store.out;
    store.pixel = columns_.stride * pixel;
    const bool taps = row < rows_.phases() && column < columns_.phases();  // if not, outputs equal the bias
    const size_t at = taps ? size_t(row) * size_t(columns_.phases()) + size_t(column) : 0;
    const RunList runs{origin, run.memory[run.step.input].pixel, offsets_[at].data(),
                       taps ? int(offsets_[at].size()) : 0, inputs_};
    const int width = (columns_.out - first + columns_.stride - 1) / columns_.stride;
    run.kernels->fconv({runs, reinterpret_cast<const float*>(weights_[at].bytes->data()), weights_[at].block_bytes,
                        bias_.data(), width, 0, outputs_},
                       {&store, 1});
  }

  const Op& op_;
  const int outputs_, inputs_;
  const Spread rows_, columns_;
  std::vector<PackedWeights> weights_;           // of each phase that has taps: [row phase][column phase]
  std::vector<std::vector<ptrdiff_t>> offsets_;  // likewise: offset of each tap's input from the first tap's, in bytes
  std::vector<float> bias_;
};

}  // namespace

std::unique_ptr<RowRoot> MakeTransposeConv(const Graph& graph, const Op& op) {
  return std::make_unique<TransposeConv>(graph, op);
}

}  // namespace r2b
