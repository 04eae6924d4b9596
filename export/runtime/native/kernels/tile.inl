// Row kernels written once over a vector type; each instruction set's file includes this with its own type, inside an
// unnamed namespace, so that no function compiled with one set of flags can be linked in place of another. Here is what
// all kernels do with a tile; rows.inl and vectors.inl, which this file includes, have the kernels.
//
// The vector type V gives: kWidth; F (register); Load/Store (unaligned); Lanes, First(n), and Load/Store of those first
// n lanes, which touch no other memory and load anything into other lanes; Set1, Repeat4 (four floats, again and
// again), Zero, Mul, Add, Div, Max, Min, Fma; how many pixels or groups of dense outputs fit its registers
// (FconvPixels(registers of a pixel), ...; kPlainPixels of whole blocks, PartPixels of others); Prelu(v, a);
// IfNegative(x, a, b), of either for a zero; Keep(v), by which compilers do not load it again; MinusAbs(v);
// NegativeMask(v), one bit per lane; StoreBytes(p, v, zero), kWidth whole parts, plus zero, as bytes, which they fit
// (where Min(NaN, x) is not x, StoreBytes itself makes 127 of NaN); PowerOfTwo (exponential.inl); Numbers(v, pixels,
// registers, output, c), not inlined, as kNumbers says of [pixel][register] (Quantized::Numbers).
//
// The last block of a row of channels may be partial. Its tiles have only the registers that hold channels, R of them
// to a pixel, and more pixels instead. Lanes beyond the channels are computed like the others in registers (weights and
// vectors are padded) but neither loaded from nor stored to memory that belongs to a neighbour.

#define R2B_INLINE inline __attribute__((always_inline))
#define R2B_LAMBDA __attribute__((always_inline))
// Tiles stay in registers only if every loop over them is unrolled. R2B_TILE does `statement` for every one of
// them, [p][r].
#if defined(R2B_UNROLL)
// The including file has no registers to keep them in.
#elif defined(__clang__)
#define R2B_UNROLL _Pragma("clang loop unroll(full)")
#else
#define R2B_UNROLL _Pragma("GCC unroll 32")
#endif
// clang-format off
#define R2B_TILE(statement) R2B_UNROLL for (int p = 0; p < P; ++p) R2B_UNROLL for (int r = 0; r < R; ++r) statement
// clang-format on

#include "exponential.inl"

