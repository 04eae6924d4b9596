// Row kernels, written once as templates over a vector type V. Each instruction set's file defines its own V and
// includes this file inside an unnamed namespace. Without the namespace the linker could merge functions of the same
// name that were compiled for different instruction sets. This file has the code that all row kernels share, such as
// the stages of the epilogue. It includes rows.inl, quantized.inl and vectors.inl, which have all kernels but those for
// binary convolutions and for the resizing of images (resample.inl).
//
// V has these static members, where p is a pointer to memory of any alignment:
//
// kWidth                    the number of lanes: 4, 8 or 16
// F                         a register of kWidth floats
// Load(p), Store(p, v)      load and store all lanes
// Lanes, First(n)           the type of a set of lanes, and the set of the first n lanes, n <= kWidth; if kWidth is 4,
//                           n may be 0 or negative, which gives the empty set
// Load(p, lanes)            loads these lanes and reads no memory after them; other lanes are unspecified
// Store(p, v, lanes)        stores only these lanes and touches no other memory
// Set1(x), Zero()           the same float in all lanes
// Repeat4(p)                the four floats at p, repeated until all lanes are filled
// Add, Mul, Div, Max, Min   lane by lane; Max(x, NaN) is NaN
// Fma(a, b, c)              a * b + c, rounded once if the instruction set has fused multiply-adds
// Prelu(v, a)               v < 0 ? v * a : v
// MinusAbs(v)               -|v|
// IfNegative(x, a, b)       x < 0 ? a : b; if x is +0 or -0, the result may be a or b
// NegativeMask(v)           one bit for each lane, set if v < 0 there; lane 0 has the least significant bit
// NegativeMasks(low, high)  only if kWidth is 16: NegativeMask(low) | NegativeMask(high) << 16
// Keep(v)                   keeps the compiler from loading v from memory again; may do nothing
// PowerOfTwo                see PowerOfTwoLane() in exponential.inl
// StoreBytes(p, v, zero)    stores kWidth int8 numbers: v, truncated to a whole number, plus `zero`. Callers ensure
//                           that the sums fit. If Min(NaN, x) is NaN in this V, StoreBytes must store 127 for NaN
// Numbers(v, pixels, registers, output, c)
//                           calls Quantized::Numbers() on v, [pixel][register], for Stage::kNumbers; not inlined
// kPicks, Pick              see resample.inl
//
// V also says how many pixels or outputs a tile may have so that its values fit the registers:
//
// FconvPixels(R)            pixels of a float convolution, with R registers for each pixel
// kPlainPixels              pixels of the other kernels of rows.inl, in whole blocks
// PartPixels(R)             the same in partial blocks, with R registers for each pixel
// kDenseGroups              groups of kDenseGroup outputs of a dense layer
//
// The last block of a row's channels may be partial, that is, have fewer than kBlock channels. For each pixel its tiles
// have only the R registers that hold channels, and may have more pixels instead. Lanes beyond the channels are
// computed like the others; weights are padded for them. But their activations are neither loaded nor stored, since the
// memory there may belong to the next pixel.

#define R2B_INLINE inline __attribute__((always_inline))
#define R2B_LAMBDA __attribute__((always_inline))
// Tiles stay in registers only if every loop over them is unrolled. R2B_TILE runs `statement` for every register of a
// tile, [p][r].
#if defined(R2B_UNROLL)
// portable.cc has defined it as nothing, since its V has no vector registers.
#elif defined(__clang__)
#define R2B_UNROLL _Pragma("clang loop unroll(full)")
#else
#define R2B_UNROLL _Pragma("GCC unroll 32")
#endif
// clang-format off
#define R2B_TILE(statement) R2B_UNROLL for (int p = 0; p < P; ++p) R2B_UNROLL for (int r = 0; r < R; ++r) statement
// clang-format on

#include "exponential.inl"

// Quantises floats to int8: value / scale is rounded to the nearest whole number, halves away from zero. Then
// zero_point is added, and the sum is saturated. NaN becomes 127. Since StoreBytes() truncates, Store() first adds the
// largest float below 0.5, with the sign of the value. (If it added 0.5, the sum for 0.49999997 would be rounded to 1.)
template <class V>
struct ByteNumbers {
  typename V::F scale, most, least;
  int32_t zero_point;

