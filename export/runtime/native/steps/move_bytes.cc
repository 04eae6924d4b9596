// The roots of two kinds of steps on int8 numbers: one takes maxima over windows, and the other pads a tensor with its
// zero point.
#include <algorithm>
#include <cstring>

#include "memory.h"
#include "steps/roots.h"
#include "steps/window.h"

namespace r2b {
namespace {

class MaxBytes : public RowRoot {
 public:
  MaxBytes(const Graph& graph, const Op& op) : window_(graph, op) {}
  const char* name() const override { return "pool-int8"; }
  Reads reads() const override { return Reads::kRuns; }
  bool has_stages() const override { return false; }

  void Run(const RowRun& run, const Epilogue&) const override {
    const Storage &in = run.memory[run.step.input], &out = run.memory[run.step.output];
    const int channels = window_.in.c;
    auto* to = reinterpret_cast<int8_t*>(out.base + run.image * out.image + run.y * out.row);
    for (int x = 0; x < run.step.out.w; ++x, to += channels) {
      std::fill_n(to, channels, int8_t(-128));
      for (int y = window_.FirstRow(run.y); y < window_.EndRow(run.y); ++y)
        for (int column = window_.begin_columns[size_t(x)]; column < window_.end_columns[size_t(x)]; ++column) {
          const uint8_t* pixel = in.base + run.image * in.image + y * in.row + column * in.pixel;
          Take(reinterpret_cast<const int8_t*>(pixel), channels, to);
        }
    }
  }

 private:
  static void Take(const int8_t* from, int channels, int8_t* most) {
    for (int c = 0; c < channels; ++c) most[c] = std::max(most[c], from[c]);
  }

  const Window window_;
};

class PadBytes : public RowRoot {
 public:
  PadBytes(const Graph& graph, const Op& op)
      : in_(AsImage(graph.tensors[op.in[0]].dims)), fill_(graph.tensors[op.out].zero_point) {
    const size_t rank = op.numbers.size() / 2;
    for (size_t i = 0; i < rank; ++i) before_[4 - rank + i] = op.numbers[2 * i];
  }
  const char* name() const override { return "surround-int8"; }
  Reads reads() const override { return Reads::kRuns; }
  bool has_stages() const override { return false; }

  void Run(const RowRun& run, const Epilogue&) const override {
    const Storage &in = run.memory[run.step.input], &out = run.memory[run.step.output];
    const Shape& shape = run.step.out;
    uint8_t* to = out.base + run.image * out.image + run.y * out.row;
    std::memset(to, uint8_t(fill_), size_t(shape.w) * size_t(shape.c));
    const int image = run.image - before_[0], y = run.y - before_[1];
    if (image < 0 || image >= in_.n || y < 0 || y >= in_.h) return;
    const uint8_t* from = in.base + image * in.image + y * in.row;
    for (int x = 0; x < in_.w; ++x)
      std::memcpy(to + (ptrdiff_t(x) + before_[2]) * shape.c + before_[3], from + x * in.pixel, size_t(in_.c));
  }

 private:
  const Shape in_;
  const int fill_;
  int before_[4] = {};
};

}  // namespace

std::unique_ptr<RowRoot> MakeMaxBytes(const Graph& graph, const Op& op) {
  return std::make_unique<MaxBytes>(graph, op);
}
std::unique_ptr<RowRoot> MakePadBytes(const Graph& graph, const Op& op) {
  return std::make_unique<PadBytes>(graph, op);
}

}  // namespace r2b
