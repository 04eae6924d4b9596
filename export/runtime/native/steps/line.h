// Steps that make a row in memory have in common what follows: the row passes through stages like any other.
#pragma once

#include "steps/step.h"

namespace r2b {

class LineRoot : public RowRoot {
 public:
  Reads reads() const override { return Reads::kRuns; }
  WorkspaceSize Lay(const Step& step, const Memory& memory) override;
  void Run(const RowRun& run, const Epilogue& epilogue) const override;

 protected:
  // Writes the row's values to `to`, with so many bytes from pixel to pixel.
  virtual void Fill(const RowRun& run, uint8_t* to, ptrdiff_t pixel) const = 0;
};

// Copies pixels of so many floats; each side has its own distance from pixel to pixel, in bytes.
void CopyPixels(uint8_t* to, ptrdiff_t to_pixel, const uint8_t* from, ptrdiff_t from_pixel, int pixels, int channels);

}  // namespace r2b
