#include <algorithm>

#include "graph.h"

namespace r2b {
namespace {

// The slice that STRIDED_SLICE takes of an axis of `size` values. Negative positions count from the end of the axis,
// and positions outside it are clamped. If `begins` is false, `begin` is ignored: the slice begins at the first value,
// or at the last one if the stride is negative. If `ends` is false, `end` is ignored: the slice runs to the other end
// of the axis.
Slice TakeOf(int64_t size, int64_t begin, int64_t end, int stride, bool begins, bool ends) {
  const int64_t lowest = stride > 0 ? 0 : -1, highest = stride > 0 ? size : size - 1;
  const auto within = [&](int64_t at) { return std::min(std::max(at < 0 ? at + size : at, lowest), highest); };
  const int64_t first = begins ? within(begin) : stride > 0 ? 0 : size - 1;
  const int64_t past = ends ? within(end) : stride > 0 ? size : -1;
  const int64_t span = stride > 0 ? past - first : first - past, step = std::abs(int64_t(stride));
  const int extent = span > 0 ? int((span + step - 1) / step) : 0;
  return {int(first), extent > 1 ? stride : 1, extent, false};
}

std::vector<Slice> PartOf(const Op& op, const std::vector<int>& dims) {
  if (op.axis >= int(dims.size()) || dims[op.axis] % op.parts != 0) return {};
  std::vector<Slice> slices;
  for (int size : dims) slices.push_back({0, 1, size, false});
  Slice& cut = slices[op.axis];
  cut.extent /= op.parts;
  cut.begin = op.part * cut.extent;
  return slices;
}

}  // namespace

std::vector<Slice> SlicesOf(const Op& op, const std::vector<int>& dims) {
  if (op.kind == OpKind::kSplit) return PartOf(op, dims);
  if (op.numbers.size() != 3 * dims.size()) return {};
  std::vector<Slice> slices;
  for (size_t i = 0; i < dims.size(); ++i) {
    const int begin = op.numbers[3 * i], end = op.numbers[3 * i + 1], stride = op.numbers[3 * i + 2];
    if (op.shrink_mask >> i & 1) {
      const int64_t at = begin < 0 ? int64_t(begin) + dims[i] : begin;
      if (at < 0 || at >= dims[i]) return {};
      slices.push_back({int(at), 1, 1, true});
    } else {
      slices.push_back(TakeOf(dims[i], begin, end, stride, !(op.begin_mask >> i & 1), !(op.end_mask >> i & 1)));
    }
  }
  return slices;
}

}  // namespace r2b
