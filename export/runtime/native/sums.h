// A step sums its values over each image here, channel by channel.
//
// A sum has the bits that one thread would find, whichever thread does which rows: it adds pixel after pixel from the
// first row on, as long as one thread has the rows that follow; the values of all other rows are kept apart, and added
// in order once all rows are there. What has been added and what is kept apart is noted with the sums, since other
// steps may run before somebody needs them.
#pragma once

#include <memory>
#include <vector>

#include "limits.h"
#include "steps/step.h"

namespace r2b {

class Sums {
 public:
  void Prepare(const Step& step, int splits, int threads, Budget* budget);

  // Lets the step's stage add a row of one share of the channels. The rows above must have been added, by this thread.
  void Add(int image, int y, int split, Stage* stage);
  // Lets it keep the row's values apart.
  void KeepApart(int image, int y, Stage* stage);

  // Adds the rows that were kept apart, and divides. Nothing is left to add when it is called again.
  void Finish(const Kernels* kernels, float* means);

 private:
  // How many of an image's rows, from the first on, the sums have. Only the thread that adds them writes it before all
  // have met; on a cache line of its own.
  struct alignas(64) Added {
    int rows = 0;
  };
  float* Of(int image) { return values_ + int64_t(image) * out_.c; }
  Added& AddedTo(int image, int split) { return added_[size_t(image) * splits_ + split]; }
  float* Apart(int image, int y) { return apart_.get() + (int64_t(image) * out_.h + y) * out_.w * out_.c; }
  void AddApart(const Kernels* kernels, int image, int split);

  Shape out_;  // of the step's values
  int splits_ = 1;
  float* values_ = nullptr;  // in `buffer_`, from the start of a cache line, so that no two threads' channels share one
  std::vector<uint8_t> buffer_;
  std::vector<Added> added_;  // [image][split]
  // Values of the other rows, [row][pixel][channel]; null for one thread. Not initialised: few pages of it are ever
  // touched.
  std::unique_ptr<float[]> apart_;
};

}  // namespace r2b
