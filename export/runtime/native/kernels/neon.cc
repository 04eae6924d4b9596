// NEON for AArch64 (ARMv8.0 baseline: nothing a Cortex-A53 lacks) and, with its half as many registers, for ARMv7.
//
// The popcount instruction counts bytes, and a widening pairwise add sums neighbouring bytes into 16-bit lanes. So
// weights are packed in chunks of 16 input channels, [chunk][32 outputs] of 16 bits: exclusive or, count, add-pairwise,
// and each output channel keeps a 16-bit lane of its own. Three instructions per 128 products, plus loads; no sums
// across lanes, no overflow before 65535 products. 4 pixels x 32 outputs take 16 accumulators, 4 weights, an input and
// a temporary: 22 of AArch64's 32 registers. ARMv7 has 16, which hold 2 pixels.
#include "kernels.h"

#if defined(R2B_BUILD_NEON)
#include <arm_neon.h>

namespace r2b {
namespace {
#include "tile.inl"

struct V {
  using F = float32x4_t;
  static constexpr int kWidth = 4;
#if defined(__aarch64__)
  // 16 accumulators, 8 weights, a value: 2 pixels of whole blocks.
  static constexpr int FconvPixels(int registers) { return registers == 6 ? 3 : 16 / registers; }
  static constexpr int kPlainPixels = 2;
  static constexpr int kDenseGroups = 2;
#else
  static constexpr int FconvPixels(int registers) { return registers == 6 ? 1 : 8 / registers; }
  static constexpr int kPlainPixels = 1;
  static constexpr int kDenseGroups = 1;
#endif
  static constexpr int PartPixels(int registers) { return 8 / registers; }
  static R2B_INLINE F Load(const float* p) { return vld1q_f32(p); }
  static R2B_INLINE void Store(float* p, F v) { vst1q_f32(p, v); }
  // Lanes that there are, and where the value of each is: beyond, the last one, which may be a register before.
  struct Lanes {
    int count, second, third, fourth;
  };
  static R2B_INLINE Lanes First(int count) {
    return {count, count < 2 ? count - 1 : 1, count < 3 ? count - 1 : 2, count < 4 ? count - 1 : 3};
  }
  static R2B_INLINE F Load(const float* p, Lanes lanes) {
    F v = vld1q_dup_f32(p + (lanes.count < 1 ? lanes.count - 1 : 0));
    v = vld1q_lane_f32(p + lanes.second, v, 1);
    v = vld1q_lane_f32(p + lanes.third, v, 2);
    return vld1q_lane_f32(p + lanes.fourth, v, 3);
  }
  static R2B_INLINE void Store(float* p, F v, Lanes lanes) {
    if (lanes.count == 4) return Store(p, v);
    if (lanes.count >= 2) vst1_f32(p, vget_low_f32(v));
    if (lanes.count == 3) vst1q_lane_f32(p + 2, v, 2);
    if (lanes.count == 1) vst1q_lane_f32(p, v, 0);
  }
  static constexpr int kPicks = 0;
  static R2B_INLINE void Keep(F& v) { __asm__("" : "+w"(v)); }
  static R2B_INLINE F Set1(float v) { return vdupq_n_f32(v); }
  static R2B_INLINE F Repeat4(const float* p) { return Load(p); }
  static R2B_INLINE F Zero() { return vdupq_n_f32(0); }
  static R2B_INLINE F Mul(F a, F b) { return vmulq_f32(a, b); }
  static R2B_INLINE F Add(F a, F b) { return vaddq_f32(a, b); }
  static R2B_INLINE F Max(F a, F b) { return vmaxq_f32(a, b); }
  static R2B_INLINE F Min(F a, F b) { return vminq_f32(a, b); }
#if defined(__aarch64__)
  static R2B_INLINE F Div(F a, F b) { return vdivq_f32(a, b); }
  static R2B_INLINE F Fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
#else
  static R2B_INLINE F Div(F a, F b) {  // ARMv7 divides one number at a time
    float x[4], y[4];
    vst1q_f32(x, a);
    vst1q_f32(y, b);
    for (int i = 0; i < 4; ++i) x[i] /= y[i];
    return vld1q_f32(x);
  }
  static R2B_INLINE F Fma(F a, F b, F c) { return vmlaq_f32(c, a, b); }
#endif
  static R2B_INLINE F Prelu(F v, F slope) { return vbslq_f32(vcltq_f32(v, Zero()), vmulq_f32(v, slope), v); }
  static R2B_INLINE F IfNegative(F x, F yes, F no) { return vbslq_f32(vcltq_f32(x, Zero()), yes, no); }
  static R2B_INLINE F MinusAbs(F v) { return vnegq_f32(vabsq_f32(v)); }
  static R2B_INLINE void PowerOfTwo(const float* table, F rounded, F base, F* fraction, F* whole) {
    const int32x4_t steps = vsubq_s32(vreinterpretq_s32_f32(rounded), vreinterpretq_s32_f32(base));
    F found = vld1q_dup_f32(table + (vgetq_lane_s32(steps, 0) & 31));
    found = vld1q_lane_f32(table + (vgetq_lane_s32(steps, 1) & 31), found, 1);
    found = vld1q_lane_f32(table + (vgetq_lane_s32(steps, 2) & 31), found, 2);
    *fraction = vld1q_lane_f32(table + (vgetq_lane_s32(steps, 3) & 31), found, 3);
    const int32x4_t exponent = vmaxq_s32(vshrq_n_s32(steps, 5), vdupq_n_s32(-127));
    *whole = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(exponent, vdupq_n_s32(127)), 23));
  }
  static R2B_INLINE uint32_t NegativeMask(F v) {
    const uint32_t weights[4] = {1, 2, 4, 8};
    const uint32x4_t bits = vandq_u32(vcltq_f32(v, Zero()), vld1q_u32(weights));
#if defined(__aarch64__)
    return vaddvq_u32(bits);
#else
    const uint32x2_t half = vadd_u32(vget_low_u32(bits), vget_high_u32(bits));
    return vget_lane_u32(vpadd_u32(half, half), 0);
#endif
  }
};
using T = Tile<V>;

