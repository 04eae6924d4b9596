// Weights are packed once, in the order in which kernels read them (kernels/pack.h), however often a plan is prepared
// and however many plans of the graph there are, in whatever threads.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "fork.h"
#include "graph.h"

namespace r2b {

struct PackedWeights {
  std::shared_ptr<std::vector<uint8_t>> bytes;
  ptrdiff_t block_bytes = 0;
};

class WeightCache {
 public:
  PackedWeights Bits(const Graph& graph, int tensor, int groups, int chunk_bits);
  PackedWeights Floats(const Graph& graph, int tensor);
  // Of 8-bit numbers, in segments of `length`.
  PackedWeights Bytes(const Graph& graph, int tensor, int length, int products);
  // Of a depthwise convolution.
  PackedWeights Channels(const Graph& graph, int tensor);
  // Of a transposed convolution: the taps from (row, column) on that lie these strides apart.
  PackedWeights Phase(const Graph& graph, int tensor, int row, int column, int stride_h, int stride_w);
  // For a dense layer of one vector.
  PackedWeights Dense(const Graph& graph, int tensor);

  // All that has been packed.
  size_t bytes();

 private:
  enum class Packing : uint8_t { kBits, kFloats, kBytes, kDense, kChannels, kPhase };
  // A tensor is known by its index, not by its memory, which tensors of other shapes may share.
  struct Key {
    int tensor;
    Packing packing;
    int groups, chunk_bits;
    int phase[4] = {0, 0, 0, 0};  // row, column and strides; of bytes, the segments' length and products
    bool operator==(const Key& k) const {
      return tensor == k.tensor && packing == k.packing && groups == k.groups && chunk_bits == k.chunk_bits &&
             std::equal(phase, phase + 4, k.phase);
    }
  };
  template <class Pack>
  PackedWeights Find(const Key& key, Pack pack);

  ForkSafeMutex mutex_;  // held while weights are packed, so that nobody packs them twice
  std::vector<std::pair<Key, PackedWeights>> packed_;
};

// Returns the bias of a float convolution of any kind, or of a dense layer, padded to whole blocks; zeros where it has
// none.
std::vector<float> PaddedBias(const Graph& graph, const Op& op);

}  // namespace r2b
