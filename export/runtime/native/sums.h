// The sums of a step's values over each image, one for each channel.
//
// A sum has the same bits as with one thread, whichever thread computes which rows. The thread that computes the first
// row adds pixel after pixel for as long as it also computes the rows that follow. The values of all other rows are
// stored separately ("kept apart"), and added in order once all rows have been computed. The sums record which rows
// have been added, since other steps may run before the remaining rows are added.
#pragma once

#include <memory>
#include <vector>

#include "limits.h"
#include "steps/step.h"

namespace r2b {

class Sums {
 public:
  void Prepare(const Step& step, int splits, int threads, Budget* budget);

  // Makes the step's stage add one share of a row's channels. The thread must have added all rows above it.
  void Add(int image, int y, int split, Stage* stage);
  // Makes the stage keep the row's values apart.
  void KeepApart(int image, int y, Stage* stage);

  // Adds the rows that were kept apart, and writes the means, [image][channel]. A second call finds nothing left to
  // add, and writes the same means.
  void Finish(const Kernels* kernels, float* means);

 private:
  // How many of an image's rows, from the first on, have been added. Until the barrier after the step, only the thread
  // that adds the rows writes this count. Each count has its own cache line, to avoid false sharing.
  struct alignas(64) Added {
    int rows = 0;
  };
  float* Of(int image) { return values_ + int64_t(image) * out_.c; }
  Added& AddedTo(int image, int split) { return added_[size_t(image) * splits_ + split]; }
  float* Apart(int image, int y) { return apart_.get() + (int64_t(image) * out_.h + y) * out_.w * out_.c; }
  void AddApart(const Kernels* kernels, int image, int split);

  Shape out_;  // of the step's values
  int splits_ = 1;
  float* values_ = nullptr;  // in `buffer_`, aligned: threads' shares of full blocks have separate cache lines
  AlignedBuffer buffer_;
  std::vector<Added> added_;  // [image][split]
  // The values that are kept apart, [image][row][pixel][channel]; null for one thread. Not initialised, because most of
  // its pages are never used and then need no memory.
  std::unique_ptr<float[]> apart_;
};

}  // namespace r2b