  R2B_INLINE ByteNumbers(float scale, int32_t zero_point)
      : scale(V::Set1(scale)),
        most(V::Set1(float(127 - zero_point))),
        least(V::Set1(float(-128 - zero_point))),
        zero_point(zero_point) {}
  R2B_INLINE void Store(int8_t* to, typename V::F value) const {
    constexpr float kBelowHalf = 0.49999997f;
    const typename V::F v = V::Div(value, scale);
    const typename V::F up = V::Add(v, V::IfNegative(v, V::Set1(-kBelowHalf), V::Set1(kBelowHalf)));
    V::StoreBytes(to, V::Max(V::Min(up, most), least), zero_point);
  }
};

template <class V>
struct Tile {
  static constexpr int kRegs = kBlock / V::kWidth;
  using F = typename V::F;

  // Bytes from a pixel's channel 0 to its channel c, in a tensor with this gap (Stage::gap).
  static R2B_INLINE ptrdiff_t Channel(int c, ptrdiff_t gap) {
    return c * ptrdiff_t(sizeof(float)) + ptrdiff_t(unsigned(c) / kBlock) * gap;
  }

  // The number of registers in a unit. A partial block takes whole units. A unit has eight channels, or those of one
  // register if a register has more.
  static constexpr int kUnit = V::kWidth < 8 ? 8 / V::kWidth : 1;
  template <int N>
  struct Registers {
    static constexpr int kCount = N;
  };
  // Calls run(Registers<R>()), where R is the number of registers, in whole units, for the first `valid` channels of a
  // block.
  template <class Run>
  static R2B_INLINE void ForRegisters(int valid, Run run) {
    constexpr int kLanes = kUnit * V::kWidth;
    if (valid <= kLanes) return run(Registers<kUnit>());
    if constexpr (4 * kUnit <= kRegs) {
      if (valid <= 2 * kLanes) return run(Registers<2 * kUnit>());
#if !defined(R2B_STAGES_APART)  // otherwise three units take the registers of a whole block, which saves code
      if (valid <= 3 * kLanes) return run(Registers<3 * kUnit>());
#endif
    }
    run(Registers<kRegs>());
  }

  // Loads and stores the R registers of one pixel: all their lanes (kWhole), or only the first `valid`.
  template <bool kWhole, int R>
  struct Pixel {
    // The last kLast registers may be partial or hold no channel at all; those before them are full.
#if defined(R2B_STAGES_APART)
    static constexpr int kLast = R > 2 * kUnit ? R / 2 : kUnit;  // ForRegisters has no case for 3 units
#else
    static constexpr int kLast = kUnit;
#endif
    typename V::Lanes last[kWhole ? 1 : kLast];
    explicit R2B_INLINE Pixel(int valid) {
      if constexpr (!kWhole) {
        R2B_UNROLL
        for (int u = 0; u < kLast; ++u) {
          const int lanes = valid - (R - kLast + u) * V::kWidth;
          last[u] = V::First(lanes < V::kWidth ? lanes : V::kWidth);
        }
      }
    }
    R2B_INLINE F Load(const uint8_t* from, int r) const {
      const float* at = reinterpret_cast<const float*>(from) + r * V::kWidth;
      if constexpr (!kWhole)
        if (r >= R - kLast) return V::Load(at, last[r - (R - kLast)]);
      return V::Load(at);
    }
    R2B_INLINE void Store(uint8_t* to, int r, F value) const {
      float* at = reinterpret_cast<float*>(to) + r * V::kWidth;
      if constexpr (!kWhole)
        if (r >= R - kLast) return V::Store(at, value, last[r - (R - kLast)]);
      V::Store(at, value);
    }
  };

