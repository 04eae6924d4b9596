// A cache of weights that are packed in the order in which kernels read them (kernels/pack.h). Plans of one graph can
// share a cache, even in different threads, so that the weights are packed only once.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "fork.h"
#include "graph.h"

namespace r2b {

struct ByteColumns;

struct PackedWeights {
  std::shared_ptr<std::vector<uint8_t>> bytes;
  ptrdiff_t block_bytes = 0;  // from one block of 32 output channels to the next; 0 from Dense() and Channels()
};

class WeightCache {
 public:
  // Weights of a binary convolution.
  PackedWeights Bits(const Graph& graph, int tensor, int groups, int chunk_bits);
  // Weights of a float convolution, or of a dense layer for several input vectors.
  PackedWeights Floats(const Graph& graph, int tensor);
  // Weights of an int8 convolution or dense layer.
  PackedWeights Bytes(const Graph& graph, int tensor, const ByteColumns& columns);
  // Weights of a depthwise convolution.
  PackedWeights Channels(const Graph& graph, int tensor);
  // Weights of one phase of a transposed convolution (steps/transpose_conv.cc): every stride_h-th row of taps from
  // `row` on, and of these rows every stride_w-th tap from `column` on.
  PackedWeights Phase(const Graph& graph, int tensor, int row, int column, int stride_h, int stride_w);
  // Weights of a dense layer for a single input vector.
  PackedWeights Dense(const Graph& graph, int tensor);

  // The size of all packed weights, in bytes.
  size_t bytes();

 private:
  enum class Packing : uint8_t { kBits, kFloats, kBytes, kDense, kChannels, kPhase };
  // Tensors are identified by index, not by address, since tensors of different shapes may share memory.
  struct Key {
    int tensor;
    Packing packing;
    int groups, chunk_bits;
    int phase[4] = {0, 0, 0, 0};  // kPhase: row, column and strides; kBytes: the fields of ByteColumns
    bool operator==(const Key& k) const {
      return tensor == k.tensor && packing == k.packing && groups == k.groups && chunk_bits == k.chunk_bits &&
             std::equal(phase, phase + 4, k.phase);
    }
  };
  template <class Pack>
  PackedWeights Find(const Key& key, Pack pack);

  ForkSafeMutex mutex_;  // held while weights are packed, so that no two threads pack the same weights
  std::vector<std::pair<Key, PackedWeights>> packed_;
};

// Returns the bias of a float convolution of any kind, or of a float dense layer, padded with zeros to whole blocks.
// All values are 0 if there is no bias.
std::vector<float> PaddedBias(const Graph& graph, const Op& op);

}  // namespace r2b
