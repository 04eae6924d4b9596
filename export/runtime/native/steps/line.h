// The base class of roots that write a whole row to memory. If the only stage stores the row, it is written directly to
// its destination. Otherwise it is written to a buffer, loaded again and passed through the stages.
#pragma once

#include "steps/step.h"

namespace r2b {

class LineRoot : public RowRoot {
 public:
  Reads reads() const override { return Reads::kRuns; }
  WorkspaceSize Lay(const Step& step, const Memory& memory) override;
  void Run(const RowRun& run, const Epilogue& epilogue) const override;

 protected:
  // Writes the row's values to `to`; `pixel` is the number of bytes from one pixel to the next.
  virtual void Fill(const RowRun& run, uint8_t* to, ptrdiff_t pixel) const = 0;
};

// Copies pixels of `channels` floats. `to_pixel` and `from_pixel` are the bytes from one pixel to the next.
void CopyPixels(uint8_t* to, ptrdiff_t to_pixel, const uint8_t* from, ptrdiff_t from_pixel, int pixels, int channels);

}  // namespace r2b
