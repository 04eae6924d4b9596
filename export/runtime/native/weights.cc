#include "weights.h"

#include <cstring>

#include "kernels/kernels.h"
#include "kernels/pack.h"

namespace r2b {
namespace {

// Counts the weights of an output.
int PerOutput(const Tensor& filter) {
  int product = 1;
  for (size_t d = 1; d < filter.dims.size(); ++d) product *= filter.dims[d];
  return product;
}

}  // namespace

template <class Pack>
PackedWeights WeightCache::Find(const Key& key, Pack pack) {
  const std::lock_guard<ForkSafeMutex> lock(mutex_);
  for (const auto& [known, weights] : packed_)
    if (known == key) return weights;
  PackedWeights weights;
  weights.bytes = std::make_shared<std::vector<uint8_t>>(pack(&weights.block_bytes));
  packed_.emplace_back(key, weights);
  return weights;
}

PackedWeights WeightCache::Bits(const Graph& graph, int tensor, int groups, int chunk_bits) {
  const Tensor& filter = graph.tensors[tensor];
  return Find({tensor, Packing::kBits, groups, chunk_bits}, [&](ptrdiff_t* block_bytes) {
    return PackBits(static_cast<const uint32_t*>(filter.constant), filter.dims[0], groups, PerOutput(filter),
                    chunk_bits, block_bytes);
  });
}

PackedWeights WeightCache::Floats(const Graph& graph, int tensor) {
  const Tensor& filter = graph.tensors[tensor];
  return Find({tensor, Packing::kFloats, 1, 0}, [&](ptrdiff_t* block_bytes) {
    return PackFloats(static_cast<const float*>(filter.constant), filter.dims[0], PerOutput(filter), block_bytes);
  });
}

PackedWeights WeightCache::Dense(const Graph& graph, int tensor) {
  const Tensor& filter = graph.tensors[tensor];
  return Find({tensor, Packing::kDense, 1, 0}, [&](ptrdiff_t*) {
    return PackDense(static_cast<const float*>(filter.constant), filter.dims[0], PerOutput(filter));
  });
}

std::vector<float> PaddedBias(const Graph& graph, const Op& op) {
  const size_t outputs = size_t(graph.tensors[op.in[1]].dims[0]);
  std::vector<float> bias((outputs + kBlock - 1) / kBlock * kBlock, 0);
  if (op.in.size() > 2 && op.in[2] >= 0)
    std::memcpy(bias.data(), graph.tensors[op.in[2]].constant, outputs * sizeof(float));
  return bias;
}

}  // namespace r2b
