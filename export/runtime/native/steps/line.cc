#include "steps/line.h"

#include <cstring>

#include "memory.h"

namespace r2b {
namespace {

constexpr ptrdiff_t kFar = 512;  // bytes per pixel above which calling memcpy is faster than a loop

// True if the stages only store floats, with contiguous channels. Then the row can be written directly to its
// destination.
bool OnlyStored(const Epilogue& epilogue) {
  return epilogue.count == 1 && epilogue.stages[0].kind == Stage::kStoreFloat && epilogue.stages[0].gap == 0;
}

}  // namespace

WorkspaceSize LineRoot::Lay(const Step& step, const Memory&) {
  WorkspaceSize size;
  size.ring = Count(step.out.w) * step.out.c * sizeof(float);
  return size;
}

void LineRoot::Run(const RowRun& run, const Epilogue& epilogue) const {
  if (OnlyStored(epilogue)) return Fill(run, epilogue.stages[0].out, epilogue.stages[0].pixel);
  const Shape& out = run.step.out;
  const ptrdiff_t pixel = out.c * ptrdiff_t(sizeof(float));
  uint8_t* line = run.workspace->ring.data();
  Fill(run, line, pixel);
  run.kernels->load({line, pixel, 0, out.w, out.c}, epilogue);
}

void CopyPixels(uint8_t* to, ptrdiff_t to_pixel, const uint8_t* from, ptrdiff_t from_pixel, int pixels, int channels) {
  const ptrdiff_t bytes = channels * ptrdiff_t(sizeof(float));
  if (to_pixel == bytes && from_pixel == bytes) {
    std::memcpy(to, from, size_t(pixels) * size_t(bytes));
    return;
  }
  if (bytes > kFar) {
    for (int x = 0; x < pixels; ++x) std::memcpy(to + x * to_pixel, from + x * from_pixel, size_t(bytes));
    return;
  }
  constexpr ptrdiff_t kStep = 32;  // bytes; compilers copy this few in registers, without calling memcpy
  for (int x = 0; x < pixels; ++x, to += to_pixel, from += from_pixel) {
    ptrdiff_t at = 0;
    for (; at + kStep <= bytes; at += kStep) std::memcpy(to + at, from + at, size_t(kStep));
    for (; at < bytes; at += ptrdiff_t(sizeof(float))) std::memcpy(to + at, from + at, sizeof(float));
  }
}

}  // namespace r2b