  // Stores the bits of a block whose first channel is `channel` into a pixel's words. In a grouped convolution the
  // channels of a group need not fill whole words, so a block's bits may begin in the middle of a word. Blocks are
  // stored in ascending order: the first block in a word assigns the word, and later blocks add their bits to it.
  static void StoreWord(uint32_t* words, int channel, uint32_t bits, int valid) {
    const int word = channel / 32, shift = channel % 32;
    if (valid < 32) bits &= (uint32_t(1) << valid) - 1;
    if (shift == 0) {
      words[word] = bits;
    } else {
      words[word] |= bits << shift;
      if (shift + valid > 32) words[word + 1] = bits >> (32 - shift);
    }
  }

  // v = apply(v, operand). If `pixel` is 0, the operand is one vector over the channels, loaded once for all pixels.
  template <bool kWhole, int P, int R, class Apply>
  static R2B_INLINE void WithOperand(F (&v)[P][R], const Pixel<kWhole, R>& memory, const uint8_t* in, ptrdiff_t pixel,
                                     Apply apply) {
    if (pixel == 0) {
      R2B_UNROLL
      for (int r = 0; r < R; ++r) {
        const F operand = memory.Load(in, r);
        R2B_UNROLL
        for (int p = 0; p < P; ++p) v[p][r] = apply(v[p][r], operand);
      }
    } else {
      R2B_TILE(v[p][r] = apply(v[p][r], memory.Load(in + p * pixel, r)));
    }
  }

  // Runs Stage::kMaxColumns: takes maxima over columns, in windows of width 3 and stride 2. The last window that began
  // before pixel x also contains the first kBegun (1 or 2) of the P pixels.
  template <bool kWhole, int kBegun, int P, int R>
  static R2B_INLINE void MaxColumns(F (&v)[P][R], const Pixel<kWhole, R>& memory, const Stage& stage, int x, int c) {
    uint8_t* out = stage.out + Channel(c, stage.gap);
    const int begun = (x + stage.before + 1) / 2 - 1;  // the last window that began before x
    if (begun >= 0 && begun < stage.windows) {
      R2B_UNROLL
      for (int r = 0; r < R; ++r) {
        uint8_t* to = out + begun * stage.pixel;
        F value = x == 0 ? v[0][r] : V::Max(memory.Load(to, r), v[0][r]);
        if constexpr (kBegun == 2 && P > 1) value = V::Max(value, v[1][r]);
        memory.Store(to, r, value);
      }
    }
    R2B_UNROLL
    for (int p = kBegun - 1; p < P; p += 2) {
      const int window = begun + 1 + (p - (kBegun - 1)) / 2;
      if (window >= stage.windows) break;
      R2B_UNROLL
      for (int r = 0; r < R; ++r) {
        F value = v[p][r];
        if (p + 1 < P) value = V::Max(value, v[p + 1][r]);
        if (p + 2 < P) value = V::Max(value, v[p + 2][r]);
        memory.Store(out + window * stage.pixel, r, value);
      }
    }
  }

  // v = logistic(v) or, if `times`, v * logistic(v). Not inlined, since it needs many of the registers in which kernels
  // hold their sums.
  static __attribute__((noinline)) void Logistic(F* v, int count, bool times) {
    for (int i = 0; i < count; ++i) {
      const F sigma = Exponential<V>::Logistic(v[i]);
      v[i] = times ? V::Mul(v[i], sigma) : sigma;
    }
  }

  // Packs and stores the signs of P pixels.
  template <int P, int R>
  static R2B_INLINE void StoreBits(F (&v)[P][R], const Stage& stage, uint8_t* out, int c, int valid) {
    const ptrdiff_t pixel = stage.pixel;
    const bool whole = c % 32 == 0 && valid >= kBlock;
    if (whole) out += c / 8;
    R2B_UNROLL
    for (int p = 0; p < P; ++p) {
      uint32_t bits = 0;
      if constexpr (R * V::kWidth == 32 && R == 2) {
        bits = V::NegativeMasks(v[p][0], v[p][1]);
      } else {
        R2B_UNROLL
        for (int r = 0; r < R; ++r) bits |= V::NegativeMask(v[p][r]) << (r * V::kWidth);
      }
      if (whole) *reinterpret_cast<uint32_t*>(out + p * pixel) = bits;
      else StoreWord(reinterpret_cast<uint32_t*>(out + p * pixel), c, bits, valid);
    }
  }

