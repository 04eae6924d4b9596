// Threads that share a pixel's channels pack its bits into separate planes, which are merged afterwards.
//
// Without planes, the threads would write to the same cache lines. Fetching a line from another core takes as long as
// computing the products for one word of bits. So each share of the channels has a plane for its words. Once all
// threads are done, they merge the planes, and each thread merges some of the rows.
#pragma once

#include <vector>

#include "limits.h"
#include "sharing.h"
#include "steps/step.h"

namespace r2b {

class Planes {
 public:
  // `splits` is the number of shares of a row's channels. Allocates memory only if there are several shares and the
  // step packs bits. Throws Refused if the budget does not suffice.
  void Prepare(const Step& step, int splits, Budget* budget);
#if defined(R2B_SINGLE_THREAD)
  static constexpr bool used() { return false; }
#else
  bool used() const { return stage_ >= 0; }
#endif
  // The tensor into which the planes are merged.
  int target(const Step& step) const { return step.stages[size_t(stage_)].tensor; }

  // Makes the step's stage write a row's bits into the plane of `blocks`.
  void Point(const Step& step, const Range& blocks, int row, std::vector<Stage>* stages);
  // Copies the words of `rows` from all planes to the tensor.
  void Merge(const Step& step, const Memory& memory, const Range& rows) const;

 private:
  ptrdiff_t At(const Step& step, const Range& blocks, int row) const;

  int splits_ = 1, stage_ = -1;  // stage_: the stage that stores bits; -1: no planes
  std::vector<uint32_t> words_;  // [split][row][pixel][word]
};

}  // namespace r2b
