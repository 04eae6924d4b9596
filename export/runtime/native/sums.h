// The sums of a step's values: one sum for each image and channel, over the image's pixels.
//
// The pixels are always added in their order, so the sums have the same bits whichever thread computes which rows. The
// thread that computes an image's first row adds this row and the rows directly after it, until it computes some other
// row. The values of all other rows are stored separately ("kept apart"). They are added once all rows have been
// computed. Other steps may run before that, so the number of rows added so far is recorded.
#pragma once

#include <memory>
#include <vector>

#include "limits.h"
#include "steps/step.h"

namespace r2b {

class Sums {
 public:
  void Prepare(const Step& step, int splits, int threads, Budget* budget);

  // Makes the step's stage add row `y`, for share `split` of its channels. The thread must have added all rows above,
  // for the same share.
  void Add(int image, int y, int split, Stage* stage);
  // Makes the stage keep the row's values apart instead.
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
  float* values_ = nullptr;  // in `buffer_`, which is aligned: shares of full blocks have separate cache lines
  AlignedBuffer buffer_;
  std::vector<Added> added_;  // [image][split]
  // The values that are kept apart, [image][row][pixel][channel]; null for one thread. Not initialised: most of its
  // pages are never touched, and such pages take no memory.
  std::unique_ptr<float[]> apart_;
};

}  // namespace r2b
