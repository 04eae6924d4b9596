// The vector type V (see tile.inl) for NEON, which neon.cc and neon_dot.cc share.
#include "tile.inl"

struct V {
  using F = float32x4_t;
  static constexpr int kWidth = 4;
#if defined(__aarch64__)
  // A tile of 2 pixels of a whole block takes 25 of the 32 registers: 16 accumulators, 8 weights and an input value.
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
  // `count` is the number of lanes in use; `second`, `third` and `fourth` are the indices of the values that lanes 1 to
  // 3 load. Lanes that are not in use load the last valid value, p[count - 1]. If no lane is in use, `count` is 0 or
  // negative; p[count - 1] then lies before p, where an earlier register loads it, so it may be read.
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
  static R2B_INLINE void StoreBytes(int8_t* p, F v, int32_t zero) {
    const F number = vbslq_f32(vceqq_f32(v, v), v, Set1(float(127 - zero)));
    const int16x4_t pairs = vmovn_s32(vaddq_s32(vcvtq_s32_f32(number), vdupq_n_s32(zero)));
    const int32_t bytes = vget_lane_s32(vreinterpret_s32_s8(vmovn_s16(vcombine_s16(pairs, pairs))), 0);
    __builtin_memcpy(p, &bytes, sizeof bytes);
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
  static void Numbers(F* __restrict v, int pixels, int registers, const Requantisation& output, int c);
};

// Requantises the sums in a register to int8 numbers, as floats.
R2B_INLINE V::F NumbersOfSums(int32x4_t sums, const Requantisation& output, int channel) {
  const int32x4_t x = vshlq_s32(vaddq_s32(sums, vld1q_s32(output.bias + channel)), vld1q_s32(output.left + channel));
  const int32x4_t high = vqrdmulhq_s32(x, vld1q_s32(output.multiplier + channel));
  // The right shift rounds halves up. Subtracting 1 from negative numbers first makes it round their halves down, away
  // from zero.
  const int32x4_t right = vnegq_s32(vld1q_s32(output.right + channel));
  const int32x4_t away = vqaddq_s32(high, vshrq_n_s32(vandq_s32(high, right), 31));
  const int32x4_t number = vaddq_s32(vrshlq_s32(away, right), vdupq_n_s32(output.zero_point));
  return vcvtq_f32_s32(vmaxq_s32(vminq_s32(number, vdupq_n_s32(output.hi)), vdupq_n_s32(output.lo)));
}
