// Rearranges weights, once, into the order in which kernels read them.
//
// Filters come as [output channel][kernel row][kernel column][input channel]. Kernels read the weights of 32 output
// channels side by side: [block of 32 outputs][input chunk][32]. A chunk is the input channels that a kernel multiplies
// at a time: 32, 16, 8 or 4 bits, or one float. Each group of a grouped convolution starts a new block. The last block
// of a group is filled up with weights of zero. `*block_bytes` receives the number of bytes from one block to the next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace r2b {

struct ByteColumns;

// How many bytes a 32-bit word takes once it is packed in chunks of `chunk_bits` bits. A chunk takes at least a byte.
constexpr int PackedWordBytes(int chunk_bits) { return 32 / chunk_bits * (chunk_bits <= 8 ? 1 : chunk_bits / 8); }

// `words`: 32-bit words per output channel (kernel_h * kernel_w * input words of one group).
std::vector<uint8_t> PackBits(const uint32_t* filter, int outputs, int groups, int words, int chunk_bits,
                              ptrdiff_t* block_bytes);
// `inputs`: weights per output channel (kernel_h * kernel_w * input channels).
std::vector<uint8_t> PackFloats(const float* filter, int outputs, int inputs, ptrdiff_t* block_bytes);
// Packs depthwise weights, [tap][channel], as [block of 32 channels][tap][32].
std::vector<uint8_t> PackChannels(const float* filter, int taps, int channels);
// Packs dense weights, [output][input], in groups of kDenseGroup outputs. A group has [four inputs][output][4], and
// then [input][output] for the up to three remaining inputs.
std::vector<uint8_t> PackDense(const float* weights, int outputs, int inputs);

// Packs 8-bit weights, [output][value], as [block][column][32 outputs][product]. The packed weights are bytes if
// columns.products is 4, and 16-bit numbers if it is 2.
std::vector<uint8_t> PackBytes(const int8_t* filter, int outputs, int inputs, const ByteColumns& columns,
                               ptrdiff_t* block_bytes);

}  // namespace r2b
