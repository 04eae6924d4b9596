// Kernels for x86-64 with AVX2 and FMA. There is no vector popcount: counting the bits of input ^ weights would take
// about nine instructions for 256 products. Looking the counts up takes four. The signs of four input channels have 16
// states, and each state has a 16-byte table of popcount(input ^ weights) for the 16 states of four weights. For 128
// products, one shuffle looks up the counts of 32 output channels in that table, and one add accumulates them in bytes.
// All 16 tables take 256 bytes.
//
// Binary weights are packed as [chunk of 4 inputs][32 output channels], where each byte holds the four bits of a chunk.
// Input rows are expanded, once per row of outputs, to one byte per chunk: 16 times the state, which is the offset of
// its table. A chunk adds up to 4 to a byte, so byte sums could overflow after 63 chunks. They are added to 16-bit sums
// in memory after at most kFlush chunks.
#include "kernels.h"

#if defined(R2B_BUILD_AVX2)
#include <immintrin.h>

namespace r2b {
namespace {
#include "tile.inl"

struct V {
  using F = __m256;
  static constexpr int kWidth = 8;
  // 12 of the 16 registers are accumulators (3 pixels of a whole block). The others hold weights and an input value.
  static constexpr int FconvPixels(int registers) { return 12 / registers; }
  static constexpr int kPlainPixels = 2;
  static constexpr int PartPixels(int registers) { return registers < 3 ? 5 - registers : 2; }
  static constexpr int kDenseGroups = 2;
  static R2B_INLINE F Load(const float* p) { return _mm256_loadu_ps(p); }
  static R2B_INLINE F Load(const uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static R2B_INLINE void Store(float* p, F v) { _mm256_storeu_ps(p, v); }
  struct Lanes {
    __m256i mask;
    int count;
  };
  static R2B_INLINE Lanes First(int count) {
    return {_mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), count};
  }
  static R2B_INLINE F Load(const float* p, Lanes lanes) { return _mm256_maskload_ps(p, lanes.mask); }
  // A partial vector is stored in pieces, since a masked store takes a dozen cycles on AMD's cores.
  static R2B_INLINE void Store(float* p, F v, Lanes lanes) {
    if (lanes.count == 8) return Store(p, v);
    __m128 rest = _mm256_castps256_ps128(v);
    if (lanes.count & 4) {
      _mm_storeu_ps(p, rest);
      rest = _mm256_extractf128_ps(v, 1);
      p += 4;
    }
    if (lanes.count & 2) {
      _mm_storel_pi(reinterpret_cast<__m64*>(p), rest);
      rest = _mm_movehl_ps(rest, rest);
      p += 2;
    }
    if (lanes.count & 1) _mm_store_ss(p, rest);
  }
  static constexpr int kPicks = 0;
  static R2B_INLINE void Keep(F& v) { __asm__("" : "+x"(v)); }
  static R2B_INLINE F Set1(float v) { return _mm256_set1_ps(v); }
  static R2B_INLINE F Repeat4(const float* p) { return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p)); }
  static R2B_INLINE F Zero() { return _mm256_setzero_ps(); }
  static R2B_INLINE F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static R2B_INLINE F Add(F a, F b) { return _mm256_add_ps(a, b); }
  static R2B_INLINE F Div(F a, F b) { return _mm256_div_ps(a, b); }
  static R2B_INLINE F Max(F a, F b) { return _mm256_max_ps(a, b); }
  static R2B_INLINE F Min(F a, F b) { return _mm256_min_ps(a, b); }
  static R2B_INLINE F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static R2B_INLINE F Prelu(F v, F slope) {
    return _mm256_blendv_ps(v, _mm256_mul_ps(v, slope), _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ));
  }
  static R2B_INLINE F IfNegative(F x, F yes, F no) { return _mm256_blendv_ps(no, yes, x); }
  static R2B_INLINE F MinusAbs(F v) { return _mm256_or_ps(v, _mm256_set1_ps(-0.0f)); }
  static R2B_INLINE void PowerOfTwo(const float* table, F rounded, F base, F* fraction, F* whole) {
    const __m256i zero = _mm256_sub_epi32(_mm256_castps_si256(base), _mm256_set1_epi32(32 * 127));
    const __m256i steps = _mm256_sub_epi32(_mm256_castps_si256(rounded), zero);
    // Selects one of 32 values by the last five bits of `steps`. A permutation selects one of eight by bits 0 to 2. A
    // blend selects one of two by the sign bit, so bits 3 and 4 are shifted to the sign bit.
    const auto eight = [&](int k) R2B_LAMBDA { return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + k), steps); };
    const F bit3 = _mm256_castsi256_ps(_mm256_slli_epi32(steps, 28)),
            bit4 = _mm256_castsi256_ps(_mm256_slli_epi32(steps, 27));
    *fraction = _mm256_blendv_ps(_mm256_blendv_ps(eight(0), eight(8), bit3),
                                 _mm256_blendv_ps(eight(16), eight(24), bit3), bit4);
    const __m256i exponent = _mm256_max_epi32(_mm256_srai_epi32(steps, 5), _mm256_setzero_si256());
    *whole = _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  }
  static R2B_INLINE void StoreBytes(int8_t* p, F v, int32_t zero) {
    const __m256i numbers = _mm256_add_epi32(_mm256_cvttps_epi32(v), _mm256_set1_epi32(zero));
    const __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128(numbers), _mm256_extracti128_si256(numbers, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(pairs, pairs));
  }
  static R2B_INLINE uint32_t NegativeMask(F v) {
    return uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ)));
  }
  static void Numbers(F* __restrict v, int pixels, int registers, const Requantisation& output, int c);
};
using T = Tile<V>;

