// Measures how many multiply-accumulates per second this core can do at most, on registers only. There are four kinds:
//   binary: xor, popcount, add;
//   full_adder: binary, but a full adder adds two words to a running word, so that two words need only one popcount,
//     that of the carries (Knuth, TAOCP 4A, 7.1.3);
//   float: fused multiply-add;
//   int8: multiply-accumulate into 32-bit sums.
// Prints "binary full_adder float int8" in units of 1e9.
#include <chrono>
#include <cstdint>
#include <cstdio>

#if defined(__AVX512VPOPCNTDQ__)
#include <immintrin.h>
using I = __m512i;
using F = __m512;
static inline F Fma(F sum, F a, F b) { return _mm512_fmadd_ps(a, b, sum); }
// Ternary logic: 0x96 is the sum of three bits without the carry, 0xe8 the carry.
static inline I Sum(I a, I b, I c) { return _mm512_ternarylogic_epi32(a, b, c, 0x96); }
static inline I Carry(I a, I b, I c) { return _mm512_ternarylogic_epi32(a, b, c, 0xe8); }
static inline I Xor(I a, I b) { return _mm512_xor_si512(a, b); }
static inline I Popcounts(I sum, I x) { return _mm512_add_epi32(sum, _mm512_popcnt_epi32(x)); }
#if defined(__AVX512VNNI__)
static inline I Int8(I sum, I a, I b) { return _mm512_dpbusd_epi32(sum, a, b); }
constexpr double kInt8 = 64;
#else
static inline I Int8(I sum, I a, I b) { return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)); }
constexpr double kInt8 = 32;
#endif
static I Ints(int v) { return _mm512_set1_epi32(v); }
static F Floats(float v) { return _mm512_set1_ps(v); }
#define KEEP(v) __asm__ volatile("" : "+v"(v))
#elif defined(__AVX2__)
#include <immintrin.h>
using I = __m256i;
using F = __m256;
// Two shuffles look up the popcounts of both halves of every byte.
static inline I Popcounts(I sum, I x) {
  const I table =
      _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const I low = _mm256_set1_epi8(15);
  sum = _mm256_add_epi8(sum, _mm256_shuffle_epi8(table, _mm256_and_si256(x, low)));
  return _mm256_add_epi8(sum, _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), low)));
}
static inline I Xor(I a, I b) { return _mm256_xor_si256(a, b); }
static inline I Sum(I a, I b, I c) { return Xor(Xor(a, b), c); }
static inline I Carry(I a, I b, I c) { return _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, Xor(a, b))); }
// The products of int8 operands that are widened to int16 are exact; vpmaddubsw would saturate its 16-bit sums.
static inline I Int8(I sum, I a, I b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
constexpr double kInt8 = 16;
static inline F Fma(F sum, F a, F b) { return _mm256_fmadd_ps(a, b, sum); }
static I Ints(int v) { return _mm256_set1_epi32(v); }
static F Floats(float v) { return _mm256_set1_ps(v); }
#define KEEP(v) __asm__ volatile("" : "+x"(v))
#elif defined(__ARM_NEON)
#include <arm_neon.h>
using I = uint8x16_t;
using F = float32x4_t;
static inline I Popcounts(I sum, I x) { return vaddq_u8(sum, vcntq_u8(x)); }
static inline I Xor(I a, I b) { return veorq_u8(a, b); }
static inline I Sum(I a, I b, I c) { return Xor(Xor(a, b), c); }
static inline I Carry(I a, I b, I c) { return vbslq_u8(Xor(a, b), c, b); }
static inline I Int8(I sum, I a, I b) {
#if defined(__ARM_FEATURE_DOTPROD)
  return vreinterpretq_u8_u32(vdotq_u32(vreinterpretq_u32_u8(sum), a, b));
#else
  const uint16x8_t product = vmull_u8(vget_low_u8(a), vget_low_u8(b));
  return vreinterpretq_u8_u32(vpadalq_u16(vreinterpretq_u32_u8(sum), product));
#endif
}
#if defined(__ARM_FEATURE_DOTPROD)
constexpr double kInt8 = 16;
#else
constexpr double kInt8 = 8;
#endif
static inline F Fma(F sum, F a, F b) { return vmlaq_f32(sum, a, b); }
static I Ints(int v) { return vdupq_n_u8(uint8_t(v)); }
static F Floats(float v) { return vdupq_n_f32(v); }
#define KEEP(v) __asm__ volatile("" : "+w"(v))
#endif

static inline I Count(I sum, I a, I b) { return Popcounts(sum, Xor(a, b)); }

// The running sum of a full adder: `ones` are bits that are not counted yet, `counts` the popcounts of the carries.
struct Bits {
  I ones, counts;
};

static inline void Keep(Bits& v) {
  KEEP(v.ones);
  KEEP(v.counts);
}
static inline void Keep(I& v) { KEEP(v); }
static inline void Keep(F& v) { KEEP(v); }

static inline Bits FullAdder(Bits sum, I a, I b) {
  // The compiler must not see that both words, x and y, are equal.
  I c = a;
  KEEP(c);
  const I x = Xor(a, b), y = Xor(c, b);
  const I carry = Carry(sum.ones, x, y);
  return {Sum(sum.ones, x, y), Popcounts(sum.counts, carry)};
}

// Multiply-accumulates per second, the best of nine trials; a call of `step` does `products` of them. kChains sums run
// side by side: enough to hide the latency, and few enough that all sums stay in 16 registers.
template <int kChains, class S, class V, class Step>
static double PerSecond(S start, V a, V b, Step step, double products) {
  constexpr int kRounds = 200000;
  double best = 0;
  for (int trial = 0; trial < 9; ++trial) {
    S sum[kChains];
    for (S& s : sum) s = start;
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kRounds; ++i) {
#if defined(__clang__)
#pragma clang loop unroll(full)
#else
#pragma GCC unroll 12
#endif
      for (int c = 0; c < kChains; ++c) {
        KEEP(a);  // otherwise the compiler computes a ^ b only once
        sum[c] = step(sum[c], a, b);
        Keep(sum[c]);
      }
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const double rate = products * kChains * kRounds / seconds;
    if (rate > best) best = rate;
  }
  return best;
}

int main() {
  const I a = Ints(0x35), b = Ints(0x1c);
  const F small = Floats(1e-9f);
  constexpr double kBits = 8.0 * sizeof(I);
  const double binary = PerSecond<12>(Ints(0), a, b, [](I s, I x, I y) { return Count(s, x, y); }, kBits);
  const double adder = PerSecond<6>(Bits{a, b}, a, b, [](Bits s, I x, I y) { return FullAdder(s, x, y); }, 2 * kBits);
  const double real =
      PerSecond<12>(Floats(0), small, small, [](F s, F x, F y) { return Fma(s, x, y); }, sizeof(F) / 4.0);
  const double int8 = PerSecond<12>(Ints(0), a, b, [](I s, I x, I y) { return Int8(s, x, y); }, kInt8);
  std::printf("%.3f %.3f %.3f %.3f\n", binary / 1e9, adder / 1e9, real / 1e9, int8 / 1e9);
}
