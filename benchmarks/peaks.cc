// What this core can do at most, in one number each: binary multiply-accumulates (xor, popcount, add) and float ones
// (fused multiply-add) per second, on registers only. Prints "binary float" in units of 1e9.
#include <chrono>
#include <cstdint>
#include <cstdio>

#if defined(__AVX512VPOPCNTDQ__)
#include <immintrin.h>
using I = __m512i;
using F = __m512;
static inline I Count(I sum, I a, I b) { return _mm512_add_epi32(sum, _mm512_popcnt_epi32(_mm512_xor_si512(a, b))); }
static inline F Fma(F sum, F a, F b) { return _mm512_fmadd_ps(a, b, sum); }
static I Ints(int v) { return _mm512_set1_epi32(v); }
static F Floats(float v) { return _mm512_set1_ps(v); }
#define KEEP(v) __asm__ volatile("" : "+v"(v))
#elif defined(__AVX2__)
#include <immintrin.h>
using I = __m256i;
using F = __m256;
// Two shuffles look up the popcounts of both halves of every byte.
static inline I Count(I sum, I a, I b) {
  const I table =
      _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const I low = _mm256_set1_epi8(15), x = _mm256_xor_si256(a, b);
  sum = _mm256_add_epi8(sum, _mm256_shuffle_epi8(table, _mm256_and_si256(x, low)));
  return _mm256_add_epi8(sum, _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), low)));
}
static inline F Fma(F sum, F a, F b) { return _mm256_fmadd_ps(a, b, sum); }
static I Ints(int v) { return _mm256_set1_epi32(v); }
static F Floats(float v) { return _mm256_set1_ps(v); }
#define KEEP(v) __asm__ volatile("" : "+x"(v))
#elif defined(__ARM_NEON)
#include <arm_neon.h>
using I = uint8x16_t;
using F = float32x4_t;
static inline I Count(I sum, I a, I b) { return vaddq_u8(sum, vcntq_u8(veorq_u8(a, b))); }
static inline F Fma(F sum, F a, F b) { return vmlaq_f32(sum, a, b); }
static I Ints(int v) { return vdupq_n_u8(uint8_t(v)); }
static F Floats(float v) { return vdupq_n_f32(v); }
#define KEEP(v) __asm__ volatile("" : "+w"(v))
#endif

template <class V, class Step>
static double PerSecond(V start, V a, V b, Step step, double products) {
  constexpr int kChains = 12, kRounds = 200000;  // enough chains to hide any latency, few enough for 16 registers
  double best = 0;
  for (int trial = 0; trial < 9; ++trial) {
    V sum[kChains];
    for (V& s : sum) s = start;
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kRounds; ++i) {
#if defined(__clang__)
#pragma clang loop unroll(full)
#else
#pragma GCC unroll 12
#endif
      for (int c = 0; c < kChains; ++c) {
        KEEP(a);  // else the compiler computes a ^ b once for all
        sum[c] = step(sum[c], a, b);
        KEEP(sum[c]);
      }
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const double rate = products * kChains * kRounds / seconds;
    if (rate > best) best = rate;
  }
  return best;
}

int main() {
  const double binary =
      PerSecond(Ints(0), Ints(0x35), Ints(0x1c), [](I s, I a, I b) { return Count(s, a, b); }, 8.0 * sizeof(I));
  const double real =
      PerSecond(Floats(0), Floats(1e-9f), Floats(1e-9f), [](F s, F a, F b) { return Fma(s, a, b); }, sizeof(F) / 4.0);
  std::printf("%.3f %.3f\n", binary / 1e9, real / 1e9);
}