#include "resample.inl"
#include "table.inl"

// Uses pairs of 16-bit numbers, since the instruction for bytes saturates the sums of its products.
struct Q {
  using Small = void;
  static constexpr BytePacking kPacking = BytePacking::kPairs;
  using Sums = __m256i;
  using Value = __m256i;
  using Weights = __m256i;
  static constexpr int Pixels(int registers) { return V::FconvPixels(registers); }
  static R2B_INLINE Sums Zero() { return _mm256_setzero_si256(); }
  static R2B_INLINE Value At(const uint8_t* p) {
    int32_t two;
    __builtin_memcpy(&two, p, sizeof two);
    return _mm256_set1_epi32(two);
  }
  static R2B_INLINE Weights Load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static R2B_INLINE void Add(Sums& sums, Value value, Weights weights) {
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(value, weights));
  }
  static R2B_INLINE V::F ToFloats(Sums sums) { return _mm256_cvtepi32_ps(sums); }
  static R2B_INLINE Sums FromFloats(V::F v) { return _mm256_cvttps_epi32(v); }
  // Even and odd lanes are multiplied separately. Bits 31 to 62 of each 64-bit product are kept.
  static R2B_INLINE V::F Numbers(Sums sums, const Requantisation& output, int channel) {
    const auto at = [&](const int32_t* values)
                        R2B_LAMBDA { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + channel)); };
    const __m256i multiplier = at(output.multiplier), right = at(output.right), half = _mm256_set1_epi64x(1 << 30);
    const __m256i x = _mm256_sllv_epi32(_mm256_add_epi32(sums, at(output.bias)), at(output.left));
    const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(x, multiplier), half),
                  odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(multiplier, 32)),
                                         half);
    const __m256i joined = _mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xaa);
    const __m256i one = _mm256_set1_epi32(1), mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, right), one);
    const __m256i most = _mm256_sub_epi32(_mm256_srli_epi32(mask, 1), _mm256_srai_epi32(joined, 31));
    const __m256i up = _mm256_cmpgt_epi32(_mm256_and_si256(joined, mask), most);  // -1 in lanes that round up
    const __m256i down = _mm256_add_epi32(_mm256_srav_epi32(joined, right), _mm256_set1_epi32(output.zero_point));
    const __m256i number = _mm256_sub_epi32(down, up);
    return _mm256_cvtepi32_ps(
        _mm256_max_epi32(_mm256_min_epi32(number, _mm256_set1_epi32(output.hi)), _mm256_set1_epi32(output.lo)));
  }
};

__attribute__((noinline)) void V::Numbers(F* __restrict v, int pixels, int registers, const Requantisation& output,
                                          int c) {
  Quantized<V, Q>::Numbers(v, pixels, registers, output, c);
}

