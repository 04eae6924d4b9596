// Row kernels written once over a vector type; each instruction set's file includes this with its own type, inside an
// unnamed namespace, so that no function compiled with one set of flags can be linked in place of another.
//
// The vector type V gives: kWidth; F (register); Load/Store (unaligned); Set1, Zero, Mul, Add, Max, Min, Fma;
// Prelu(v, a); NegativeMask(v), one bit per lane; FromCounts(...) is left to the accumulating kernels.
//
// The last block of a row of channels may be partial. Its lanes beyond `valid` are computed like the others (weights
// and vectors are padded) but neither loaded from nor stored to memory that belongs to a neighbour.

#define R2B_INLINE inline __attribute__((always_inline))

template <class V>
struct Tile {
  static constexpr int kRegs = kBlock / V::kWidth;
  using F = typename V::F;

  static R2B_INLINE F LoadPart(const float* p, int valid) {
    float lanes[V::kWidth] = {};
    for (int i = 0; i < V::kWidth && i < valid; ++i) lanes[i] = p[i];
    return V::Load(lanes);
  }
  static R2B_INLINE void StorePart(float* p, F v, int valid) {
    float lanes[V::kWidth];
    V::Store(lanes, v);
    for (int i = 0; i < V::kWidth && i < valid; ++i) p[i] = lanes[i];
  }
  template <bool kPartial>
  static R2B_INLINE F LoadLanes(const float* p, int valid) {
    return kPartial ? LoadPart(p, valid) : V::Load(p);
  }

  // Groups need not hold whole words, so a block's bits may begin inside one. Blocks come in ascending order: the one
  // that begins a word assigns it, later ones add to it.
  static R2B_INLINE void StoreWord(uint32_t* words, int channel, uint32_t bits, int valid) {
    const int word = channel / 32, shift = channel % 32;
    if (valid < 32) bits &= (uint32_t(1) << valid) - 1;
    if (shift == 0) {
      words[word] = bits;
    } else {
      words[word] |= bits << shift;
      if (shift + valid > 32) words[word + 1] = bits >> (32 - shift);
    }
  }

  static void StoreInt8(int8_t* out, const float* lanes, int valid) {
    for (int i = 0; i < valid; ++i) {
      const float v = lanes[i];
      const float whole = __builtin_truncf(v);
      const float away = v - whole >= 0.5f ? whole + 1 : v - whole <= -0.5f ? whole - 1 : whole;
      out[i] = away > 127 ? 127 : away >= -128 ? int8_t(away) : -128;
    }
  }

  // Runs the stages over P pixels from `x`, channels from `c`, of which `valid` exist.
  template <int P, bool kPartial>
  static R2B_INLINE void Stages(F (&v)[P][kRegs], const Epilogue& epilogue, int x, int c, int valid) {
    for (int s = 0; s < epilogue.count; ++s) {
      const Stage& stage = epilogue.stages[s];
      const uint8_t* in = stage.in + x * stage.pixel + c * ptrdiff_t(sizeof(float));
      switch (stage.kind) {
        case Stage::kMul:
          for (int p = 0; p < P; ++p)
            for (int r = 0; r < kRegs; ++r)
              v[p][r] = V::Mul(v[p][r], Operand<kPartial>(in + p * stage.pixel, r, valid));
          break;
        case Stage::kAdd:
          for (int p = 0; p < P; ++p)
            for (int r = 0; r < kRegs; ++r)
              v[p][r] = V::Add(v[p][r], Operand<kPartial>(in + p * stage.pixel, r, valid));
          break;
        case Stage::kPrelu:
          for (int p = 0; p < P; ++p)
            for (int r = 0; r < kRegs; ++r)
              v[p][r] = V::Prelu(v[p][r], Operand<kPartial>(in + p * stage.pixel, r, valid));
          break;
        case Stage::kClamp:
          for (int p = 0; p < P; ++p)
            for (int r = 0; r < kRegs; ++r)
              v[p][r] = V::Min(V::Max(v[p][r], V::Set1(stage.lo)), V::Set1(stage.hi));
          break;
        case Stage::kStoreFloat:
          for (int p = 0; p < P; ++p)
            for (int r = 0; r < kRegs; ++r) {
              float* out = reinterpret_cast<float*>(stage.out + (x + p) * stage.pixel) + c + r * V::kWidth;
              if (kPartial) StorePart(out, v[p][r], valid - r * V::kWidth);
              else V::Store(out, v[p][r]);
            }
          break;
        case Stage::kStoreBits:
          for (int p = 0; p < P; ++p) {
            uint32_t bits = 0;
            for (int r = 0; r < kRegs; ++r) bits |= V::NegativeMask(v[p][r]) << (r * V::kWidth);
            StoreWord(reinterpret_cast<uint32_t*>(stage.out + (x + p) * stage.pixel), c, bits, valid);
          }
          break;
        case Stage::kStoreInt8:
          for (int p = 0; p < P; ++p) {
            float lanes[kBlock];
            for (int r = 0; r < kRegs; ++r) V::Store(lanes + r * V::kWidth, v[p][r]);
            StoreInt8(reinterpret_cast<int8_t*>(stage.out + (x + p) * stage.pixel) + c, lanes, valid);
          }
          break;
        case Stage::kSum:
          for (int r = 0; r < kRegs; ++r) {
            F sum = v[0][r];
            for (int p = 1; p < P; ++p) sum = V::Add(sum, v[p][r]);
            float* out = reinterpret_cast<float*>(stage.out) + c + r * V::kWidth;
            if (kPartial) StorePart(out, V::Add(sum, LoadPart(out, valid - r * V::kWidth)), valid - r * V::kWidth);
            else V::Store(out, V::Add(sum, V::Load(out)));
          }
          break;
      }
    }
  }

