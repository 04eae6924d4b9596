// Kernels in plain C++, for processors on which no other kernels run, and for binary convolutions whose depth exceeds
// the other kernels' max_depth (kernels.h). Inner loops run over channels so that compilers vectorise them.
#include "kernels.h"

namespace r2b {
namespace {
#define R2B_UNROLL
#include "tile.inl"

struct V {
  static constexpr int kWidth = 8;
  struct F {
    float lane[kWidth];
  };
  static constexpr int FconvPixels(int) { return 1; }
  static constexpr int kPlainPixels = 1;
  static constexpr int PartPixels(int) { return 1; }
  static constexpr int kDenseGroups = 1;
#define R2B_LANES(expression)                              \
  F r;                                                     \
  for (int i = 0; i < kWidth; ++i) r.lane[i] = expression; \
  return r
  static R2B_INLINE F Load(const float* p) { R2B_LANES(p[i]); }
  static R2B_INLINE void Store(float* p, F v) {
    for (int i = 0; i < kWidth; ++i) p[i] = v.lane[i];
  }
  using Lanes = int;
  static R2B_INLINE Lanes First(int count) { return count; }
  static R2B_INLINE F Load(const float* p, Lanes lanes) {
    if (lanes == kWidth) return Load(p);
    F r = Zero();
    for (int i = 0; i < lanes; ++i) r.lane[i] = p[i];
    return r;
  }
  static R2B_INLINE void Store(float* p, F v, Lanes lanes) {
    if (lanes == kWidth) return Store(p, v);
    for (int i = 0; i < lanes; ++i) p[i] = v.lane[i];
  }
  static constexpr int kPicks = 0;
  static R2B_INLINE void Keep(F&) {}
  static R2B_INLINE F Set1(float v) { R2B_LANES(v); }
  static R2B_INLINE F Repeat4(const float* p) { R2B_LANES(p[i % 4]); }
  static R2B_INLINE F Zero() { return Set1(0); }
  static R2B_INLINE F Mul(F a, F b) { R2B_LANES(a.lane[i] * b.lane[i]); }
  static R2B_INLINE F Add(F a, F b) { R2B_LANES(a.lane[i] + b.lane[i]); }
  static R2B_INLINE F Div(F a, F b) { R2B_LANES(a.lane[i] / b.lane[i]); }
  static R2B_INLINE F Max(F a, F b) { R2B_LANES(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
  static R2B_INLINE F Min(F a, F b) { R2B_LANES(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
  static R2B_INLINE F Fma(F a, F b, F c) { R2B_LANES(a.lane[i] * b.lane[i] + c.lane[i]); }
  static R2B_INLINE F Prelu(F v, F a) { R2B_LANES(v.lane[i] < 0 ? v.lane[i] * a.lane[i] : v.lane[i]); }
  static R2B_INLINE F MinusAbs(F v) { R2B_LANES(-__builtin_fabsf(v.lane[i])); }
  static R2B_INLINE F IfNegative(F x, F yes, F no) { R2B_LANES(x.lane[i] < 0 ? yes.lane[i] : no.lane[i]); }
#undef R2B_LANES
  static R2B_INLINE void PowerOfTwo(const float* table, F rounded, F base, F* fraction, F* whole) {
    for (int i = 0; i < kWidth; ++i)
      PowerOfTwoLane(table, rounded.lane[i], base.lane[i], &fraction->lane[i], &whole->lane[i]);
  }
  static R2B_INLINE void StoreBytes(int8_t* p, F v, int32_t zero) {
    for (int i = 0; i < kWidth; ++i) p[i] = int8_t(int32_t(v.lane[i]) + zero);
  }
  static R2B_INLINE uint32_t NegativeMask(F v) {
    uint32_t mask = 0;
    for (int i = 0; i < kWidth; ++i) mask |= uint32_t(v.lane[i] < 0) << i;
    return mask;
  }
  static void Numbers(F* __restrict v, int pixels, int registers, const Requantisation& output, int c);
};
using T = Tile<V>;
using Q = PlainBytes<V>;

#include "resample.inl"
#include "table.inl"

void V::Numbers(F* __restrict v, int pixels, int registers, const Requantisation& output, int c) {
  Quantized<V, Q>::Numbers(v, pixels, registers, output, c);
}

R2B_INLINE uint32_t PopCount(uint32_t v) {
  v -= (v >> 1) & 0x55555555u;
  v = (v & 0x33333333u) + ((v >> 2) & 0x33333333u);
  v = (v + (v >> 4)) & 0x0f0f0f0fu;
  return (v * 0x01010101u) >> 24;
}

template <bool kWhole, int R>
void BconvBlock(const BconvRow& row, const Epilogue& epilogue, int block) {
  constexpr int kLanes = R * V::kWidth;
  for (int x = 0; x < row.width; ++x) {
    uint32_t count[kLanes] = {};
    auto w = reinterpret_cast<const uint32_t*>(static_cast<const uint8_t*>(row.weights) + block * row.block_bytes);
    for (int s = 0; s < row.input.segments; ++s) {
      auto in = reinterpret_cast<const uint32_t*>(row.input.origin + x * row.input.pixel + row.input.segment[s]);
      for (int i = 0; i < row.input.length; ++i, w += kBlock)
        for (int lane = 0; lane < kLanes; ++lane) count[lane] += PopCount(in[i] ^ w[lane]);
    }
    float twice[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) twice[lane] = float(int32_t(2 * count[lane]));
    V::F v[1][R];
    for (int r = 0; r < R; ++r) v[0][r] = V::Load(twice + r * V::kWidth);
    const int c = block * kBlock;
    T::Affine(v, row, x, c);
    T::RunEpilogue<kWhole>(v, epilogue, x, row.channel0 + c, row.channels - c);
  }
}

void Bconv(const BconvRow& row, const Epilogue& epilogue) {
  const int whole = row.channels / kBlock, left = row.channels % kBlock;
  for (int block = 0; block < whole; ++block) BconvBlock<true, T::kRegs>(row, epilogue, block);
  if (left) T::ForRegisters(left, [&](auto registers) { BconvBlock<false, registers.kCount>(row, epilogue, whole); });
}

}  // namespace

const Kernels* PortableKernels() {
  static const Kernels kernels = KernelsOf<V, Q>("portable", 32, 1 << 22, Bconv);
  return &kernels;
}
}  // namespace r2b
