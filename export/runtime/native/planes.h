// Threads that share a pixel's channels pack its bits apart, and merge them.
//
// They share the cache lines of the pixel's bits too, and taking a line from another core for one word costs as
// much as the products behind the word: each thread writes a plane of its own channels' words, and once all are done,
// they merge the planes, each some rows.
#pragma once

#include <vector>

#include "limits.h"
#include "sharing.h"
#include "steps/step.h"

namespace r2b {

class Planes {
 public:
  // Takes memory only where the step packs bits and its channels are cut into several shares.
  void Prepare(const Step& step, int splits, Budget* budget);
  bool used() const { return stage_ >= 0; }
  // The tensor into which they are merged.
  int target(const Step& step) const { return step.stages[size_t(stage_)].tensor; }

  // Lets the step's stage write a row's bits into the plane of those blocks.
  void Point(const Step& step, const Range& blocks, int row, std::vector<Stage>* stages);
  // Puts rows' words where readers look for them.
  void Merge(const Step& step, const Memory& memory, const Range& rows) const;

 private:
  ptrdiff_t At(const Step& step, const Range& blocks, int row) const;

  int splits_ = 1, stage_ = -1;  // the stage that stores bits
  std::vector<uint32_t> words_;  // [split][row][pixel][word]
};

}  // namespace r2b
