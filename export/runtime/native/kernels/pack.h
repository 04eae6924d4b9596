// Rearranges weights, once, into the order in which row kernels read them.
//
// Filters come as [output channel][kernel row][kernel column][input channel]. A kernel wants, for each step along the
// inputs, the weights of 32 output channels side by side: [block of 32 outputs][input chunk][32]. A chunk is as many
// input channels as the instruction set compares in one element: 32, 16 or 4 bits, or one float. Each group of a
// grouped convolution starts a new block; channels that fill up a last block have weights of zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace r2b {

// Bytes that a word of 32 bits has in chunks of `chunk_bits`: a chunk of fewer bits than a byte has a byte too.
constexpr int PackedWordBytes(int chunk_bits) { return 32 / chunk_bits * (chunk_bits <= 8 ? 1 : chunk_bits / 8); }

// `words` 32-bit words per output channel (kernel_h * kernel_w * input words of one group).
std::vector<uint8_t> PackBits(const uint32_t* filter, int outputs, int groups, int words, int chunk_bits,
                              ptrdiff_t* block_bytes);
std::vector<uint8_t> PackFloats(const float* filter, int outputs, int inputs, ptrdiff_t* block_bytes);
// One weight for each tap and channel, [tap][channel]: [block of 32 channels][tap][32].
std::vector<uint8_t> PackChannels(const float* filter, int taps, int channels);
// [group of kDenseGroup outputs][four inputs][output][4]; inputs that fill no four: [group][input][output].
std::vector<uint8_t> PackDense(const float* weights, int outputs, int inputs);

// Packs 8-bit weights, [output][value], for sums of `products` at a time: [block][segment][column][32
// outputs][product], of bytes where there are four products, of 16-bit numbers where there are two. An output's values
// lie in segments of `length`, each of which fills whole columns.
std::vector<uint8_t> PackBytes(const int8_t* filter, int outputs, int inputs, int length, int products,
                               ptrdiff_t* block_bytes);

}  // namespace r2b
