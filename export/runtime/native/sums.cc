#include "sums.h"

#include <algorithm>

#include "memory.h"
#include "sharing.h"

namespace r2b {

void Sums::Prepare(const Step& step, int splits, int threads, Budget* budget) {
  out_ = step.out;
  splits_ = splits;
  const bool apart = threads > 1;
  const Count sums = Count(out_.n) * out_.c, bytes = (sums + (apart ? out_.count() : 0)) * sizeof(float);
  budget->TakeMemory(step.op(), bytes + Count(out_.n) * splits * sizeof(Added) + AlignedBuffer::kOverhead,
                     "sums over its output");
  buffer_.Assign(size_t(sums.value()) * sizeof(float));
  values_ = reinterpret_cast<float*>(buffer_.data());
  added_.assign(size_t(out_.n) * splits, {});
  apart_.reset(apart ? new float[size_t(out_.count())] : nullptr);
}

void Sums::Add(int image, int y, int split, Stage* stage) {
  const Range channels = ChannelsOf(SplitBlocks(out_.c, splits_, split), out_.c);
  float* sums = Of(image);
  if (y == 0) std::fill(sums + channels.begin, sums + channels.end, 0.0f);
  AddedTo(image, split).rows = y + 1;
  stage->out = reinterpret_cast<uint8_t*>(sums);
}

void Sums::KeepApart(int image, int y, Stage* stage) {
  stage->kind = Stage::kStoreFloat;
  stage->pixel = out_.c * ptrdiff_t(sizeof(float));
  stage->out = reinterpret_cast<uint8_t*>(Apart(image, y));
}

void Sums::AddApart(const Kernels* kernels, int image, int split) {
  const Range channels = ChannelsOf(SplitBlocks(out_.c, splits_, split), out_.c);
  Stage add;
  add.kind = Stage::kSum;
  add.in = add.out = reinterpret_cast<uint8_t*>(Of(image) + channels.begin);
  for (int& y = AddedTo(image, split).rows; y < out_.h; ++y)
    kernels->load({reinterpret_cast<const uint8_t*>(Apart(image, y) + channels.begin),
                   out_.c * ptrdiff_t(sizeof(float)), 0, out_.w, channels.end - channels.begin},
                  {&add, 1});
}

void Sums::Finish(const Kernels* kernels, float* means) {
  const float area = float(out_.h * out_.w);
  for (int image = 0; image < out_.n; ++image) {
    for (int split = 0; split < splits_; ++split) AddApart(kernels, image, split);
    for (int c = 0; c < out_.c; ++c) *means++ = Of(image)[c] / area;
  }
}

}  // namespace r2b