  template <int P, int R>
  static R2B_INLINE void StoreBytes(F (&v)[P][R], const Stage& stage, uint8_t* out, int c, int valid) {
    constexpr int kLanes = R * V::kWidth;
    const ByteNumbers<V> bytes(stage.scale, stage.zero_point);
    int8_t numbers[P][kLanes];
    R2B_TILE(bytes.Store(&numbers[p][r * V::kWidth], v[p][r]));
    const auto count = size_t(valid < kLanes ? valid : kLanes);
    // If the compiler knows the size, it turns memcpy into vector stores; otherwise into a call.
    for (int p = 0; p < P; ++p) {
      uint8_t* to = out + p * stage.pixel + c;
      if (count == kLanes) __builtin_memcpy(to, numbers[p], kLanes);
      else __builtin_memcpy(to, numbers[p], count);
    }
  }

  template <bool kWhole, int P, int R>
  static R2B_INLINE void Sum(F (&v)[P][R], const Pixel<kWhole, R>& memory, uint8_t* out) {
    F sum[R];
    R2B_UNROLL
    for (int r = 0; r < R; ++r) sum[r] = memory.Load(out, r);
    R2B_TILE(sum[r] = V::Add(sum[r], v[p][r]));
    R2B_UNROLL
    for (int r = 0; r < R; ++r) memory.Store(out, r, sum[r]);
  }

  // Runs a stage on P pixels from `x` on, and on the block that begins at channel `c`: on all its channels (kWhole) or
  // the first `valid`. If kVector is true, the operand is one vector over the channels.
  template <Stage::Kind kKind, bool kWhole, int P, int R, bool kVector = false>
  static R2B_INLINE void Run(F (&v)[P][R], const Pixel<kWhole, R>& memory, const Stage& stage, int x, int c,
                             int valid) {
    const ptrdiff_t pixel = stage.pixel, at = x * pixel;
    const uint8_t* in = stage.in + at + Channel(c, stage.gap);
    const auto operand = [&](auto apply) R2B_LAMBDA {
      WithOperand<kWhole>(v, memory, kVector ? stage.in + c * ptrdiff_t(sizeof(float)) : in, kVector ? 0 : pixel,
                          apply);
    };
    const auto number = [&](int p)
                            R2B_LAMBDA { return V::Set1(*reinterpret_cast<const float*>(stage.in + at + p * pixel)); };
    if constexpr (kKind == Stage::kMul) operand([](F value, F by) R2B_LAMBDA { return V::Mul(value, by); });
    if constexpr (kKind == Stage::kMulPixel) R2B_TILE(v[p][r] = V::Mul(v[p][r], number(p)));
    if constexpr (kKind == Stage::kMulSelf) R2B_TILE(v[p][r] = V::Mul(v[p][r], v[p][r]));
    if constexpr (kKind == Stage::kAdd) operand([](F value, F by) R2B_LAMBDA { return V::Add(value, by); });
    if constexpr (kKind == Stage::kAddPixel) R2B_TILE(v[p][r] = V::Add(v[p][r], number(p)));
    if constexpr (kKind == Stage::kAddSelf) R2B_TILE(v[p][r] = V::Add(v[p][r], v[p][r]));
    if constexpr (kKind == Stage::kPrelu) operand([](F value, F by) R2B_LAMBDA { return V::Prelu(value, by); });
    if constexpr (kKind == Stage::kPreluMax)
      operand([](F value, F by) R2B_LAMBDA { return V::Max(value, V::Mul(value, by)); });
    if constexpr (kKind == Stage::kClamp) {
      const F lo = V::Set1(stage.lo), hi = V::Set1(stage.hi);
      R2B_TILE(v[p][r] = V::Min(V::Max(v[p][r], lo), hi));
    }
    if constexpr (kKind == Stage::kLogistic || kKind == Stage::kMulLogistic || kKind == Stage::kNumbers) {
      F all[P * R];
      R2B_TILE(all[p * R + r] = v[p][r]);
      if constexpr (kKind == Stage::kNumbers) V::Numbers(all, P, R, *stage.output, c);
      else Logistic(all, P * R, kKind == Stage::kMulLogistic);
      R2B_TILE(v[p][r] = all[p * R + r]);
    }
    if constexpr (kKind == Stage::kStoreFloat) {
      uint8_t* out = stage.out + at + Channel(c, stage.gap);
      R2B_TILE(memory.Store(out + p * pixel, r, v[p][r]));
    }
    if constexpr (kKind == Stage::kStoreBits) StoreBits(v, stage, stage.out + at, c, valid);
    if constexpr (kKind == Stage::kStoreInt8) StoreBytes(v, stage, stage.out + at, c, valid);
    if constexpr (kKind == Stage::kSum) Sum<kWhole>(v, memory, stage.out + c * ptrdiff_t(sizeof(float)));
    if constexpr (kKind == Stage::kMaxColumns) {
      if ((x + stage.before) % 2 == 0) MaxColumns<kWhole, 1>(v, memory, stage, x, c);
      else MaxColumns<kWhole, 2>(v, memory, stage, x, c);
    }
  }

