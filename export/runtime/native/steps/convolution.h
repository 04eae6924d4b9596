// The base of all convolutions but transposed ones: it knows where the inputs of an output pixel lie.
#pragma once

#include "steps/step.h"

namespace r2b {

class ConvolutionRoot : public RowRoot {
 public:
  Reads reads() const override { return Reads::kRuns; }
  Border border() const override;

 protected:
  // The input's channels are cut into `groups`.
  ConvolutionRoot(const Graph& graph, const Op& op, int groups);
  // Finds the runs of inputs: one for each kernel row if its taps are contiguous in memory, else one for each tap.
  void LayRuns(const Storage& input);
  RunList Runs(const Storage& input, int image, int y) const;
  // The same for a given origin of the row's first output, which may be null where nothing is read.
  RunList RunsFrom(const uint8_t* origin, const Storage& input) const;

  const Op& op_;
  const Shape in_;
  const int groups_;
  const Extent extent_h_, extent_w_;

 private:
  std::vector<ptrdiff_t> segments_;
  int run_length_ = 0;
};

}  // namespace r2b
