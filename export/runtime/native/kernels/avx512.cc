// Kernels for x86-64 with AVX-512 F/BW/VL/DQ, VPOPCNTDQ and VNNI. Xor, popcount and add on 512 bits take one
// instruction each, and the load of an input value also broadcasts it. Each output channel has a 32-bit lane from the
// first xor to the stored float, so nothing is summed across lanes.
#include "kernels.h"

#if defined(R2B_BUILD_AVX512)
#include <immintrin.h>

namespace r2b {
namespace {
#include "tile.inl"

struct V {
  using F = __m512;
  static constexpr int kWidth = 16;
  // 28 accumulators (14 pixels of a whole block), 2 weights and an input value take 31 of the 32 registers. A partial
  // block with one register per pixel has 14 accumulators, which are still enough to hide the latency of multiply-adds.
  static constexpr int FconvPixels(int) { return 14; }
  static constexpr int kPlainPixels = 14;
  static constexpr int PartPixels(int) { return 7; }
  static constexpr int kDenseGroups = 4;
  static R2B_INLINE F Load(const float* p) { return _mm512_loadu_ps(p); }
  static R2B_INLINE F Load(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static R2B_INLINE void Store(float* p, F v) { _mm512_storeu_ps(p, v); }
  using Lanes = __mmask16;
  static R2B_INLINE Lanes First(int count) { return Lanes((1u << count) - 1); }
  static R2B_INLINE F Load(const float* p, Lanes lanes) { return _mm512_maskz_loadu_ps(lanes, p); }
  static R2B_INLINE void Store(float* p, F v, Lanes lanes) { _mm512_mask_storeu_ps(p, lanes, v); }
  static constexpr int kPicks = kWidth;
  static R2B_INLINE F Pick(const float* p, const int* lanes) {
    return _mm512_permutex2var_ps(Load(p), _mm512_loadu_si512(lanes), Load(p + kWidth));
  }
  static R2B_INLINE void Keep(F& v) { __asm__("" : "+v"(v)); }
  static R2B_INLINE F Set1(float v) { return _mm512_set1_ps(v); }
  static R2B_INLINE F Repeat4(const float* p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
  static R2B_INLINE F Zero() { return _mm512_setzero_ps(); }
  static R2B_INLINE F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static R2B_INLINE F Add(F a, F b) { return _mm512_add_ps(a, b); }
  static R2B_INLINE F Div(F a, F b) { return _mm512_div_ps(a, b); }
  static R2B_INLINE F Max(F a, F b) { return _mm512_max_ps(a, b); }
  static R2B_INLINE F Min(F a, F b) { return _mm512_min_ps(a, b); }
  static R2B_INLINE F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static R2B_INLINE F Prelu(F v, F slope) {
    return _mm512_mask_mul_ps(v, _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LT_OQ), v, slope);
  }
  static R2B_INLINE F IfNegative(F x, F yes, F no) {
    return _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(x)), no, yes);
  }
  static R2B_INLINE F MinusAbs(F v) { return _mm512_or_ps(v, _mm512_set1_ps(-0.0f)); }
  static R2B_INLINE void PowerOfTwo(const float* table, F rounded, F base, F* fraction, F* whole) {
    const __m512i zero = _mm512_sub_epi32(_mm512_castps_si512(base), _mm512_set1_epi32(32 * 127));
    const __m512i steps = _mm512_sub_epi32(_mm512_castps_si512(rounded), zero);
    *fraction = _mm512_permutex2var_ps(_mm512_loadu_ps(table), steps, _mm512_loadu_ps(table + 16));
    const __m512i exponent = _mm512_max_epi32(_mm512_srai_epi32(steps, 5), _mm512_setzero_si512());
    *whole = _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
  }
  static R2B_INLINE void StoreBytes(int8_t* p, F v, int32_t zero) {
    const __m512i numbers = _mm512_add_epi32(_mm512_cvttps_epi32(v), _mm512_set1_epi32(zero));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(numbers));
  }
  static R2B_INLINE uint32_t NegativeMask(F v) { return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LT_OQ); }
  static R2B_INLINE uint32_t NegativeMasks(F low, F high) {
    const __m512 zero = _mm512_setzero_ps();
    return _mm512_kunpackw(_mm512_cmp_ps_mask(high, zero, _CMP_LT_OQ), _mm512_cmp_ps_mask(low, zero, _CMP_LT_OQ));
  }
  static void Numbers(F* __restrict v, int pixels, int registers, const Requantisation& output, int c);
};
using T = Tile<V>;

#include "resample.inl"
#include "table.inl"