  template <bool kPartial>
  static R2B_INLINE F Operand(const uint8_t* in, int r, int valid) {
    return LoadLanes<kPartial>(reinterpret_cast<const float*>(in) + r * V::kWidth, valid - r * V::kWidth);
  }

  template <int P>
  static R2B_INLINE void RunEpilogue(F (&v)[P][kRegs], const Epilogue& epilogue, int x, int c, int valid) {
    if (valid >= kBlock) Stages<P, false>(v, epilogue, x, c, kBlock);
    else Stages<P, true>(v, epilogue, x, c, valid);
  }

  // From popcounts (already as floats, times two) to the convolution's output. `c` counts from row.channel0.
  template <int P>
  static R2B_INLINE void Affine(F (&v)[P][kRegs], const BconvRow& row, int x, int c) {
    if (row.before)
      for (int p = 0; p < P; ++p)
        if (const float* before = row.before[x + p])
          for (int r = 0; r < kRegs; ++r) v[p][r] = V::Add(v[p][r], V::Load(before + row.correction0 + c + r * V::kWidth));
    if (row.clamp)
      for (int p = 0; p < P; ++p)
        for (int r = 0; r < kRegs; ++r)
          v[p][r] = V::Min(V::Max(v[p][r], V::Set1(row.lo)), V::Set1(row.hi));
    for (int r = 0; r < kRegs; ++r) {
      const F multiplier = V::Load(row.multiplier + c + r * V::kWidth), bias = V::Load(row.bias + c + r * V::kWidth);
      for (int p = 0; p < P; ++p) v[p][r] = V::Add(V::Mul(v[p][r], multiplier), bias);
    }
    if (row.after)
      for (int p = 0; p < P; ++p)
        if (const float* after = row.after[x + p])
          for (int r = 0; r < kRegs; ++r) v[p][r] = V::Add(v[p][r], V::Load(after + row.correction0 + c + r * V::kWidth));
  }

  // ---- float convolution: broadcast an input value, multiply by 32 channels' weights ----
  template <int P>
  static __attribute__((noinline)) void FconvTile(const FconvRow& row, const Epilogue& epilogue, int x, int block) {
    F v[P][kRegs];
    for (int p = 0; p < P; ++p)
      for (int r = 0; r < kRegs; ++r) v[p][r] = V::Zero();
    const uint8_t* origin = row.input.origin + x * row.input.pixel;
    const ptrdiff_t pixel = row.input.pixel;
    const float* w = reinterpret_cast<const float*>(reinterpret_cast<const uint8_t*>(row.weights) + block * row.block_bytes);
    for (int s = 0; s < row.input.segments; ++s) {
      // Three pixels share a base register: x86 addresses base, base + pixel and base + 2 * pixel alike, and P
      // pointers would not fit the integer registers.
      const uint8_t* base[(P + 2) / 3];
      for (int b = 0; b < (P + 2) / 3; ++b) base[b] = origin + row.input.segment[s] + 3 * b * pixel;
      for (int i = 0; i < row.input.length; ++i, w += kBlock) {
        F weight[kRegs];
        for (int r = 0; r < kRegs; ++r) weight[r] = V::Load(w + r * V::kWidth);
        for (int p = 0; p < P; ++p) {
          const F value = V::Set1(*reinterpret_cast<const float*>(base[p / 3] + (p % 3) * pixel));
          for (int r = 0; r < kRegs; ++r) v[p][r] = V::Fma(value, weight[r], v[p][r]);
        }
        for (int b = 0; b < (P + 2) / 3; ++b) base[b] += sizeof(float);
      }
    }
    const int c = block * kBlock, left = row.channels - c;
    RunEpilogue<P>(v, epilogue, x, row.channel0 + c, left);
  }