#include "resample.inl"
#include "table.inl"

#if defined(__aarch64__)
constexpr int kPixels = 4;
#else
constexpr int kPixels = 2;
#endif

// E eights of output channels.
template <bool kWhole, int P, int E>
__attribute__((noinline)) void BconvTile(const BconvRow& row, const Epilogue& epilogue, int x, int block) {
  uint16x8_t count[P][E];
  R2B_UNROLL
  for (int p = 0; p < P; ++p) {
    R2B_UNROLL
    for (int r = 0; r < E; ++r) count[p][r] = vdupq_n_u16(0);
  }
  const uint8_t* w = static_cast<const uint8_t*>(row.weights) + block * row.block_bytes;
  const ptrdiff_t pixel = row.input.pixel;
  for (int s = 0; s < row.input.segments; ++s) {
    const uint16_t* in[P];
    R2B_UNROLL
    for (int p = 0; p < P; ++p)
      in[p] = reinterpret_cast<const uint16_t*>(row.input.origin + (x + p) * pixel + row.input.segment[s]);
    for (int i = 0; i < 2 * row.input.length; ++i, w += 2 * kBlock) {
      uint8x16_t weight[E];
      R2B_UNROLL
      for (int r = 0; r < E; ++r) weight[r] = vld1q_u8(w + 16 * r);
      R2B_UNROLL
      for (int p = 0; p < P; ++p) {
        const uint8x16_t value = vreinterpretq_u8_u16(vld1q_dup_u16(in[p]++));
        R2B_UNROLL
        for (int r = 0; r < E; ++r) count[p][r] = vpadalq_u8(count[p][r], vcntq_u8(veorq_u8(value, weight[r])));
      }
    }
  }
  // The epilogue works on at most eight registers of floats: one pixel's 32 channels.
  constexpr int kTogether = 4 / E < P ? 4 / E : P;
  static_assert(P % kTogether == 0, "the epilogue takes equal parts of a tile");
  R2B_UNROLL
  for (int p = 0; p < P; p += kTogether) {
    V::F v[kTogether][2 * E];
    R2B_UNROLL
    for (int q = 0; q < kTogether; ++q) {
      R2B_UNROLL
      for (int r = 0; r < E; ++r) {
        v[q][2 * r] = vcvtq_f32_u32(vshll_n_u16(vget_low_u16(count[p + q][r]), 1));
        v[q][2 * r + 1] = vcvtq_f32_u32(vshll_n_u16(vget_high_u16(count[p + q][r]), 1));
      }
    }
    const int c = block * kBlock;
    T::Affine(v, row, x + p, c);
    T::RunEpilogue<kWhole>(v, epilogue, x + p, row.channel0 + c, row.channels - c);
  }
}

template <bool kWhole, int P, int E>
void BconvTiles(const BconvRow& row, const Epilogue& epilogue, int x, int block) {
  for (; x + P <= row.width; x += P) BconvTile<kWhole, P, E>(row, epilogue, x, block);
  if constexpr (P > 1) BconvTiles<kWhole, (kWhole ? P - 1 : P / 2), E>(row, epilogue, x, block);
}

void Bconv(const BconvRow& row, const Epilogue& epilogue) {
  const int whole = row.channels / kBlock, left = row.channels % kBlock;
  for (int block = 0; block < whole; ++block) BconvTiles<true, kPixels, 4>(row, epilogue, 0, block);
  if (left)
    T::ForRegisters(left, [&](auto registers) {
      constexpr int E = registers.kCount / 2;
      BconvTiles<false, (E < 3 ? 2 * kPixels : kPixels), E>(row, epilogue, 0, whole);
    });
}

}  // namespace

const Kernels* NeonKernels() {
  static const Kernels kernels = KernelsOf<V>("neon", 16, 65535, Bconv);
  return &kernels;
}
}  // namespace r2b
#else
namespace r2b {
const Kernels* NeonKernels() { return nullptr; }
}  // namespace r2b
#endif