// Adds four products of unsigned activations and signed weights to each sum at a time, without saturation.
struct Q {
  static constexpr BytePacking kPacking = BytePacking::kUnsigned;
  using Sums = __m512i;
  using Value = __m512i;
  using Weights = __m512i;
  static constexpr int Pixels(int registers) { return V::FconvPixels(registers); }
  static R2B_INLINE Sums Zero() { return _mm512_setzero_si512(); }
  static R2B_INLINE Value At(const uint8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static R2B_INLINE Weights Load(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static R2B_INLINE void Add(Sums& sums, Value value, Weights weights) {
    sums = _mm512_dpbusd_epi32(sums, value, weights);
  }
  static R2B_INLINE V::F ToFloats(Sums sums) { return _mm512_cvtepi32_ps(sums); }
  static R2B_INLINE Sums FromFloats(V::F v) { return _mm512_cvttps_epi32(v); }
  // Even and odd lanes are multiplied separately. Bits 31 to 62 of each 64-bit product are kept.
  static R2B_INLINE V::F Numbers(Sums sums, const Requantisation& output, int channel) {
    const auto at = [&](const int32_t* values) R2B_LAMBDA { return _mm512_loadu_si512(values + channel); };
    const __m512i multiplier = at(output.multiplier), right = at(output.right), half = _mm512_set1_epi64(1 << 30);
    const __m512i x = _mm512_sllv_epi32(_mm512_add_epi32(sums, at(output.bias)), at(output.left));
    const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(x, multiplier), half),
                  odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(multiplier, 32)),
                                         half);
    const __m512i joined = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 31), _mm512_slli_epi64(odd, 1));
    const __m512i one = _mm512_set1_epi32(1), mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, right), one);
    const __m512i most = _mm512_sub_epi32(_mm512_srli_epi32(mask, 1), _mm512_srai_epi32(joined, 31));
    const __mmask16 up = _mm512_cmpgt_epi32_mask(_mm512_and_si512(joined, mask), most);
    const __m512i down = _mm512_add_epi32(_mm512_srav_epi32(joined, right), _mm512_set1_epi32(output.zero_point));
    const __m512i number = _mm512_mask_add_epi32(down, up, down, one);
    return _mm512_cvtepi32_ps(
        _mm512_max_epi32(_mm512_min_epi32(number, _mm512_set1_epi32(output.hi)), _mm512_set1_epi32(output.lo)));
  }

  // `even` and `odd` hold what is added to the products of even and odd lanes: the bias times the multiplier, the
  // halves for both roundings, and the zero point. After the first shift, 0 is represented by `origin`. The second
  // rounding takes halves away from 0, so 1 is subtracted from values below `origin` before the second shift.
  struct Small {
    __m512i multiplier, odd_multiplier, even, odd, origin, right, lo, hi;

    R2B_INLINE Small(const Requantisation& output, int channel) {
      const auto at = [&](const int32_t* values) R2B_LAMBDA { return _mm512_loadu_si512(values + channel); };
      const __m512i bias = at(output.bias), one = _mm512_set1_epi32(1);
      multiplier = at(output.multiplier);
      odd_multiplier = _mm512_srli_epi64(multiplier, 32);
      right = at(output.right);
      lo = _mm512_set1_epi32(output.lo);
      hi = _mm512_set1_epi32(output.hi);
      origin = _mm512_add_epi32(_mm512_srli_epi32(_mm512_sllv_epi32(one, right), 1),
                                _mm512_sllv_epi32(_mm512_set1_epi32(output.zero_point), right));
      const auto start = [&](__m512i b, __m512i m, __m512i o) R2B_LAMBDA {
        const __m512i half = _mm512_set1_epi64(1 << 30);
        const __m512i moved = _mm512_slli_epi64(_mm512_mul_epi32(o, half), 1);  // o * 2^31
        return _mm512_add_epi64(_mm512_add_epi64(_mm512_mul_epi32(b, m), half), moved);
      };
      even = start(bias, multiplier, origin);
      odd = start(_mm512_srli_epi64(bias, 32), odd_multiplier, _mm512_srli_epi64(origin, 32));
    }
    R2B_INLINE V::F Numbers(Sums sums) const {
      const __m512i low = _mm512_add_epi64(_mm512_mul_epi32(sums, multiplier), even),
                    high = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(sums, 32), odd_multiplier), odd);
      const __m512i joined = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(low, 31), _mm512_slli_epi64(high, 1));
      const __m512i down =
          _mm512_mask_sub_epi32(joined, _mm512_cmplt_epi32_mask(joined, origin), joined, _mm512_set1_epi32(1));
      return _mm512_cvtepi32_ps(_mm512_max_epi32(_mm512_min_epi32(_mm512_srav_epi32(down, right), hi), lo));
    }
  };
};

__attribute__((noinline)) void V::Numbers(F* __restrict v, int pixels, int registers, const Requantisation& output,
                                          int c) {
  Quantized<V, Q>::Numbers(v, pixels, registers, output, c);
}