  template <int P>
  static void FconvTiles(const FconvRow& row, const Epilogue& epilogue, int x, int block) {
    for (; x + P <= row.width; x += P) FconvTile<P>(row, epilogue, x, block);
    if constexpr (P > 1) FconvTiles<P / 2>(row, epilogue, x, block);
  }
  static void Fconv(const FconvRow& row, const Epilogue& epilogue) {
    for (int block = 0; block * kBlock < row.channels; ++block) FconvTiles<V::kFconvPixels>(row, epilogue, 0, block);
  }

  // ---- windows ----
  template <int P, bool kPartial>
  static R2B_INLINE void PoolTile(const PoolRow& row, const Epilogue& epilogue, int x, int c) {
    const int valid = row.channels - c;
    F v[P][kRegs];
    for (int p = 0; p < P; ++p) {
      const int begin = row.begin[x + p], end = row.end[x + p];
      const uint8_t* line = row.origin + c * ptrdiff_t(sizeof(float)) + begin * row.pixel;
      for (int r = 0; r < kRegs; ++r) v[p][r] = row.maximum ? Operand<kPartial>(line, r, valid) : V::Zero();
      for (int j = 0; j < row.rows; ++j, line += row.row) {
        const uint8_t* at = line;
        for (int i = begin; i < end; ++i, at += row.pixel)
          for (int r = 0; r < kRegs; ++r) {
            const F value = Operand<kPartial>(at, r, valid);
            v[p][r] = row.maximum ? V::Max(v[p][r], value) : V::Add(v[p][r], value);
          }
      }
      if (!row.maximum) {
        const F area = V::Set1(float(row.rows * (end - begin)));
        for (int r = 0; r < kRegs; ++r) v[p][r] = V::Div(v[p][r], area);
      }
    }
    Stages<P, kPartial>(v, epilogue, x, c, kPartial ? valid : kBlock);
  }
  static void Pool(const PoolRow& row, const Epilogue& epilogue) {
    for (int c = 0; c < row.channels; c += kBlock) {
      int x = 0;
      if (row.channels - c >= kBlock) {
        for (; x + V::kPlainPixels <= row.width; x += V::kPlainPixels) PoolTile<V::kPlainPixels, false>(row, epilogue, x, c);
        for (; x < row.width; ++x) PoolTile<1, false>(row, epilogue, x, c);
      } else {
        for (; x < row.width; ++x) PoolTile<1, true>(row, epilogue, x, c);
      }
    }
  }

  // ---- plain loads: an epilogue on a tensor that already exists ----
  template <int P, bool kPartial>
  static R2B_INLINE void LoadTile(const LoadRow& row, const Epilogue& epilogue, int x, int c) {
    const int valid = row.channels - c;
    F v[P][kRegs];
    for (int p = 0; p < P; ++p)
      for (int r = 0; r < kRegs; ++r)
        v[p][r] = Operand<kPartial>(row.origin + (x + p) * row.pixel + c * ptrdiff_t(sizeof(float)), r, valid);
    Stages<P, kPartial>(v, epilogue, x, c, kPartial ? valid : kBlock);
  }
  static void Plain(const LoadRow& row, const Epilogue& epilogue) {
    for (int c = 0; c < row.channels; c += kBlock) {
      int x = 0;
      if (row.channels - c >= kBlock) {
        for (; x + V::kPlainPixels <= row.width; x += V::kPlainPixels) LoadTile<V::kPlainPixels, false>(row, epilogue, x, c);
        for (; x < row.width; ++x) LoadTile<1, false>(row, epilogue, x, c);
      } else {
        for (; x < row.width; ++x) LoadTile<1, true>(row, epilogue, x, c);
      }
    }
  }

  // ---- dense ----
  static void Dense(const float* x, const float* w, int inputs, int begin, int end, float* y) {
    for (int o = begin; o < end; ++o) {
      const float* row = w + ptrdiff_t(o) * inputs;
      F sum[2] = {V::Zero(), V::Zero()};
      int i = 0;
      for (; i + 2 * V::kWidth <= inputs; i += 2 * V::kWidth) {
        sum[0] = V::Fma(V::Load(x + i), V::Load(row + i), sum[0]);
        sum[1] = V::Fma(V::Load(x + i + V::kWidth), V::Load(row + i + V::kWidth), sum[1]);
      }
      float lanes[V::kWidth];
      V::Store(lanes, V::Add(sum[0], sum[1]));
      float total = 0;
      for (int lane = 0; lane < V::kWidth; ++lane) total += lanes[lane];
      for (; i < inputs; ++i) total += x[i] * row[i];
      y[o] = total;
    }
  }
};
