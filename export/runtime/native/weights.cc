// What a plan makes of constants once, when it is prepared: packed weights, biases, and what zero padding changes.
#include <algorithm>
#include <cstring>

#include "kernels/pack.h"
#include "plan.h"

namespace r2b {

void Plan::PrepareBias(Step* step, const Op& op) {
  const size_t outputs = size_t(graph_.tensors[op.in[1]].dims[0]);
  step->bias.assign((outputs + kBlock - 1) / kBlock * kBlock, 0);
  if (op.in.size() > 2 && op.in[2] >= 0)
    std::memcpy(step->bias.data(), graph_.tensors[op.in[2]].constant, outputs * sizeof(float));
}

// How many vectors a dense layer multiplies.
int Plan::Batch(const Op& dense) const {
  return int(AsImage(graph_.tensors[dense.in[0]].dims).count() / graph_.tensors[dense.in[1]].dims[1]);
}

void Plan::PackWeights(Step* step, const Op& op) {
  const int tensor = op.in[1];
  const Tensor& filter = graph_.tensors[tensor];
  const int outputs = filter.dims[0];
  int per_output = 1, chunk_bits = 0;
  for (size_t d = 1; d < filter.dims.size(); ++d) per_output *= filter.dims[d];
  if (op.kind == OpKind::kBconv) {
    const int words = (op.channels_in + 31) / 32;
    step->groups = words / filter.dims[3];
    if (per_output * 32 > kernels_->max_depth) step->kernels = PortableKernels();
    chunk_bits = step->kernels->chunk_bits;
  }
  const Packing packing = chunk_bits                                    ? Packing::kBits
                          : op.kind == OpKind::kDense && Batch(op) == 1 ? Packing::kDense
                                                                        : Packing::kFloats;
  auto found = std::find_if(packed_.begin(), packed_.end(), [&](const PackedWeights& p) {
    return p.tensor == tensor && p.packing == packing && p.chunk_bits == chunk_bits && p.groups == step->groups;
  });
  if (found == packed_.end()) {
    PackedWeights p{tensor, packing, chunk_bits, step->groups, nullptr, 0};
    const float* floats = static_cast<const float*>(filter.constant);
    p.bytes = std::make_shared<std::vector<uint8_t>>(
        packing == Packing::kDense  ? PackDense(floats, outputs, per_output)
        : packing == Packing::kBits ? PackBits(static_cast<const uint32_t*>(filter.constant), outputs, step->groups,
                                               per_output, chunk_bits, &p.block_bytes)
                                    : PackFloats(floats, outputs, per_output, &p.block_bytes));
    found = packed_.insert(packed_.end(), p);
  }
  step->packed = found->bytes;
  step->block_bytes = found->block_bytes;
}

// Output scale, and what zero padding changes. With x = 2 * popcount over all taps, padded ones included as +1 (bit 0),
// the dot product over the valid taps is depth - x - sum over padded taps of their weights' sum. That sum is added to
// x, which stays a whole number, before anything is clamped or rounded, as LCE's reference kernel does: its optimised
// one adds -multiplier * sum to the result, which then is not 0 where the dot product is. Float outputs are float(x) *
// -multiplier + (bias + depth * multiplier), in LCE's order and so with its bits.
void Plan::PrepareCorrections(Step* step, const Op& op) {
  const Tensor &filter = graph_.tensors[op.in[1]], &output = graph_.tensors[op.out];
  const int outputs = filter.dims[0], taps = filter.dims[1] * filter.dims[2], words = filter.dims[3];
  const int in_group = outputs / step->groups, padded = (in_group + kBlock - 1) / kBlock * kBlock;
  const int channels = op.channels_in / step->groups;  // of one group
  const double depth = double(taps) * channels;
  const bool bits = output.type == DType::kInt32;
  // BconvScale put scales that are no plain vectors into the stages.
  const bool scaled = !bits && graph_.tensors[op.in[2]].dims.size() == 1 && graph_.tensors[op.in[3]].dims.size() == 1 &&
                      graph_.tensors[op.in[2]].constant && graph_.tensors[op.in[3]].constant;
  step->multiplier.assign(size_t(step->groups) * padded, 0);
  step->bias.assign(size_t(step->groups) * padded, 0);
  auto slot = [&](int o) { return size_t(o / in_group) * padded + o % in_group; };
  const double scale = output.type == DType::kInt8 ? output.scale : 1.0,
               zero = output.type == DType::kInt8 ? output.zero_point : 0.0;
  for (int o = 0; o < outputs; ++o) {
    float &m = step->multiplier[slot(o)], &b = step->bias[slot(o)];
    if (bits) {  // the bit is x > 2 * threshold, that is, 2 * threshold - x < 0
      m = -1;
      b = float(2.0 * static_cast<const int32_t*>(graph_.tensors[op.in[4]].constant)[o]);
    } else if (scaled) {
      const double multiplier = static_cast<const float*>(graph_.tensors[op.in[2]].constant)[o];
      const double bias = static_cast<const float*>(graph_.tensors[op.in[3]].constant)[o];
      m = float(-multiplier / scale);
      b = float((bias + depth * multiplier) / scale + zero);
    } else {
      m = -1;
      b = float(depth);
    }
  }
  step->clamp = op.clamp && !bits;
  step->lo = float(depth - std::min<double>(op.hi, depth));
  step->hi = float(depth - std::max<double>(op.lo, -depth));
  step->unscaled = !step->clamp;
  for (int o = 0; o < outputs; ++o) step->unscaled &= step->multiplier[slot(o)] == -1;
  if (!op.same_padding || op.pad_one) return;

  // Pixels of a row, and rows, fall into classes by which of their taps lie outside.
  struct Range {
    int begin, end;
    bool operator==(const Range& r) const { return begin == r.begin && end == r.end; }
  };
  auto classes = [](int size, int in, int kernel, int stride, int dilation, int before, std::vector<int>* of) {
    std::vector<Range> ranges{{0, kernel}};  // class 0: all inside
    for (int i = 0; i < size; ++i) {
      const int at = i * stride - before;
      Range r{kernel, 0};
      for (int k = 0; k < kernel; ++k)
        if (at + k * dilation >= 0 && at + k * dilation < in) r = {std::min(r.begin, k), std::max(r.end, k + 1)};
      auto found = std::find(ranges.begin(), ranges.end(), r);
      of->push_back(int(found - ranges.begin()));
      if (found == ranges.end()) ranges.push_back(r);
    }
    return ranges;
  };
  const Shape in = AsImage(graph_.tensors[op.in[0]].dims);
  std::vector<int> columns;
  const auto ys = classes(step->out.h, in.h, op.kernel_h, op.stride_h, op.dilation_h, step->extent_h.before,
                          &step->correction_rows);
  const auto xs = classes(step->out.w, in.w, op.kernel_w, op.stride_w, op.dilation_w, step->extent_w.before, &columns);
  if (ys.size() == 1 && xs.size() == 1) return;
  std::vector<int> tap_sum(size_t(taps) * outputs);
  for (int o = 0; o < outputs; ++o)
    for (int t = 0; t < taps; ++t) {
      int negative = 0;
      for (int i = 0; i < words; ++i)
        negative +=
            __builtin_popcount(static_cast<const uint32_t*>(filter.constant)[(size_t(o) * taps + t) * words + i]);
      tap_sum[size_t(t) * outputs + o] = channels - 2 * negative;
    }
  const size_t vector = size_t(step->groups) * padded;
  step->corrections.assign(ys.size() * xs.size() * vector, 0);
  for (size_t cy = 0; cy < ys.size(); ++cy)
    for (size_t cx = 0; cx < xs.size(); ++cx)
      for (int o = 0; o < outputs; ++o) {
        int sum = 0;
        for (int y = 0; y < op.kernel_h; ++y)
          for (int x = 0; x < op.kernel_w; ++x)
            if (y < ys[cy].begin || y >= ys[cy].end || x < xs[cx].begin || x >= xs[cx].end)
              sum += tap_sum[size_t(y * op.kernel_w + x) * outputs + o];
        step->corrections[(cy * xs.size() + cx) * vector + slot(o)] = float(sum);
      }
  for (size_t cy = 0; cy < ys.size(); ++cy)
    for (int x = 0; x < step->out.w; ++x)
      step->correction_tables.push_back(cy || columns[x] ? &step->corrections[(cy * xs.size() + columns[x]) * vector]
                                                         : nullptr);
}

}  // namespace r2b