// Makes the compiler complete the value of this register here. Otherwise it may keep an older value in another
// register, or compute the products of several pixels before their sums. There are no registers for that: 28 of the 32
// hold sums.
#define R2B_IN_PLACE(register) __asm__ volatile("" : "+v"(register))

constexpr int kBconvPixels = 7;

// A full adder adds two words of products, x and y (input xor weight), to `left`, the bits left over from earlier
// words. The new left-over bits are left ^ x ^ y. The carry is the majority of left, x and y. Each of its bits counts
// as 2. Only the carry's bits are counted for each pair of words, so two words need one popcount.
constexpr int kXor3 = 0x96;         // x ^ y ^ z
constexpr int kMajorityNot = 0xd4;  // of x, y and ~z
constexpr int kIfElse = 0x3a;       // x ? ~y : z

enum class Adder {
  // Three instructions of ternary logic, which include the xor with the weights. Let t = left ^ x. Then the left-over
  // bits are t ^ y, and the carry is y where t is set, else left. With the popcount and its addition, two words take
  // five instructions; without an adder they would take six.
  kTernary,
  // Two instructions of ternary logic and two xors. This is faster on processors that can start four logic instructions
  // per cycle, but only two ternary ones, such as Zen 5.
  kXor,
};

// The addresses of the words of P neighbouring pixels. Three pixels share a base address, since x86 instructions can
// address base, base + pixel and base + 2 * pixel.
template <int P>
struct Words {
  const uint8_t* base[(P + 2) / 3];
  ptrdiff_t pixel;

  R2B_INLINE Words(const uint8_t* first, ptrdiff_t pixel) : pixel(pixel) {
    R2B_UNROLL
    for (int b = 0; b < (P + 2) / 3; ++b) base[b] = first + 3 * b * pixel;
  }
  R2B_INLINE const int* At(int p) const { return reinterpret_cast<const int*>(base[p / 3] + (p % 3) * pixel); }
  R2B_INLINE void Advance(int words) {
    R2B_UNROLL
    for (int b = 0; b < (P + 2) / 3; ++b) base[b] += 4 * words;
  }
};

// The popcounts of P pixels and R registers of channels so far: 2 * carries + popcount(left).
template <int P, int R>
struct BitSums {
  __m512i carries[P][R], left[P][R];

  R2B_INLINE void Clear() {
    R2B_UNROLL
    for (int p = 0; p < P; ++p) {
      R2B_UNROLL
      for (int r = 0; r < R; ++r) carries[p][r] = left[p][r] = _mm512_setzero_si512();
    }
  }

  // Adds two words of each pixel.
  template <Adder kAdder>
  R2B_INLINE void AddPair(const Words<P>& words, const uint8_t* w) {
    R2B_UNROLL
    for (int p = 0; p < P; ++p) {
      const int* at = words.At(p);
      const __m512i a = _mm512_set1_epi32(at[0]), b = _mm512_set1_epi32(at[1]);
      R2B_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m512i first = _mm512_loadu_si512(w + 64 * r), second = _mm512_loadu_si512(w + 4 * kBlock + 64 * r);
        __m512i carry;
        if constexpr (kAdder == Adder::kTernary) {
          const __m512i t = _mm512_ternarylogic_epi32(left[p][r], a, first, kXor3);
          const __m512i next = _mm512_ternarylogic_epi32(t, b, second, kXor3);
          carry = _mm512_ternarylogic_epi32(t, next, left[p][r], kIfElse);
          left[p][r] = next;
          R2B_IN_PLACE(left[p][r]);
        } else {
          __m512i x = _mm512_xor_si512(a, first);
          const __m512i y = _mm512_xor_si512(b, second);
          // This and the addition below are in assembly, since the compiler would compute into other registers and move
          // the results back. The first instruction overwrites `left`, so the second computes the majority from the new
          // left-over bits.
          __asm__("vpternlogd %3, %1, %2, %0" : "+v"(left[p][r]) : "v"(x), "v"(y), "i"(kXor3));
          __asm__("vpternlogd %3, %1, %2, %0" : "+v"(x) : "v"(left[p][r]), "v"(y), "i"(kMajorityNot));
          carry = x;
        }
        const __m512i count = _mm512_popcnt_epi32(carry);
        __asm__("vpaddd %1, %0, %0" : "+v"(carries[p][r]) : "v"(count));
      }
    }
  }

  // Adds a single word of each pixel, in the same full adder with y = 0.
  R2B_INLINE void AddOne(const Words<P>& words, const uint8_t* w) {
    R2B_UNROLL
    for (int p = 0; p < P; ++p) {
      const __m512i a = _mm512_set1_epi32(*words.At(p));
      R2B_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m512i next = _mm512_ternarylogic_epi32(left[p][r], a, _mm512_loadu_si512(w + 64 * r), kXor3);
        carries[p][r] = _mm512_add_epi32(carries[p][r], _mm512_popcnt_epi32(_mm512_andnot_si512(next, left[p][r])));
        left[p][r] = next;
      }
    }
  }

  R2B_INLINE void ToFloats(__m512 (&v)[P][R]) const {
    R2B_UNROLL
    for (int p = 0; p < P; ++p) {
      R2B_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m512i count =
            _mm512_add_epi32(_mm512_add_epi32(carries[p][r], carries[p][r]), _mm512_popcnt_epi32(left[p][r]));
        v[p][r] = _mm512_cvtepi32_ps(count);
      }
    }
  }
};

