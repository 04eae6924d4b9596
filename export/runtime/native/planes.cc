#include "planes.h"

#include "memory.h"

namespace r2b {

void Planes::Prepare(const Step& step, int splits, Budget* budget) {
  splits_ = splits;
  stage_ = splits > 1 ? step.FindStage(Stage::kStoreBits) : -1;
  if (!used()) return;
  const Count words = Count(step.out.n) * step.out.h * step.out.w * Blocks(step.out.c);
  budget->TakeMemory(step.op(), words * sizeof(uint32_t), "a separate copy of its output's bits for each thread");
  words_.assign(size_t(words.value()), 0);
}

// Returns the index in words_ at which a row begins in the plane of `blocks`.
ptrdiff_t Planes::At(const Step& step, const Range& blocks, int row) const {
  const ptrdiff_t rows = step.out.n * step.out.h, words = blocks.end - blocks.begin;
  return (rows * blocks.begin + row * words) * step.out.w;
}

void Planes::Point(const Step& step, const Range& blocks, int row, std::vector<Stage>* stages) {
  Stage& bits = (*stages)[size_t(stage_)];
  bits.out = reinterpret_cast<uint8_t*>(words_.data() + At(step, blocks, row) - blocks.begin);
  bits.pixel = (blocks.end - blocks.begin) * ptrdiff_t(sizeof(uint32_t));
}

void Planes::Merge(const Step& step, const Memory& memory, const Range& rows) const {
  for (int row = rows.begin; row < rows.end; ++row) {
    Stage bits;
    memory.Resolve(step, step.stages[size_t(stage_)], row / step.out.h, row % step.out.h, &bits);
    for (int s = 0; s < splits_; ++s) {
      const Range blocks = SplitBlocks(step.out.c, splits_, s);
      const uint32_t* from = words_.data() + At(step, blocks, row);
      uint8_t* to = bits.out + blocks.begin * sizeof(uint32_t);
      for (int x = 0; x < step.out.w; ++x, to += bits.pixel)
        for (int w = 0; w < blocks.end - blocks.begin; ++w) reinterpret_cast<uint32_t*>(to)[w] = *from++;
    }
  }
}

}  // namespace r2b
