// exp() and the logistic function of a vector, for tile.inl and vectors.inl. Each lane's result depends on that lane
// alone, so a value gives the same bits in every lane.

// 2^(k / 32) for k = 0 to 31.
constexpr float kPowersOfTwo[32] = {
    0x1p0f,        0x1.059b0ep0f, 0x1.0b5586p0f, 0x1.11301ep0f, 0x1.172b84p0f, 0x1.1d4874p0f, 0x1.2387a6p0f,
    0x1.29e9ep0f,  0x1.306fep0f,  0x1.371a74p0f, 0x1.3dea64p0f, 0x1.44e086p0f, 0x1.4bfdaep0f, 0x1.5342b6p0f,
    0x1.5ab07ep0f, 0x1.6247ecp0f, 0x1.6a09e6p0f, 0x1.71f75ep0f, 0x1.7a1148p0f, 0x1.82589ap0f, 0x1.8ace54p0f,
    0x1.93737cp0f, 0x1.9c4918p0f, 0x1.a5503cp0f, 0x1.ae89fap0f, 0x1.b7f77p0f,  0x1.c199bep0f, 0x1.cb720ep0f,
    0x1.d5818ep0f, 0x1.dfc974p0f, 0x1.ea4afap0f, 0x1.f50766p0f};

template <class V>
struct Exponential {
  using F = typename V::F;

  // exp(z) for z <= 0. Let m = round(32 * z / ln 2), and let t = z - m * ln 2 / 32 be the remainder. Then
  // exp(z) = 2^(m >> 5) * 2^((m & 31) / 32) * exp(t). A quadratic polynomial approximates exp(t), since t is small.
  // Adding and subtracting 1.5 * 2^18, whose last bit is worth 1/32, rounds z / ln 2 to m / 32, which is `n` below.
  // Results below 2^-126 become 0. (The method and the constants are XNNPACK's for AVX-512.)
  static R2B_INLINE F OfNegative(F z) {
    const F round = V::Set1(393216.0f);
    z = V::Max(V::Set1(-100), z);  // NaN stays NaN
    const F rounded = V::Fma(z, V::Set1(0x1.715476p0f), round);
    F fraction, whole;
    V::PowerOfTwo(kPowersOfTwo, rounded, round, &fraction, &whole);
    const F n = V::Add(rounded, V::Set1(-393216.0f));
    F t = V::Fma(n, V::Set1(-0x1.62e43p-1f), z);
    t = V::Fma(n, V::Set1(0x1.05c61p-29f), t);
    const F p = V::Fma(t, V::Set1(0.5f), V::Set1(0x1.0000f6p0f));
    return V::Mul(V::Fma(V::Mul(t, fraction), p, fraction), whole);
  }

  // 1 / (1 + exp(-x)), computed from e = exp(-|x|) as e / (1 + e) for x < 0, and as 1 - e / (1 + e) for x >= 0.
  static R2B_INLINE F Logistic(F x) {
    const F e = OfNegative(V::MinusAbs(x));
    const F s = V::Div(e, V::Add(e, V::Set1(1)));
    return V::IfNegative(x, s, V::Add(V::Set1(1), V::Mul(s, V::Set1(-1))));
  }
};

// V::PowerOfTwo() for one lane: makes 2^(rounded - base) = fraction * whole. `fraction` becomes one of the 32 values of
// `table`. `whole` becomes a power of two, or 0 if that would be below 2^-126. The last bit of `rounded` and of `base`
// is worth 1/32, so the difference of their bit patterns is `rounded` - `base` in 32nds.
R2B_INLINE void PowerOfTwoLane(const float* table, float rounded, float base, float* fraction, float* whole) {
  int32_t bits, zero;
  __builtin_memcpy(&bits, &rounded, 4);
  __builtin_memcpy(&zero, &base, 4);
  const int32_t steps = int32_t(uint32_t(bits) - uint32_t(zero));
  *fraction = table[steps & 31];
  const uint32_t exponent = (steps >> 5) > -127 ? uint32_t(127 + (steps >> 5)) << 23 : 0;
  __builtin_memcpy(whole, &exponent, 4);
}