  // Runs the stages of kGated, without a dispatch for each stage.
  template <bool kWhole, int P, int R, int... kIndex>
  static R2B_INLINE void Gated(F (&v)[P][R], const Pixel<kWhole, R>& memory, const Stage* stages, int x, int c,
                               int valid, std::integer_sequence<int, kIndex...>) {
    (Run<kGated[kIndex].kind, kWhole, P, R, kGated[kIndex].vector>(v, memory, stages[kIndex], x, c, valid), ...);
  }

  template <bool kWhole, int P, int R>
  static R2B_INLINE void Stages(F (&v)[P][R], const Epilogue& epilogue, int x, int c, int valid = kBlock) {
    const Pixel<kWhole, R> memory(valid);
#if !defined(R2B_STAGES_APART)
    if constexpr (P > 1)
      if (epilogue.is_gated)
        return Gated(v, memory, epilogue.stages, x, c, valid, std::make_integer_sequence<int, kGatedCount>());
#endif
    for (int s = 0; s < epilogue.count; ++s) {
      const Stage& stage = epilogue.stages[s];
      switch (stage.kind) {
#define R2B_STAGE(kind) \
  case Stage::kind: Run<Stage::kind>(v, memory, stage, x, c, valid); break
        R2B_STAGE(kMul);
        R2B_STAGE(kMulPixel);
        R2B_STAGE(kMulSelf);
        R2B_STAGE(kAdd);
        R2B_STAGE(kAddPixel);
        R2B_STAGE(kAddSelf);
        R2B_STAGE(kPrelu);
        R2B_STAGE(kPreluMax);
        R2B_STAGE(kClamp);
        R2B_STAGE(kLogistic);
        R2B_STAGE(kMulLogistic);
        R2B_STAGE(kNumbers);
        R2B_STAGE(kStoreFloat);
        R2B_STAGE(kStoreBits);
        R2B_STAGE(kStoreInt8);
        R2B_STAGE(kSum);
        R2B_STAGE(kMaxColumns);
#undef R2B_STAGE
      }
    }
  }

  // Runs the stages on the pixels of a partial block, from pixel `done` of `values` on: P at a time, and the remaining
  // pixels in smaller tiles. `x` is the position of values[0] in the row.
  template <int P, int R>
  static R2B_INLINE void PartialTiles(const F (*values)[R], int done, int pixels, const Epilogue& epilogue, int x,
                                      int c, int valid) {
    for (; done + P <= pixels; done += P) {
      F v[P][R];
      R2B_TILE(v[p][r] = values[done + p][r]);
      Stages<false>(v, epilogue, x + done, c, valid);
    }
    if constexpr (P > 1) PartialTiles<(P + 1) / 2, R>(values, done, pixels, epilogue, x, c, valid);
  }
  // Runs the stages on a partial block. Not inlined, so that tiles of all sizes share one function for each R.
  template <int R>
  static __attribute__((noinline)) void PartialStages(const F (*values)[R], int pixels, const Epilogue& epilogue, int x,
                                                      int c, int valid) {
    PartialTiles<V::PartPixels(R), R>(values, 0, pixels, epilogue, x, c, valid);
  }

#if defined(R2B_STAGES_APART)
  // Runs the stages on one pixel of a whole block. Not inlined, so that all kernels share one function. wasm.cc defines
  // R2B_STAGES_APART, since small code matters more than speed there.
  template <int R>
  static __attribute__((noinline)) void WholeStages(const F (&values)[R], const Epilogue& epilogue, int x, int c) {
    F v[1][R];
    R2B_UNROLL
    for (int r = 0; r < R; ++r) v[0][r] = values[r];
    Stages<true>(v, epilogue, x, c);
  }
#endif

