// Kernels for NEON, on AArch64 (with instructions of ARMv8.0 only, which a Cortex-A53 has) and on ARMv7.
//
// Binary weights are packed in chunks of 16 input channels, [chunk][32 outputs] of 16 bits, so that each output channel
// has its own 16-bit lane. NEON counts the set bits of each byte. A pairwise add then adds the two counts of a lane to
// its 16-bit sum. So 128 products take three instructions (exclusive or, popcount, pairwise add), plus loads. Sums of
// up to 65535 products do not overflow.
//
// 4 pixels x 32 outputs take 16 accumulators, 4 weights, an input and a temporary: 22 of AArch64's 32 registers. ARMv7
// has 16 registers, enough for 2 pixels.
#include "kernels.h"

#if defined(R2B_BUILD_NEON)
#include <arm_neon.h>

namespace r2b {
namespace {
#include "neon.inl"
using T = Tile<V>;

#include "resample.inl"
#include "table.inl"

// vmull makes 16-bit products, and vpadal adds each pair of neighbouring products to a 32-bit sum. An output channel
// has four products at a time, and therefore two sums, which Whole() adds.
struct Q {
  using Small = void;
  static constexpr BytePacking kPacking = BytePacking::kSigned;
  struct Sums {
    int32x4_t low, high;  // each has the sums of two output channels
  };
  using Value = int8x8_t;
  using Weights = int8x16_t;
#if defined(__aarch64__)
  static constexpr int Pixels(int registers) { return registers < 6 ? 8 / registers : 1; }
#else
  static constexpr int Pixels(int registers) { return registers == 2 ? 2 : 1; }
#endif
  static R2B_INLINE Sums Zero() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  static R2B_INLINE Value At(const uint8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return vreinterpret_s8_s32(vdup_n_s32(four));
  }
  static R2B_INLINE Weights Load(const uint8_t* p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }
  static R2B_INLINE void Add(Sums& sums, Value value, Weights weights) {
    sums.low = vpadalq_s16(sums.low, vmull_s8(vget_low_s8(weights), value));
    sums.high = vpadalq_s16(sums.high, vmull_s8(vget_high_s8(weights), value));
  }
  static R2B_INLINE int32x4_t Whole(const Sums& sums) {
    return vcombine_s32(vpadd_s32(vget_low_s32(sums.low), vget_high_s32(sums.low)),
                        vpadd_s32(vget_low_s32(sums.high), vget_high_s32(sums.high)));
  }
  static R2B_INLINE V::F ToFloats(const Sums& sums) { return vcvtq_f32_s32(Whole(sums)); }
  static R2B_INLINE Sums FromFloats(V::F v) {
    const int32x4x2_t parts = vzipq_s32(vcvtq_s32_f32(v), vdupq_n_s32(0));
    return {parts.val[0], parts.val[1]};
  }
  static R2B_INLINE V::F Numbers(const Sums& sums, const Requantisation& output, int channel) {
    return NumbersOfSums(Whole(sums), output, channel);
  }
};

__attribute__((noinline)) void V::Numbers(F* __restrict v, int pixels, int registers, const Requantisation& output,
                                          int c) {
  Quantized<V, Q>::Numbers(v, pixels, registers, output, c);
}

#if defined(__aarch64__)
constexpr int kPixels = 4;
#else
constexpr int kPixels = 2;
#endif

// Computes P pixels x 8 * E output channels.
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
  // The epilogue runs on at most eight registers of floats at a time. One pixel's 32 channels take eight.
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
  if constexpr (P > 1) BconvTiles<kWhole, (kWhole ? P - 1 : (P + 1) / 2), E>(row, epilogue, x, block);
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
  static const Kernels kernels = KernelsOf<V, Q>("neon", 16, 65535, Bconv);
  return &kernels;
}
}  // namespace r2b
#else
namespace r2b {
const Kernels* NeonKernels() { return nullptr; }
}  // namespace r2b
#endif
