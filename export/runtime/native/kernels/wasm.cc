// Kernels for WebAssembly with SIMD128, which has vectors of four floats and a popcount of bytes, but no fused
// multiply-add.
//
// Binary weights are packed as bytes, [chunk][32 outputs], where a chunk is 8 input channels. Each output channel has a
// sum of one byte. Exclusive or, popcount and add compute 128 products and add them to the sums; these are three
// instructions if the processor has all of them. A byte can hold the sum of only 31 chunks. So the byte sums are added
// to 32-bit sums after at most kFlush chunks. The byte sums of 2 pixels x 32 outputs take 4 of x86's 16 registers. The
// other 12 are enough for weights, inputs and the popcount, which takes several registers on x86.
#include <wasm_simd128.h>

#include "kernels.h"

namespace r2b {
namespace {
#define R2B_STAGES_APART  // small code, since the file is downloaded
#include "tile.inl"

struct V {
  using F = v128_t;
  static constexpr int kWidth = 4;
  // A tile has up to 8 accumulators, half of x86's 16 registers.
  static constexpr int FconvPixels(int registers) { return registers == 6 ? 1 : 8 / registers; }
  static constexpr int kPlainPixels = 1;
  static constexpr int PartPixels(int) { return 1; }
  static constexpr int kDenseGroups = 1;
  static R2B_INLINE F Load(const float* p) { return wasm_v128_load(p); }
  static R2B_INLINE void Store(float* p, F v) { wasm_v128_store(p, v); }
  using Lanes = int;
  static R2B_INLINE Lanes First(int count) { return count; }
  static R2B_INLINE F Load(const float* p, Lanes lanes) {
    if (lanes == 4) return Load(p);
    if (lanes < 1) return Zero();
    if (lanes == 1) return wasm_v128_load32_zero(p);
    const F two = wasm_v128_load64_zero(p);
    return lanes == 2 ? two : wasm_v128_load32_lane(p + 2, two, 2);
  }
  static R2B_INLINE void Store(float* p, F v, Lanes lanes) {
    if (lanes == 4) return Store(p, v);
    if (lanes >= 2) wasm_v128_store64_lane(p, v, 0);
    if (lanes == 3) wasm_v128_store32_lane(p + 2, v, 2);
    if (lanes == 1) wasm_v128_store32_lane(p, v, 0);
  }
  static constexpr int kPicks = 0;
  static R2B_INLINE void Keep(F&) {}
  static R2B_INLINE F Set1(float v) { return wasm_f32x4_splat(v); }
  static R2B_INLINE F Repeat4(const float* p) { return Load(p); }
  static R2B_INLINE F Zero() { return wasm_f32x4_const_splat(0); }
  static R2B_INLINE F Mul(F a, F b) { return wasm_f32x4_mul(a, b); }
  static R2B_INLINE F Add(F a, F b) { return wasm_f32x4_add(a, b); }
  static R2B_INLINE F Div(F a, F b) { return wasm_f32x4_div(a, b); }
  // pmax(b, a) is b < a ? a : b, which x86 has as one instruction.
  static R2B_INLINE F Max(F a, F b) { return wasm_f32x4_pmax(b, a); }
  static R2B_INLINE F Min(F a, F b) { return wasm_f32x4_pmin(b, a); }
  static R2B_INLINE F Fma(F a, F b, F c) { return Add(Mul(a, b), c); }
  static R2B_INLINE F Prelu(F v, F slope) { return IfNegative(v, Mul(v, slope), v); }
  static R2B_INLINE F IfNegative(F x, F yes, F no) { return wasm_v128_bitselect(yes, no, wasm_f32x4_lt(x, Zero())); }
  static R2B_INLINE F MinusAbs(F v) { return wasm_v128_or(v, wasm_i32x4_const_splat(INT32_MIN)); }
  static R2B_INLINE void PowerOfTwo(const float* table, F rounded, F base, F* fraction, F* whole) {
    const v128_t steps = wasm_i32x4_sub(rounded, base), last = wasm_v128_and(steps, wasm_i32x4_const_splat(31));
    F found = wasm_v128_load32_zero(table + wasm_i32x4_extract_lane(last, 0));
    found = wasm_v128_load32_lane(table + wasm_i32x4_extract_lane(last, 1), found, 1);
    found = wasm_v128_load32_lane(table + wasm_i32x4_extract_lane(last, 2), found, 2);
    *fraction = wasm_v128_load32_lane(table + wasm_i32x4_extract_lane(last, 3), found, 3);
    const v128_t exponent = wasm_i32x4_max(wasm_i32x4_shr(steps, 5), wasm_i32x4_const_splat(-127));
    *whole = wasm_i32x4_shl(wasm_i32x4_add(exponent, wasm_i32x4_const_splat(127)), 23);
  }
  static R2B_INLINE void StoreBytes(int8_t* p, F v, int32_t zero) {
    const v128_t numbers = wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(v), wasm_i32x4_splat(zero));
    const v128_t pairs = wasm_i16x8_narrow_i32x4(numbers, numbers);
    wasm_v128_store32_lane(p, wasm_i8x16_narrow_i16x8(pairs, pairs), 0);
  }
  static R2B_INLINE uint32_t NegativeMask(F v) { return wasm_i32x4_bitmask(wasm_f32x4_lt(v, Zero())); }
  static void Numbers(F* __restrict v, int pixels, int registers, const Requantisation& output, int c);
};
using T = Tile<V>;

#include "resample.inl"
#include "table.inl"

// Adds two products of 16-bit numbers to each sum at a time.
struct Q : PlainBytes<V> {
  using Sums = v128_t;
  using Value = v128_t;
  using Weights = v128_t;
  static constexpr int Pixels(int registers) { return V::FconvPixels(registers); }
  static R2B_INLINE Sums Zero() { return V::Zero(); }
  static R2B_INLINE Value At(const uint8_t* p) { return wasm_v128_load32_splat(p); }
  static R2B_INLINE Weights Load(const uint8_t* p) { return wasm_v128_load(p); }
  static R2B_INLINE void Add(Sums& sums, Value value, Weights weights) {
    sums = wasm_i32x4_add(sums, wasm_i32x4_dot_i16x8(value, weights));
  }
  static R2B_INLINE V::F ToFloats(Sums sums) { return wasm_f32x4_convert_i32x4(sums); }
  static R2B_INLINE Sums FromFloats(V::F v) { return wasm_i32x4_trunc_sat_f32x4(v); }
  // Not inlined, since otherwise every tile would contain a copy of the code for each of its registers.
  static __attribute__((noinline)) V::F Numbers(Sums sums, const Requantisation& output, int channel) {
    int32_t lanes[4];
    wasm_v128_store(lanes, sums);
    float numbers[4];
    NumbersOf<4>(lanes, output, channel, numbers);
    return V::Load(numbers);
  }
};

__attribute__((noinline)) void V::Numbers(F* __restrict v, int pixels, int registers, const Requantisation& output,
                                          int c) {
  Quantized<V, Q>::Numbers(v, pixels, registers, output, c);
}

constexpr int kPixels = 2;
constexpr int kFlush = 24;  // at most 31; 24 chunks are 3 taps x 64 channels

// Adds 16 bytes to 16 sums of 32 bits.
R2B_INLINE void AddBytes(v128_t bytes, v128_t* sums) {
  const v128_t low = wasm_u16x8_extend_low_u8x16(bytes), high = wasm_u16x8_extend_high_u8x16(bytes);
  sums[0] = wasm_i32x4_add(sums[0], wasm_u32x4_extend_low_u16x8(low));
  sums[1] = wasm_i32x4_add(sums[1], wasm_u32x4_extend_high_u16x8(low));
  sums[2] = wasm_i32x4_add(sums[2], wasm_u32x4_extend_low_u16x8(high));
  sums[3] = wasm_i32x4_add(sums[3], wasm_u32x4_extend_high_u16x8(high));
}

// Runs the stages on one pixel of a partial block, in only the registers that hold channels.
template <int N>
void FinishPartial(const V::F (&values)[N], const Epilogue& epilogue, int x, int c, int valid) {
  T::ForRegisters(valid, [&](auto registers) {
    constexpr int R = registers.kCount;
    if constexpr (R <= N) {
      V::F v[1][R];
      R2B_UNROLL
      for (int r = 0; r < R; ++r) v[0][r] = values[r];
      T::PartialStages<R>(v, 1, epilogue, x, c, valid);
    }
  });
}

// Adds up the popcounts of P pixels for H halves of a block (16 output channels each). count[p] receives the sums of
// pixel p, one for each channel.
template <int P, int H>
R2B_INLINE void Count(const BconvRow& row, int x, int block, v128_t (&count)[P][4 * H]) {
  R2B_UNROLL
  for (int p = 0; p < P; ++p) {
    R2B_UNROLL
    for (int r = 0; r < 4 * H; ++r) count[p][r] = V::Zero();
  }
  const uint8_t* w = static_cast<const uint8_t*>(row.weights) + block * row.block_bytes;
  const ptrdiff_t pixel = row.input.pixel;
  const int chunks = 4 * row.input.length;
  for (int s = 0; s < row.input.segments; ++s) {
    const uint8_t* in = row.input.origin + x * pixel + row.input.segment[s];
    for (int done = 0; done < chunks; done += kFlush) {
      const int n = chunks - done < kFlush ? chunks - done : kFlush;
      v128_t bytes[P][H];
      R2B_UNROLL
      for (int p = 0; p < P; ++p) {
        R2B_UNROLL
        for (int h = 0; h < H; ++h) bytes[p][h] = V::Zero();
      }
      for (int i = 0; i < n; ++i, w += kBlock) {
        R2B_UNROLL
        for (int p = 0; p < P; ++p) {
          const v128_t value = wasm_v128_load8_splat(in + p * pixel + i);
          R2B_UNROLL
          for (int h = 0; h < H; ++h)
            bytes[p][h] =
                wasm_i8x16_add(bytes[p][h], wasm_i8x16_popcnt(wasm_v128_xor(value, wasm_v128_load(w + 16 * h))));
        }
      }
      in += n;
      R2B_UNROLL
      for (int p = 0; p < P; ++p) {
        R2B_UNROLL
        for (int h = 0; h < H; ++h) AddBytes(bytes[p][h], &count[p][4 * h]);
      }
    }
  }
}

template <bool kWhole, int P, int H>
__attribute__((noinline)) void BconvTile(const BconvRow& row, const Epilogue& epilogue, int x, int block) {
  v128_t count[P][4 * H];
  Count<P, H>(row, x, block, count);
  R2B_UNROLL
  for (int p = 0; p < P; ++p) {
    V::F v[1][4 * H];
    R2B_UNROLL
    for (int r = 0; r < 4 * H; ++r) v[0][r] = wasm_f32x4_convert_i32x4(wasm_i32x4_add(count[p][r], count[p][r]));
    const int c = block * kBlock;
    T::Affine(v, row, x + p, c);
    if constexpr (kWhole) T::RunEpilogue<true>(v, epilogue, x + p, row.channel0 + c, kBlock);
    else FinishPartial(v[0], epilogue, x + p, row.channel0 + c, row.channels - c);
  }
}

template <bool kWhole, int P, int H>
void BconvTiles(const BconvRow& row, const Epilogue& epilogue, int x, int block) {
  for (; x + P <= row.width; x += P) BconvTile<kWhole, P, H>(row, epilogue, x, block);
  if constexpr (P > 1) BconvTiles<kWhole, (P + 1) / 2, H>(row, epilogue, x, block);
}

void Bconv(const BconvRow& row, const Epilogue& epilogue) {
  const int whole = row.channels / kBlock, left = row.channels % kBlock;
  for (int block = 0; block < whole; ++block) BconvTiles<true, kPixels, 2>(row, epilogue, 0, block);
  if (left > 16) BconvTiles<false, kPixels, 2>(row, epilogue, 0, whole);
  else if (left) BconvTiles<false, 2 * kPixels, 1>(row, epilogue, 0, whole);
}

// Resizes only by bicubic interpolation, since preprocessing needs no other.
template <class T>
void ResampleOfType(const Resample& r) {
  r.channels == 3 ? Resampling<V, T, 3>::Cubic(r) : Resampling<V, T, 1>::Cubic(r);
}
void ResampleCubic(const Resample& r) { r.bytes ? ResampleOfType<uint8_t>(r) : ResampleOfType<float>(r); }

}  // namespace

const Kernels* WasmKernels() {
  static const Kernels kernels = KernelsOf<V, Q>("wasm", 8, 1 << 22, Bconv, NoScratch, ResampleCubic);
  return &kernels;
}

// WebAssembly needs no portable kernels: the kernels above have the same max_depth.
const Kernels* PortableKernels() { return WasmKernels(); }

}  // namespace r2b
