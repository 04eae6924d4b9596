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
  static constexpr int kFconvPixels = 2;  // 16 accumulators, 8 weights, a value
  static constexpr int kPlainPixels = 2;
  static constexpr int kDenseGroups = 2;
#else
  static constexpr int kFconvPixels = 1;
  static constexpr int kPlainPixels = 1;
  static constexpr int kDenseGroups = 1;
#endif
  static R2B_INLINE F Load(const float* p) { return vld1q_f32(p); }
  static R2B_INLINE void Store(float* p, F v) { vst1q_f32(p, v); }
  static constexpr int kPicks = 0;
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

#if defined(__aarch64__)
constexpr int kPixels = 4;
#else
constexpr int kPixels = 2;
#endif

template <int P>
__attribute__((noinline)) void BconvTile(const BconvRow& row, const Epilogue& epilogue, int x, int block) {
  uint16x8_t count[P][4];
  R2B_UNROLL
  for (int p = 0; p < P; ++p) {
    R2B_UNROLL
    for (int r = 0; r < 4; ++r) count[p][r] = vdupq_n_u16(0);
  }
  const uint8_t* w = static_cast<const uint8_t*>(row.weights) + block * row.block_bytes;
  const ptrdiff_t pixel = row.input.pixel;
  for (int s = 0; s < row.input.segments; ++s) {
    const uint16_t* in[P];
    R2B_UNROLL
    for (int p = 0; p < P; ++p)
      in[p] = reinterpret_cast<const uint16_t*>(row.input.origin + (x + p) * pixel + row.input.segment[s]);
    for (int i = 0; i < 2 * row.input.length; ++i, w += 2 * kBlock) {
      uint8x16_t weight[4];
      R2B_UNROLL
      for (int r = 0; r < 4; ++r) weight[r] = vld1q_u8(w + 16 * r);
      R2B_UNROLL
      for (int p = 0; p < P; ++p) {
        const uint8x16_t value = vreinterpretq_u8_u16(vld1q_dup_u16(in[p]++));
        R2B_UNROLL
        for (int r = 0; r < 4; ++r) count[p][r] = vpadalq_u8(count[p][r], vcntq_u8(veorq_u8(value, weight[r])));
      }
    }
  }
  // The epilogue works on one pixel's 32 floats: eight registers.
  R2B_UNROLL
  for (int p = 0; p < P; ++p) {
    V::F v[1][T::kRegs];
    R2B_UNROLL
    for (int r = 0; r < 4; ++r) {
      v[0][2 * r] = vcvtq_f32_u32(vshll_n_u16(vget_low_u16(count[p][r]), 1));
      v[0][2 * r + 1] = vcvtq_f32_u32(vshll_n_u16(vget_high_u16(count[p][r]), 1));
    }
    const int c = block * kBlock;
    T::Affine<1>(v, row, x + p, c);
    T::RunEpilogue<1>(v, epilogue, x + p, row.channel0 + c, row.channels - c);
  }
}

template <int P>
void BconvTiles(const BconvRow& row, const Epilogue& epilogue, int x, int block) {
  for (; x + P <= row.width; x += P) BconvTile<P>(row, epilogue, x, block);
  if constexpr (P > 1) BconvTiles<P - 1>(row, epilogue, x, block);
}

void Bconv(const BconvRow& row, const Epilogue& epilogue) {
  for (int block = 0; block * kBlock < row.channels; ++block) BconvTiles<kPixels>(row, epilogue, 0, block);
}

size_t BconvScratch(int, const RunList&) { return 0; }

}  // namespace

const Kernels* NeonKernels() {
  static const Kernels kernels = {"neon",   16,       65535,    BconvScratch, Bconv,        T::Fconv,
                                  T::Pool,  T::Plain, T::Dense, T::Logistic,  T::PackSigns, ResampleImage<V>,
                                  V::kPicks};
  return &kernels;
}
}  // namespace r2b
#else
namespace r2b {
const Kernels* NeonKernels() { return nullptr; }
}  // namespace r2b
#endif