// Stores values as the nearest int8 numbers; halves are rounded away from zero. It adds the largest float below 0.5,
// with the sign of the value, so that truncation rounds a half up in magnitude, but nothing smaller. StoreBytes
// truncates and adds the zero point. NaN becomes 127.
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

  // Bytes from channel 0 to channel c.
  static R2B_INLINE ptrdiff_t Channel(int c, ptrdiff_t gap) {
    return c * ptrdiff_t(sizeof(float)) + ptrdiff_t(unsigned(c) / kBlock) * gap;
  }

  // Registers are counted out in eights of channels, or in ones where they hold more.
  static constexpr int kUnit = V::kWidth < 8 ? 8 / V::kWidth : 1;
  template <int N>
  struct Registers {
    static constexpr int kCount = N;
  };
  // Calls run(Registers<R>) with as many as hold the first `valid` channels of a block.
  template <class Run>
  static R2B_INLINE void ForRegisters(int valid, Run run) {
    constexpr int kLanes = kUnit * V::kWidth;
    if (valid <= kLanes) return run(Registers<kUnit>());
    if constexpr (4 * kUnit <= kRegs) {
      if (valid <= 2 * kLanes) return run(Registers<2 * kUnit>());
#if !defined(R2B_STAGES_APART)  // where little code is wanted, three quarters of a block are done as a whole one
      if (valid <= 3 * kLanes) return run(Registers<3 * kUnit>());
#endif
    }
    run(Registers<kRegs>());
  }

  // How R registers of one pixel meet memory that has all of their lanes, or the first `valid`.
  template <bool kWhole, int R>
  struct Pixel {
    typename V::Lanes last[kWhole ? 1 : kUnit];
    explicit R2B_INLINE Pixel(int valid) {
      if constexpr (!kWhole) {
        R2B_UNROLL
        for (int u = 0; u < kUnit; ++u) {
          const int lanes = valid - (R - kUnit + u) * V::kWidth;
          last[u] = V::First(lanes < V::kWidth ? lanes : V::kWidth);
        }
      }
    }
    R2B_INLINE F Load(const uint8_t* from, int r) const {
      const float* at = reinterpret_cast<const float*>(from) + r * V::kWidth;
      if constexpr (!kWhole)
        if (r >= R - kUnit) return V::Load(at, last[r - (R - kUnit)]);
      return V::Load(at);
    }
    R2B_INLINE void Store(uint8_t* to, int r, F value) const {
      float* at = reinterpret_cast<float*>(to) + r * V::kWidth;
      if constexpr (!kWhole)
        if (r >= R - kUnit) return V::Store(at, value, last[r - (R - kUnit)]);
      V::Store(at, value);
    }
  };

  // Groups need not hold whole words, so a block's bits may begin inside one. Blocks come in ascending order: the one
  // that begins a word assigns it, later ones add to it.
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

  // v = apply(v, operand); one vector over the channels is loaded once for all pixels.
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

  // Maxima over columns, in windows of width 3 and stride 2, taken in registers. The last window that began before
  // pixel x also contains the first kBegun (1 or 2) of the P pixels.
  template <bool kWhole, int kBegun, int P, int R>
  static R2B_INLINE void MaxColumns(F (&v)[P][R], const Pixel<kWhole, R>& memory, const Stage& stage, int x, int c) {
    uint8_t* out = stage.out + Channel(c, stage.gap);
    const int begun = (x + stage.before + 1) / 2 - 1;  // the last window that began before
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

  // Not inlined: kernels hold their sums in registers, of which the logistic function wants many.
  static __attribute__((noinline)) void Logistic(F* v, int count, bool times) {
    for (int i = 0; i < count; ++i) {
      const F sigma = Exponential<V>::Logistic(v[i]);
      v[i] = times ? V::Mul(v[i], sigma) : sigma;
    }
  }

  // Signs of P pixels, packed.
  template <int P, int R>
  static R2B_INLINE void StoreBits(F (&v)[P][R], const Stage& stage, uint8_t* out, int c, int valid) {
    const ptrdiff_t pixel = stage.pixel;
    const bool whole = c % 32 == 0 && valid >= kBlock;
    if (whole) out += c / 8;
    R2B_UNROLL
    for (int p = 0; p < P; ++p) {
      uint32_t bits = 0;
      R2B_UNROLL
      for (int r = 0; r < R; ++r) bits |= V::NegativeMask(v[p][r]) << (r * V::kWidth);
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
    // A size that is known is two stores of vectors; any other is a call.
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

  // Runs a stage over P pixels from `x` and, from `c`, the channels of a block: all or, not kWhole, the first `valid`.
  // (Only tensors of whole blocks have gaps.)
  template <Stage::Kind kKind, bool kWhole, int P, int R>
  static R2B_INLINE void Run(F (&v)[P][R], const Pixel<kWhole, R>& memory, const Stage& stage, int x, int c,
                             int valid) {
    const ptrdiff_t pixel = stage.pixel, at = x * pixel;
    const uint8_t* in = stage.in + at + Channel(c, stage.gap);
    const auto operand = [&](auto apply) R2B_LAMBDA { WithOperand<kWhole>(v, memory, in, pixel, apply); };
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

  // A list of stages that is known when the code is compiled.
  template <Stage::Kind... kKinds>
  struct Listed {
    static constexpr int kCount = sizeof...(kKinds);
    static R2B_INLINE bool Is(const Epilogue& epilogue) {
      if (epilogue.count != kCount) return false;
      constexpr Stage::Kind kinds[] = {kKinds...};
      bool same = true;
      R2B_UNROLL
      for (int s = 0; s < kCount; ++s) same &= epilogue.stages[s].kind == kinds[s];
      return same;
    }
    template <bool kWhole, int P, int R>
    static R2B_INLINE void Run(F (&v)[P][R], const Pixel<kWhole, R>& memory, const Stage* stage, int x, int c) {
      (Tile::Run<kKinds>(v, memory, *stage++, x, c, kBlock), ...);
    }
  };
  // What follows a binary convolution of this project's networks.
  using Gated = Listed<Stage::kMul, Stage::kPreluMax, Stage::kAdd, Stage::kStoreFloat, Stage::kMul, Stage::kAdd,
                       Stage::kStoreBits, Stage::kSum>;

  template <bool kWhole, int P, int R>
  static R2B_INLINE void Stages(F (&v)[P][R], const Epilogue& epilogue, int x, int c, int valid = kBlock) {
    const Pixel<kWhole, R> memory(valid);
    if constexpr (kWhole && P > 1)
      if (Gated::Is(epilogue)) return Gated::Run(v, memory, epilogue.stages, x, c);
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

  // The stages over any number of pixels of a partial block, a few at a time. Not inlined, so that there is one for
  // each number of registers, whatever the tiles.
  template <int R>
  static __attribute__((noinline)) void PartialStages(const F (*values)[R], int pixels, const Epilogue& epilogue, int x,
                                                      int c, int valid) {
    constexpr int P = V::PartPixels(R);
    int done = 0;
    for (; done + P <= pixels; done += P) {
      F v[P][R];
      R2B_TILE(v[p][r] = values[done + p][r]);
      Stages<false>(v, epilogue, x + done, c, valid);
    }
    if constexpr (P > 1)
      for (; done < pixels; ++done) {
        F v[1][R];
        R2B_UNROLL
        for (int r = 0; r < R; ++r) v[0][r] = values[done][r];
        Stages<false>(v, epilogue, x + done, c, valid);
      }
  }

#if defined(R2B_STAGES_APART)
  // One for all kernels, where the including file wants little code more than the last bit of speed.
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

  // Adds to the pixels at a border what padding changes, `unit` times: whole numbers or halves, without rounding. `c`
  // counts from row.channel0.
  template <int P, int R>
  static R2B_INLINE void Correct(F (&v)[P][R], const BconvRow& row, int x, int c, float unit) {
    if (!row.corrections) return;
    uintptr_t any = 0;  // one branch where no pixel has a correction, as in most tiles
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

  // From popcounts (already as floats, times two) to the convolution's output.
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

  // The same where row.unscaled, from popcounts as floats: bias - 2 * popcount is rounded once either way.
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
