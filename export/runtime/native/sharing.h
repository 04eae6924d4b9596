// How threads divide items, and a row's channels, among themselves.
#pragma once

#include <algorithm>
#include <cstdint>

#include "steps/step.h"

namespace r2b {

struct Range {
  int begin, end;
};

inline Range ShareOf(int items, int thread, int threads) {
  return {int(int64_t(items) * thread / threads), int(int64_t(items) * (thread + 1) / threads)};
}

// A row's blocks of channels are divided into `splits` shares. Returns the blocks of share `split`. A block's packed
// bits are one word, so no two shares write to the same word.
inline Range SplitBlocks(int channels, int splits, int split) {
  return {Blocks(channels) * split / splits, Blocks(channels) * (split + 1) / splits};
}

inline Range ChannelsOf(const Range& blocks, int channels) {
  return {blocks.begin * kBlock, std::min(blocks.end * kBlock, channels)};
}

}  // namespace r2b
