// Kernels for AArch64 processors with dot-product instructions (Cortex-A55, Cortex-A76 and later). These instructions
// add the products of four pairs of 8-bit numbers to each lane. Only 8-bit convolutions use them; all other kernels are
// those of neon.cc.
#include "kernels.h"

#if defined(R2B_BUILD_NEON_DOT)
#if !defined(__clang__)
#pragma GCC target("arch=armv8.2-a+dotprod")  // Clang gets the target as an option
#endif
#include <arm_neon.h>

namespace r2b {
namespace {
#include "neon.inl"

struct Q {
  using Small = void;
  static constexpr BytePacking kPacking = BytePacking::kSigned;
  using Sums = int32x4_t;
  using Value = int8x16_t;
  using Weights = int8x16_t;
  static constexpr int Pixels(int registers) { return V::FconvPixels(registers); }
  static R2B_INLINE Sums Zero() { return vdupq_n_s32(0); }
  static R2B_INLINE Value At(const uint8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }
  static R2B_INLINE Weights Load(const uint8_t* p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }
  static R2B_INLINE void Add(Sums& sums, Value value, Weights weights) { sums = vdotq_s32(sums, weights, value); }
  static R2B_INLINE V::F ToFloats(Sums sums) { return vcvtq_f32_s32(sums); }
  static R2B_INLINE Sums FromFloats(V::F v) { return vcvtq_s32_f32(v); }
  static R2B_INLINE V::F Numbers(Sums sums, const Requantisation& output, int channel) {
    return NumbersOfSums(sums, output, channel);
  }
};

__attribute__((noinline)) void V::Numbers(F* __restrict v, int pixels, int registers, const Requantisation& output,
                                          int c) {
  Quantized<V, Q>::Numbers(v, pixels, registers, output, c);
}

}  // namespace

const Kernels* NeonDotKernels() {
  static const Kernels kernels = [] {
    Kernels all = *NeonKernels();
    all.name = "neon-dot";
    all.byte_packing = Q::kPacking;
    all.qconv = Quantized<V, Q>::Qconv;
    return all;
  }();
  return &kernels;
}
}  // namespace r2b
#else
namespace r2b {
const Kernels* NeonDotKernels() { return nullptr; }
}  // namespace r2b
#endif