  template <bool kWhole, int P, int R>
  static R2B_INLINE void RunEpilogue(F (&v)[P][R], const Epilogue& epilogue, int x, int c, int valid) {
    if constexpr (kWhole) {
#if defined(R2B_STAGES_APART)
      R2B_UNROLL
      for (int p = 0; p < P; ++p) WholeStages<R>(v[p], epilogue, x + p, c);
#else
      Stages<true>(v, epilogue, x, c);
#endif
    } else {
      F values[P][R];
      R2B_TILE(values[p][r] = v[p][r]);
      PartialStages<R>(values, P, epilogue, x, c, valid);
    }
  }

  // Adds row.corrections, times `unit` (1 or 1/2), to the pixels at a padded border. Nothing is rounded, since all sums
  // are small whole numbers or halves. `c` counts from row.channel0.
  template <int P, int R>
  static R2B_INLINE void Correct(F (&v)[P][R], const BconvRow& row, int x, int c, float unit) {
    if (!row.corrections) return;
    uintptr_t any = 0;  // stays 0 for most tiles, which then need only one branch
    R2B_UNROLL
    for (int p = 0; p < P; ++p) any |= reinterpret_cast<uintptr_t>(row.corrections[x + p]);
    if (!any) return;
    R2B_UNROLL
    for (int p = 0; p < P; ++p)
      if (const float* correction = row.corrections[x + p]) {
        R2B_UNROLL
        for (int r = 0; r < R; ++r)
          v[p][r] = V::Fma(V::Load(correction + row.correction0 + c + r * V::kWidth), V::Set1(unit), v[p][r]);
      }
  }

  // Turns doubled popcounts, as floats, into the convolution's output.
  template <int P, int R>
  static R2B_INLINE void Affine(F (&v)[P][R], const BconvRow& row, int x, int c) {
    Correct(v, row, x, c, 1);
    if (row.clamp) {
      R2B_UNROLL
      for (int p = 0; p < P; ++p) {
        R2B_UNROLL
        for (int r = 0; r < R; ++r) v[p][r] = V::Min(V::Max(v[p][r], V::Set1(row.lo)), V::Set1(row.hi));
      }
    }
    R2B_UNROLL
    for (int r = 0; r < R; ++r) {
      const F multiplier = V::Load(row.multiplier + c + r * V::kWidth), bias = V::Load(row.bias + c + r * V::kWidth);
      R2B_UNROLL
      for (int p = 0; p < P; ++p) v[p][r] = V::Add(V::Mul(v[p][r], multiplier), bias);
    }
  }

  // Does the same as Affine() for popcounts that are not doubled, if row.unscaled is true. The results have the same
  // bits: either way bias - 2 * popcount is rounded once.
  template <int P, int R>
  static R2B_INLINE void Unscaled(F (&v)[P][R], const BconvRow& row, int x, int c) {
    Correct(v, row, x, c, 0.5f);
    R2B_UNROLL
    for (int r = 0; r < R; ++r) {
      const F bias = V::Load(row.bias + c + r * V::kWidth);
      R2B_UNROLL
      for (int p = 0; p < P; ++p) v[p][r] = V::Fma(v[p][r], V::Set1(-2), bias);
    }
  }
};

#include "quantized.inl"
#include "rows.inl"
#include "vectors.inl"
