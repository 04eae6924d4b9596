// The base class of all convolutions except transposed ones: it knows where the inputs of an output pixel lie.
#pragma once

#include "steps/step.h"

namespace r2b {

class ConvolutionRoot : public RowRoot {
 public:
  Reads reads() const override { return Reads::kRuns; }
  Border border() const override;

 protected:
  // `groups`: the number of groups into which the input's channels are divided.
  ConvolutionRoot(const Graph& graph, const Op& op, int groups);
  // Computes where the runs of an output pixel's inputs lie (see RunList).
  void LayRuns(const Storage& input);
  // The runs that row `y` of outputs reads.
  RunList Runs(const Storage& input, int image, int y) const;
  // The same for a row whose output pixel 0 has this origin (RunList::origin). The origin may be null if nothing is
  // read through the runs.
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
