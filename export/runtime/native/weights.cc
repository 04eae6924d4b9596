#include "weights.h"

#include <cstring>
#include <mutex>

#include "kernels/kernels.h"
#include "kernels/pack.h"

namespace r2b {
namespace {

// How many weights (or 32-bit words of binary weights) each output channel has.
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

size_t WeightCache::bytes() {
  const std::lock_guard<ForkSafeMutex> lock(mutex_);
  size_t bytes = 0;
  for (const auto& item : packed_) bytes += item.second.bytes->size();
  return bytes;
}

PackedWeights WeightCache::Bits(const Graph& graph, int tensor, int groups, int chunk_bits) {
  const Tensor& filter = graph.tensors[tensor];
  return Find({tensor, Packing::kBits, groups, chunk_bits, {}}, [&](ptrdiff_t* block_bytes) {
    return PackBits(static_cast<const uint32_t*>(filter.constant), filter.dims[0], groups, PerOutput(filter),
                    chunk_bits, block_bytes);
  });
}

PackedWeights WeightCache::Floats(const Graph& graph, int tensor) {
  const Tensor& filter = graph.tensors[tensor];
  return Find({tensor, Packing::kFloats, 1, 0, {}}, [&](ptrdiff_t* block_bytes) {
    return PackFloats(static_cast<const float*>(filter.constant), filter.dims[0], PerOutput(filter), block_bytes);
  });
}

PackedWeights WeightCache::Bytes(const Graph& graph, int tensor, const ByteColumns& columns) {
  const Tensor& filter = graph.tensors[tensor];
  const Key key{tensor, Packing::kBytes, 1, 0, {columns.length, columns.products, columns.joined}};
  return Find(key, [&](ptrdiff_t* block_bytes) {
    return PackBytes(static_cast<const int8_t*>(filter.constant), filter.dims[0], PerOutput(filter), columns,
                     block_bytes);
  });
}

PackedWeights WeightCache::Dense(const Graph& graph, int tensor) {
  const Tensor& filter = graph.tensors[tensor];
  return Find({tensor, Packing::kDense, 1, 0, {}}, [&](ptrdiff_t*) {
    return PackDense(static_cast<const float*>(filter.constant), filter.dims[0], PerOutput(filter));
  });
}

PackedWeights WeightCache::Channels(const Graph& graph, int tensor) {
  const Tensor& filter = graph.tensors[tensor];
  return Find({tensor, Packing::kChannels, 1, 0, {}}, [&](ptrdiff_t*) {
    return PackChannels(static_cast<const float*>(filter.constant), filter.dims[1] * filter.dims[2], filter.dims[3]);
  });
}

PackedWeights WeightCache::Phase(const Graph& graph, int tensor, int row, int column, int stride_h, int stride_w) {
  const Tensor& filter = graph.tensors[tensor];
  const int outputs = filter.dims[0], h = filter.dims[1], w = filter.dims[2], inputs = filter.dims[3];
  return Find({tensor, Packing::kPhase, 1, 0, {row, column, stride_h, stride_w}}, [&](ptrdiff_t* block_bytes) {
    std::vector<float> taps;
    for (int o = 0; o < outputs; ++o)
      for (int y = row; y < h; y += stride_h)
        for (int x = column; x < w; x += stride_w) {
          const float* tap =
              static_cast<const float*>(filter.constant) + ((ptrdiff_t(o) * h + y) * w + x) * ptrdiff_t(inputs);
          taps.insert(taps.end(), tap, tap + inputs);
        }
    return PackFloats(taps.data(), outputs, int(taps.size() / size_t(outputs)), block_bytes);
  });
}

std::vector<float> PaddedBias(const Graph& graph, const Op& op) {
  const size_t outputs = size_t(AsImage(graph.tensors[op.out].dims).c);
  std::vector<float> bias((outputs + kBlock - 1) / kBlock * kBlock, 0);
  if (op.in.size() > 2 && op.in[2] >= 0)
    std::memcpy(bias.data(), graph.tensors[op.in[2]].constant, outputs * sizeof(float));
  return bias;
}

}  // namespace r2b
