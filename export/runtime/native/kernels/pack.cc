#include "pack.h"

#include <cstring>

#include "kernels.h"

namespace r2b {

std::vector<uint8_t> PackBits(const uint32_t* filter, int outputs, int groups, int words, int chunk_bits,
                              ptrdiff_t* block_bytes) {
  const int per_word = 32 / chunk_bits, bytes = chunk_bits <= 8 ? 1 : chunk_bits / 8;
  const int in_group = outputs / groups, blocks = (in_group + kBlock - 1) / kBlock;
  const uint32_t mask = chunk_bits == 32 ? ~uint32_t(0) : (uint32_t(1) << chunk_bits) - 1;
  *block_bytes = ptrdiff_t(words) * per_word * kBlock * bytes;
  std::vector<uint8_t> packed(size_t(groups) * blocks * size_t(*block_bytes), 0);
  for (int o = 0; o < outputs; ++o) {
    const int group = o / in_group, block = group * blocks + o % in_group / kBlock, lane = o % in_group % kBlock;
    uint8_t* out = packed.data() + block * *block_bytes + lane * bytes;
    for (int i = 0; i < words; ++i) {
      uint32_t word;
      std::memcpy(&word, filter + size_t(o) * words + i, sizeof word);
      for (int part = 0; part < per_word; ++part, out += kBlock * bytes) {
        const uint32_t chunk = (word >> (part * chunk_bits)) & mask;
        std::memcpy(out, &chunk, bytes);  // the low bytes come first (little-endian)
      }
    }
  }
  return packed;
}

std::vector<uint8_t> PackFloats(const float* filter, int outputs, int inputs, ptrdiff_t* block_bytes) {
  const int blocks = (outputs + kBlock - 1) / kBlock;
  *block_bytes = ptrdiff_t(inputs) * kBlock * sizeof(float);
  std::vector<uint8_t> packed(size_t(blocks) * size_t(*block_bytes), 0);
  for (int o = 0; o < outputs; ++o) {
    uint8_t* out = packed.data() + o / kBlock * *block_bytes + o % kBlock * sizeof(float);
    for (int i = 0; i < inputs; ++i, out += kBlock * sizeof(float))
      std::memcpy(out, filter + size_t(o) * inputs + i, sizeof(float));
  }
  return packed;
}

std::vector<uint8_t> PackBytes(const int8_t* filter, int outputs, int inputs, const ByteColumns& columns,
                               ptrdiff_t* block_bytes) {
  constexpr ptrdiff_t kColumn = kBlock * 4;  // bytes of one column of a block
  const int products = columns.products, segments = inputs / columns.length, of_segment = columns.of_segment();
  const int blocks = (outputs + kBlock - 1) / kBlock;
  *block_bytes = (ptrdiff_t(segments) * of_segment + columns.of_rests(segments)) * kColumn;
  std::vector<uint8_t> packed(size_t(blocks) * size_t(*block_bytes), 0);
  for (int o = 0; o < outputs; ++o)
    for (int i = 0; i < inputs; ++i) {
      const int segment = i / columns.length, at = i % columns.length;
      int column = segment * of_segment + at / products, place = at % products;
      if (at / products >= of_segment) {
        const int joined = segment * columns.rest() + place;
        column = segments * of_segment + joined / columns.joined;
        place = joined % columns.joined;
      }
      uint8_t* out = packed.data() + o / kBlock * *block_bytes + column * kColumn + o % kBlock * 4;
      const int8_t weight = filter[size_t(o) * inputs + i];
      const int16_t wide = weight;
      if (products == 2) std::memcpy(out + place * ptrdiff_t(sizeof wide), &wide, sizeof wide);
      else out[place] = uint8_t(weight);
    }
  return packed;
}

std::vector<uint8_t> PackChannels(const float* filter, int taps, int channels) {
  const int blocks = (channels + kBlock - 1) / kBlock;
  std::vector<uint8_t> packed(size_t(blocks) * taps * kBlock * sizeof(float), 0);
  for (int t = 0; t < taps; ++t)
    for (int c = 0; c < channels; ++c)
      std::memcpy(packed.data() + ((size_t(c / kBlock) * taps + t) * kBlock + size_t(c % kBlock)) * sizeof(float),
                  filter + size_t(t) * channels + c, sizeof(float));
  return packed;
}

std::vector<uint8_t> PackDense(const float* weights, int outputs, int inputs) {
  const int groups = (outputs + kDenseGroup - 1) / kDenseGroup, fours = inputs / 4;
  std::vector<uint8_t> packed(size_t(groups) * kDenseGroup * inputs * sizeof(float), 0);
  float* out = reinterpret_cast<float*>(packed.data());
  for (int o = 0; o < outputs; ++o) {
    float* group = out + size_t(o / kDenseGroup) * kDenseGroup * inputs;
    const int lane = o % kDenseGroup;
    for (int i = 0; i < inputs; ++i) {
      const size_t at =
          i / 4 < fours ? (size_t(i / 4) * kDenseGroup + lane) * 4 + i % 4 : size_t(i) * kDenseGroup + lane;
      std::memcpy(group + at, weights + size_t(o) * inputs + i, sizeof(float));
    }
  }
  return packed;
}

}  // namespace r2b