struct Tables {
  alignas(256) uint8_t count[16][16];
  Tables() {
    for (int x = 0; x < 16; ++x)
      for (int w = 0; w < 16; ++w) count[x][w] = uint8_t(__builtin_popcount(unsigned(x ^ w)));
  }
};
const Tables kTables;

constexpr int kFlush = 48;  // at most 63; 48 chunks are 3 taps x 64 channels
constexpr int kChunksPerWord = 8;
constexpr int kBconvPixels = 4;

// The length in bytes of the input that all pixels of a row read for one segment.
ptrdiff_t Span(int width, const RunList& input) { return (width - 1) * input.pixel + 4 * ptrdiff_t(input.length); }

size_t BconvScratch(int width, const RunList& input) {
  return size_t(input.segments) * (2 * size_t(Span(width, input)) + 64);
}

void Expand(const uint8_t* in, ptrdiff_t bytes, uint8_t* out) {
  const __m128i high = _mm_set1_epi8(char(0xf0));
  ptrdiff_t i = 0;
  for (; i + 16 <= bytes; i += 16) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
    const __m128i lo = _mm_and_si128(_mm_slli_epi16(v, 4), high), hi = _mm_and_si128(v, high);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * i), _mm_unpacklo_epi8(lo, hi));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * i + 16), _mm_unpackhi_epi8(lo, hi));
  }
  for (; i < bytes; ++i) {
    out[2 * i] = uint8_t(in[i] << 4);
    out[2 * i + 1] = in[i] & 0xf0;
  }
}

// Adds the byte sums of 32 channels to their 16-bit sums.
R2B_INLINE void AddBytes(__m256i sum, uint16_t (&count)[kBlock]) {
  for (int half = 0; half < 2; ++half) {
    __m256i* total = reinterpret_cast<__m256i*>(&count[16 * half]);
    const __m128i bytes = half ? _mm256_extracti128_si256(sum, 1) : _mm256_castsi256_si128(sum);
    _mm256_store_si256(total, _mm256_add_epi16(_mm256_load_si256(total), _mm256_cvtepu8_epi16(bytes)));
  }
}

R2B_INLINE void Clear(uint16_t (&count)[kBlock]) {
  for (int i = 0; i < kBlock; i += 16)
    _mm256_store_si256(reinterpret_cast<__m256i*>(&count[i]), _mm256_setzero_si256());
}

// Computes the popcounts of P pixels x B blocks of 32 channels into count[b][p].
template <int P, int B>
R2B_INLINE void Count(const BconvRow& row, const uint8_t* expanded, int x, int block, uint16_t (&count)[B][P][kBlock]) {
  R2B_UNROLL
  for (int b = 0; b < B; ++b) {
    R2B_UNROLL
    for (int p = 0; p < P; ++p) Clear(count[b][p]);
  }
  const uint8_t* w = static_cast<const uint8_t*>(row.weights) + block * row.block_bytes;
  const ptrdiff_t pixel = 2 * row.input.pixel, segment = 2 * Span(row.width, row.input) + 64;
  const int chunks = row.input.length * kChunksPerWord;
  for (int s = 0; s < row.input.segments; ++s) {
    const uint8_t* in = expanded + s * segment + x * pixel;
    for (int done = 0; done < chunks; done += kFlush) {
      const int n = chunks - done < kFlush ? chunks - done : kFlush;
      __m256i sum[B][P];
      R2B_UNROLL
      for (int b = 0; b < B; ++b) {
        R2B_UNROLL
        for (int p = 0; p < P; ++p) sum[b][p] = _mm256_setzero_si256();
      }
      for (int i = 0; i < n; ++i, w += kBlock) {
        __m256i weight[B];
        R2B_UNROLL
        for (int b = 0; b < B; ++b)
          weight[b] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + b * row.block_bytes));
        R2B_UNROLL
        for (int p = 0; p < P; ++p) {
          const __m256i table = _mm256_broadcastsi128_si256(
              _mm_load_si128(reinterpret_cast<const __m128i*>(&kTables.count[0][0] + in[i + p * pixel])));
          R2B_UNROLL
          for (int b = 0; b < B; ++b) sum[b][p] = _mm256_add_epi8(sum[b][p], _mm256_shuffle_epi8(table, weight[b]));
        }
      }
      in += n;
      R2B_UNROLL
      for (int b = 0; b < B; ++b) {
        R2B_UNROLL
        for (int p = 0; p < P; ++p) AddBytes(sum[b][p], count[b][p]);
      }
    }
  }
}