template <int P, int R>
R2B_INLINE void Double(__m512 (&v)[P][R]) {
  R2B_UNROLL
  for (int p = 0; p < P; ++p) {
    R2B_UNROLL
    for (int r = 0; r < R; ++r) v[p][r] = _mm512_add_ps(v[p][r], v[p][r]);
  }
}

// Computes tiles of P pixels from `x` on, and returns the first pixel that is left over. kOdd says whether runs have an
// odd number of words. It is a template parameter, since with a branch at run time the compiler would move all sums to
// other registers where the two paths join.
template <Adder kAdder, bool kWhole, bool kOdd, int P, int R>
__attribute__((noinline)) int BconvTiles(const BconvRow& row, const Epilogue& epilogue, int x, int block) {
  const uint8_t* weights = static_cast<const uint8_t*>(row.weights) + block * row.block_bytes;
  const ptrdiff_t pixel = row.input.pixel;
  const int c = block * kBlock;
  for (; x + P <= row.width; x += P) {
    BitSums<P, R> sums;
    sums.Clear();
    const uint8_t* w = weights;
    const uint8_t* origin = row.input.origin + x * pixel;
    for (int s = 0; s < row.input.segments; ++s) {
      Words<P> words(origin + row.input.segment[s], pixel);
      for (int pairs = row.input.length / 2; pairs; --pairs, w += 8 * kBlock) {
        sums.template AddPair<kAdder>(words, w);
        words.Advance(2);
      }
      if constexpr (kOdd) {
        sums.AddOne(words, w);
        w += 4 * kBlock;
      }
    }
    __m512 v[P][R];
    sums.ToFloats(v);
    if (row.unscaled) {
      T::Unscaled(v, row, x, c);
    } else {
      Double(v);
      T::Affine(v, row, x, c);
    }
    T::RunEpilogue<kWhole>(v, epilogue, x, row.channel0 + c, row.channels - c);
  }
  return x;
}

// Computes all pixels from `x` on: tiles of P pixels, then of half as many, and so on.
template <Adder kAdder, bool kWhole, bool kOdd, int P, int R>
void BconvPixels(const BconvRow& row, const Epilogue& epilogue, int x, int block) {
  x = BconvTiles<kAdder, kWhole, kOdd, P, R>(row, epilogue, x, block);
  if constexpr (P > 1) BconvPixels<kAdder, kWhole, kOdd, (P + 1) / 2, R>(row, epilogue, x, block);
}

template <Adder kAdder, bool kOdd>
void BconvBlocks(const BconvRow& row, const Epilogue& epilogue) {
  const int whole = row.channels / kBlock, left = row.channels % kBlock;
  for (int block = 0; block < whole; ++block)
    BconvPixels<kAdder, true, kOdd, kBconvPixels, T::kRegs>(row, epilogue, 0, block);
  if (left)
    T::ForRegisters(left, [&](auto registers) {
      constexpr int R = registers.kCount;
      BconvPixels<kAdder, false, kOdd, (R == 1 ? 2 * kBconvPixels : kBconvPixels), R>(row, epilogue, 0, whole);
    });
}

template <Adder kAdder>
void Bconv(const BconvRow& row, const Epilogue& epilogue) {
  if (row.input.length % 2) BconvBlocks<kAdder, true>(row, epilogue);
  else BconvBlocks<kAdder, false>(row, epilogue);
}

}  // namespace

const Kernels* Avx512Kernels() {
  static const Kernels kernels = KernelsOf<V, Q>("avx512", 32, 1 << 22, Bconv<Adder::kTernary>);
  return &kernels;
}
const Kernels* Avx512XorKernels() {
  static const Kernels kernels = KernelsOf<V, Q>("avx512", 32, 1 << 22, Bconv<Adder::kXor>);
  return &kernels;
}
}  // namespace r2b
#else
namespace r2b {
const Kernels* Avx512Kernels() { return nullptr; }
const Kernels* Avx512XorKernels() { return nullptr; }
}  // namespace r2b
#endif