template <int P, int R>
R2B_INLINE void ToFloats(const uint16_t (*count)[kBlock], const BconvRow& row, int x, int block, V::F (&v)[P][R]) {
  R2B_UNROLL
  for (int p = 0; p < P; ++p) {
    R2B_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m256i n = _mm256_cvtepu16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(&count[p][r * 8])));
      v[p][r] = _mm256_cvtepi32_ps(_mm256_add_epi32(n, n));
    }
  }
  T::Affine(v, row, x, block * kBlock);
}

// Turns the popcounts of P pixels and a whole block of channels into outputs.
template <int P>
R2B_INLINE void Finish(const uint16_t (*count)[kBlock], const BconvRow& row, const Epilogue& epilogue, int x,
                       int block) {
  V::F v[P][T::kRegs];
  ToFloats(count, row, x, block, v);
  T::Stages<true>(v, epilogue, x, row.channel0 + block * kBlock);
}

// The same for a partial last block. Not inlined, so that tiles of all sizes share this function.
__attribute__((noinline)) void FinishPartial(const uint16_t (*count)[kBlock], int pixels, const BconvRow& row,
                                             const Epilogue& epilogue, int x, int block) {
  const int c = block * kBlock, valid = row.channels - c;
  T::ForRegisters(valid, [&](auto registers) {
    V::F v[kBconvPixels][registers.kCount];
    for (int p = 0; p < pixels; ++p) {
      V::F one[1][registers.kCount];
      ToFloats(count + p, row, x + p, block, one);
      R2B_UNROLL
      for (int r = 0; r < registers.kCount; ++r) v[p][r] = one[0][r];
    }
    T::PartialStages<registers.kCount>(v, pixels, epilogue, x, row.channel0 + c, valid);
  });
}

template <int P, int B>
__attribute__((noinline)) void BconvTile(const BconvRow& row, const Epilogue& epilogue, const uint8_t* expanded, int x,
                                         int block) {
  alignas(32) uint16_t count[B][P][kBlock];
  Count<P, B>(row, expanded, x, block, count);
  R2B_UNROLL
  for (int b = 0; b < B; ++b) {
    if ((block + b + 1) * kBlock > row.channels) {
      FinishPartial(count[b], P, row, epilogue, x, block + b);
      continue;
    }
    int p = 0;
    for (; p + 2 <= P; p += 2) Finish<2>(&count[b][p], row, epilogue, x + p, block + b);
    if (P % 2) Finish<1>(&count[b][P - 1], row, epilogue, x + P - 1, block + b);
  }
}

template <int P, int B>
void BconvTiles(const BconvRow& row, const Epilogue& epilogue, const uint8_t* expanded, int x, int block) {
  for (; x + P <= row.width; x += P) BconvTile<P, B>(row, epilogue, expanded, x, block);
  if constexpr (P > 1) BconvTiles<P - 1, B>(row, epilogue, expanded, x, block);
}

void Bconv(const BconvRow& row, const Epilogue& epilogue) {
  uint8_t* expanded = static_cast<uint8_t*>(row.scratch);
  const ptrdiff_t span = Span(row.width, row.input);
  for (int s = 0; s < row.input.segments; ++s)
    Expand(row.input.origin + row.input.segment[s], span, expanded + s * (2 * span + 64));
  int block = 0;
  for (; (block + 1) * kBlock < row.channels; block += 2)
    BconvTiles<kBconvPixels, 2>(row, epilogue, expanded, 0, block);
  if (block * kBlock < row.channels) BconvTiles<kBconvPixels, 1>(row, epilogue, expanded, 0, block);
}

}  // namespace

const Kernels* Avx2Kernels() {
  static const Kernels kernels = KernelsOf<V, Q>("avx2", 4, 65535, Bconv, BconvScratch);
  return &kernels;
}
}  // namespace r2b
#else
namespace r2b {
const Kernels* Avx2Kernels() { return nullptr; }
}  // namespace r2b
#endif
