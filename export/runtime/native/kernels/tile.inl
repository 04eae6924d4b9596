// Row kernels written once over a vector type; each instruction set's file includes this with its own type, inside an
// unnamed namespace, so that no function compiled with one set of flags can be linked in place of another.
//
// The vector type V gives: kWidth; F (register); Load/Store (unaligned); Set1, Repeat4 (four floats, again and again),
// Zero, Mul, Add, Max, Min, Fma; how many pixels or groups of dense outputs fit its registers (kFconvPixels, ...);
// Prelu(v, a); NegativeMask(v), one bit per lane; FromCounts(...) is left to the accumulating kernels.
//
// The last block of a row of channels may be partial. Its lanes beyond `valid` are computed like the others (weights
// and vectors are padded) but neither loaded from nor stored to memory that belongs to a neighbour.

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
#define R2B_TILE(statement) R2B_UNROLL for (int p = 0; p < P; ++p) R2B_UNROLL for (int r = 0; r < kRegs; ++r) statement
// clang-format on

template <class V>
struct Tile {
  static constexpr int kRegs = kBlock / V::kWidth;
  using F = typename V::F;

  // Bytes from channel 0 to channel c.
  static R2B_INLINE ptrdiff_t Channel(int c, ptrdiff_t gap) {
    return c * ptrdiff_t(sizeof(float)) + ptrdiff_t(unsigned(c) / kBlock) * gap;
  }

  static R2B_INLINE F Operand(const uint8_t* in, int r) {
    return V::Load(reinterpret_cast<const float*>(in) + r * V::kWidth);
  }

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

  static void StoreInt8(int8_t* out, const float* lanes, int valid) {
    for (int i = 0; i < valid; ++i) {
      const float v = lanes[i];
      const float whole = __builtin_truncf(v);
      const float away = v - whole >= 0.5f ? whole + 1 : v - whole <= -0.5f ? whole - 1 : whole;
      out[i] = away > 127 ? 127 : away >= -128 ? int8_t(away) : -128;
    }
  }

  // v = apply(v, operand); one vector over the channels is loaded once for all pixels.
  template <int P, class Apply>
  static R2B_INLINE void WithOperand(F (&v)[P][kRegs], const uint8_t* in, ptrdiff_t pixel, Apply apply) {
    if (pixel == 0) {
      R2B_UNROLL
      for (int r = 0; r < kRegs; ++r) {
        const F operand = Operand(in, r);
        R2B_UNROLL
        for (int p = 0; p < P; ++p) v[p][r] = apply(v[p][r], operand);
      }
    } else {
      R2B_TILE(v[p][r] = apply(v[p][r], Operand(in + p * pixel, r)));
    }
  }

  // Calls take(window, whether this is its first pixel) for the windows, three wide and two apart, that have pixel x.
  template <class Take>
  static R2B_INLINE void WindowsOf(const Stage& stage, int x, Take take) {
    const int at = x + stage.before, window = at / 2;
    if (at % 2 == 0 && x > 0 && window - 1 < stage.windows) take(window - 1, false);
    if (window < stage.windows) take(window, at % 2 == 0 || x == 0);
  }
  // For P pixels the maxima are taken in registers. A window that began before has their first pixel, or two.
  template <int P, int kBegun>
  static R2B_INLINE void MaxColumns(F (&v)[P][kRegs], const Stage& stage, int x, int c) {
    uint8_t* out = stage.out + Channel(c, stage.gap);
    const int begun = (x + stage.before + 1) / 2 - 1;  // the last window that began before
    if (begun >= 0 && begun < stage.windows) {
      R2B_UNROLL
      for (int r = 0; r < kRegs; ++r) {
        float* to = reinterpret_cast<float*>(out + begun * stage.pixel) + r * V::kWidth;
        F value = x == 0 ? v[0][r] : V::Max(V::Load(to), v[0][r]);
        if constexpr (kBegun == 2 && P > 1) value = V::Max(value, v[1][r]);
        V::Store(to, value);
      }
    }
    R2B_UNROLL
    for (int p = kBegun - 1; p < P; p += 2) {
      const int window = begun + 1 + (p - (kBegun - 1)) / 2;
      if (window >= stage.windows) break;
      R2B_UNROLL
      for (int r = 0; r < kRegs; ++r) {
        F value = v[p][r];
        if (p + 1 < P) value = V::Max(value, v[p + 1][r]);
        if (p + 2 < P) value = V::Max(value, v[p + 2][r]);
        V::Store(reinterpret_cast<float*>(out + window * stage.pixel) + r * V::kWidth, value);
      }
    }
  }

  // Runs the stages over P pixels from `x` and whole blocks of channels from `c`.
  template <int P>
  static R2B_INLINE void Stages(F (&v)[P][kRegs], const Epilogue& epilogue, int x, int c) {
    for (int s = 0; s < epilogue.count; ++s) {
      const Stage& stage = epilogue.stages[s];
      const ptrdiff_t at = x * stage.pixel;
      const uint8_t* in = stage.in + at + Channel(c, stage.gap);
      switch (stage.kind) {
        case Stage::kMul:
          WithOperand<P>(v, in, stage.pixel, [](F value, F operand) R2B_LAMBDA { return V::Mul(value, operand); });
          break;
        case Stage::kMulPixel:
          R2B_TILE(v[p][r] =
                       V::Mul(v[p][r], V::Set1(*reinterpret_cast<const float*>(stage.in + at + p * stage.pixel))));
          break;
        case Stage::kAdd:
          WithOperand<P>(v, in, stage.pixel, [](F value, F operand) R2B_LAMBDA { return V::Add(value, operand); });
          break;
        case Stage::kPrelu:
          WithOperand<P>(v, in, stage.pixel, [](F value, F operand) R2B_LAMBDA { return V::Prelu(value, operand); });
          break;
        case Stage::kPreluMax:
          WithOperand<P>(v, in, stage.pixel,
                         [](F value, F operand) R2B_LAMBDA { return V::Max(value, V::Mul(value, operand)); });
          break;
        case Stage::kClamp: {
          const F lo = V::Set1(stage.lo), hi = V::Set1(stage.hi);
          R2B_TILE(v[p][r] = V::Min(V::Max(v[p][r], lo), hi));
          break;
        }
        case Stage::kStoreFloat: {
          uint8_t* out = stage.out + at + Channel(c, stage.gap);
          R2B_TILE(V::Store(reinterpret_cast<float*>(out + p * stage.pixel) + r * V::kWidth, v[p][r]));
          break;
        }
        case Stage::kStoreBits: {
          uint32_t bits[P] = {};
          R2B_TILE(bits[p] |= V::NegativeMask(v[p][r]) << (r * V::kWidth));
          for (int p = 0; p < P; ++p) {
            uint32_t* words = reinterpret_cast<uint32_t*>(stage.out + at + p * stage.pixel);
            if (c % 32 == 0) words[c / 32] = bits[p];
            else StoreWord(words, c, bits[p], kBlock);
          }
          break;
        }
        case Stage::kStoreInt8: {
          float lanes[P][kBlock];
          R2B_TILE(V::Store(&lanes[p][r * V::kWidth], v[p][r]));
          for (int p = 0; p < P; ++p)
            StoreInt8(reinterpret_cast<int8_t*>(stage.out + at + p * stage.pixel) + c, lanes[p], kBlock);
          break;
        }
        case Stage::kSum: {
          F sum[kRegs];
          float* out = reinterpret_cast<float*>(stage.out) + c;
          R2B_UNROLL
          for (int r = 0; r < kRegs; ++r) sum[r] = V::Load(out + r * V::kWidth);
          R2B_TILE(sum[r] = V::Add(sum[r], v[p][r]));
          R2B_UNROLL
          for (int r = 0; r < kRegs; ++r) V::Store(out + r * V::kWidth, sum[r]);
          break;
        }
        case Stage::kMaxColumns:
          if ((x + stage.before) % 2 == 0) MaxColumns<P, 1>(v, stage, x, c);
          else MaxColumns<P, 2>(v, stage, x, c);
          break;
      }
    }
  }

  // The same for a block of which only `valid` channels exist, one lane at a time: neither loads nor stores may touch a
  // neighbour's memory. (Only tensors of whole blocks have gaps.) It is the last block of a channel count that is no
  // multiple of 32, so it need not be fast.
  static __attribute__((noinline)) void PartialStages(float (*v)[kBlock], int pixels, const Epilogue& epilogue, int x,
                                                      int c, int valid) {
    for (int s = 0; s < epilogue.count; ++s)
      for (int p = 0; p < pixels; ++p) {
        const Stage& stage = epilogue.stages[s];
        const ptrdiff_t at = (x + p) * stage.pixel;
        const float* in = reinterpret_cast<const float*>(stage.in + at) + c;
        float* out = reinterpret_cast<float*>(stage.out + (stage.kind == Stage::kSum ? 0 : at)) + c;
        uint32_t bits = 0;
        for (int i = 0; i < valid; ++i) {
          float& value = v[p][i];
          switch (stage.kind) {
            case Stage::kMul: value *= in[i]; break;
            case Stage::kMulPixel: value *= *reinterpret_cast<const float*>(stage.in + at); break;
            case Stage::kAdd: value += in[i]; break;
            case Stage::kPrelu:
            case Stage::kPreluMax: value = value < 0 ? value * in[i] : value; break;
            case Stage::kClamp:
              value = value > stage.lo ? value : stage.lo;
              value = value < stage.hi ? value : stage.hi;
              break;
            case Stage::kStoreFloat: out[i] = value; break;
            case Stage::kSum: out[i] += value; break;
            case Stage::kStoreBits: bits |= uint32_t(value < 0) << i; break;
            case Stage::kMaxColumns:
              WindowsOf(stage, x + p, [&](int window, bool first) {
                float& to = reinterpret_cast<float*>(stage.out + window * stage.pixel)[c + i];
                to = first || value > to ? value : to;
              });
              break;
            case Stage::kStoreInt8: StoreInt8(reinterpret_cast<int8_t*>(stage.out + at) + c + i, &value, 1); break;
          }
        }
        if (stage.kind == Stage::kStoreBits) StoreWord(reinterpret_cast<uint32_t*>(stage.out + at), c, bits, valid);
      }
  }

  template <int P>
  static R2B_INLINE void RunEpilogue(F (&v)[P][kRegs], const Epilogue& epilogue, int x, int c, int valid) {
    if (valid >= kBlock) return Stages<P>(v, epilogue, x, c);
    float lanes[P][kBlock];
    R2B_TILE(V::Store(&lanes[p][r * V::kWidth], v[p][r]));
    PartialStages(lanes, P, epilogue, x, c, valid);
  }

  // Adds to the pixels at a border what padding changes, `unit` times: whole numbers or halves, without rounding. `c`
  // counts from row.channel0.
  template <int P>
  static R2B_INLINE void Correct(F (&v)[P][kRegs], const BconvRow& row, int x, int c, float unit) {
    if (!row.corrections) return;
    R2B_UNROLL
    for (int p = 0; p < P; ++p)
      if (const float* correction = row.corrections[x + p]) {
        R2B_UNROLL
        for (int r = 0; r < kRegs; ++r)
          v[p][r] = V::Fma(V::Load(correction + row.correction0 + c + r * V::kWidth), V::Set1(unit), v[p][r]);
      }
  }

  // From popcounts (already as floats, times two) to the convolution's output.
  template <int P>
  static R2B_INLINE void Affine(F (&v)[P][kRegs], const BconvRow& row, int x, int c) {
    Correct<P>(v, row, x, c, 1);
    if (row.clamp) {
      R2B_UNROLL
      for (int p = 0; p < P; ++p) {
        R2B_UNROLL
        for (int r = 0; r < kRegs; ++r) v[p][r] = V::Min(V::Max(v[p][r], V::Set1(row.lo)), V::Set1(row.hi));
      }
    }
    R2B_UNROLL
    for (int r = 0; r < kRegs; ++r) {
      const F multiplier = V::Load(row.multiplier + c + r * V::kWidth), bias = V::Load(row.bias + c + r * V::kWidth);
      R2B_UNROLL
      for (int p = 0; p < P; ++p) v[p][r] = V::Add(V::Mul(v[p][r], multiplier), bias);
    }
  }

  // The same where row.unscaled, from popcounts as floats: bias - 2 * popcount is rounded once either way.
  template <int P>
  static R2B_INLINE void Unscaled(F (&v)[P][kRegs], const BconvRow& row, int x, int c) {
    Correct<P>(v, row, x, c, 0.5f);
    R2B_UNROLL
    for (int r = 0; r < kRegs; ++r) {
      const F bias = V::Load(row.bias + c + r * V::kWidth);
      R2B_UNROLL
      for (int p = 0; p < P; ++p) v[p][r] = V::Fma(v[p][r], V::Set1(-2), bias);
    }
  }

  // ---- float convolution: broadcast an input value, multiply by 32 channels' weights ----
  template <int P>
  static __attribute__((noinline)) void FconvTile(const FconvRow& row, const Epilogue& epilogue, int x, int block) {
    F v[P][kRegs];
    R2B_TILE(v[p][r] = V::Load(row.bias + block * kBlock + r * V::kWidth));
    const uint8_t* origin = row.input.origin + x * row.input.pixel;
    const ptrdiff_t pixel = row.input.pixel;
    const float* w =
        reinterpret_cast<const float*>(reinterpret_cast<const uint8_t*>(row.weights) + block * row.block_bytes);
    for (int s = 0; s < row.input.segments; ++s) {
      // Three pixels share a base register: x86 addresses base, base + pixel and base + 2 * pixel alike, and P
      // pointers would not fit the integer registers.
      const uint8_t* base[(P + 2) / 3];
      R2B_UNROLL
      for (int b = 0; b < (P + 2) / 3; ++b) base[b] = origin + row.input.segment[s] + 3 * b * pixel;
      for (int i = 0; i < row.input.length; ++i, w += kBlock) {
        F weight[kRegs];
        R2B_UNROLL
        for (int r = 0; r < kRegs; ++r) weight[r] = V::Load(w + r * V::kWidth);
        R2B_UNROLL
        for (int p = 0; p < P; ++p) {
          const F value = V::Set1(*reinterpret_cast<const float*>(base[p / 3] + (p % 3) * pixel));
          R2B_UNROLL
          for (int r = 0; r < kRegs; ++r) v[p][r] = V::Fma(value, weight[r], v[p][r]);
        }
        R2B_UNROLL
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
  template <bool kMaximum>
  static R2B_INLINE void Take(const uint8_t* at, F (&value)[kRegs]) {
    R2B_UNROLL
    for (int r = 0; r < kRegs; ++r)
      value[r] = kMaximum ? V::Max(value[r], Operand(at, r)) : V::Add(value[r], Operand(at, r));
  }
  // kRows x kColumns is the window where it is of a common size; 0: what the row says.
  template <bool kMaximum, int kRows, int kColumns>
  static R2B_INLINE void Window(const PoolRow& row, ptrdiff_t first, int columns, F (&value)[kRegs]) {
    R2B_UNROLL
    for (int r = 0; r < kRegs; ++r) value[r] = kMaximum ? Operand(row.lines[0] + first, r) : V::Zero();
    if constexpr (kRows > 0) {
      R2B_UNROLL
      for (int j = 0; j < kRows; ++j) {
        R2B_UNROLL
        for (int i = 0; i < kColumns; ++i) Take<kMaximum>(row.lines[j] + first + i * row.pixel, value);
      }
    } else {
      for (int j = 0; j < row.rows; ++j)
        for (int i = 0; i < columns; ++i) Take<kMaximum>(row.lines[j] + first + i * row.pixel, value);
    }
  }
  template <int P>
  static R2B_INLINE void PoolTile(const PoolRow& row, const Epilogue& epilogue, int x, int c) {
    F v[P][kRegs];
    R2B_UNROLL
    for (int p = 0; p < P; ++p) {
      const int begin = row.begin[x + p], columns = row.end[x + p] - begin;
      const ptrdiff_t first = Channel(c, row.gap) + begin * row.pixel;
      if (row.maximum) {
        if (row.rows == 3 && columns == 1) Window<true, 3, 1>(row, first, columns, v[p]);
        else if (row.rows == 3 && columns == 3) Window<true, 3, 3>(row, first, columns, v[p]);
        else Window<true, 0, 0>(row, first, columns, v[p]);
        continue;
      }
      if (row.rows == 2 && columns == 2) Window<false, 2, 2>(row, first, columns, v[p]);
      else Window<false, 0, 0>(row, first, columns, v[p]);
      const F area = V::Set1(float(row.rows * columns));
      R2B_UNROLL
      for (int r = 0; r < kRegs; ++r) v[p][r] = V::Div(v[p][r], area);
    }
    Stages<P>(v, epilogue, x, c);
  }
  static __attribute__((noinline)) void PartialPool(const PoolRow& row, const Epilogue& epilogue, int c) {
    for (int x = 0; x < row.width; ++x) {
      float v[1][kBlock];
      const int begin = row.begin[x], end = row.end[x], valid = row.end_channel - c;
      for (int lane = 0; lane < valid; ++lane) {
        const ptrdiff_t first = (c + lane) * ptrdiff_t(sizeof(float)) + begin * row.pixel;
        float value = row.maximum ? *reinterpret_cast<const float*>(row.lines[0] + first) : 0.0f;
        for (int j = 0; j < row.rows; ++j)
          for (int i = 0; i < end - begin; ++i) {
            const float next = *reinterpret_cast<const float*>(row.lines[j] + first + i * row.pixel);
            value = row.maximum ? (next > value ? next : value) : value + next;
          }
        v[0][lane] = row.maximum ? value : value / float(row.rows * (end - begin));
      }
      PartialStages(v, 1, epilogue, x, c, valid);
    }
  }
  static void Pool(const PoolRow& row, const Epilogue& epilogue) {
    int c = row.begin_channel;
    for (; c + kBlock <= row.end_channel; c += kBlock) {
      int x = 0;
      for (; x + V::kPlainPixels <= row.width; x += V::kPlainPixels) PoolTile<V::kPlainPixels>(row, epilogue, x, c);
      for (; x < row.width; ++x) PoolTile<1>(row, epilogue, x, c);
    }
    if (c < row.end_channel) PartialPool(row, epilogue, c);
  }

  // ---- plain loads: an epilogue on a tensor that already exists ----
  template <int P>
  static R2B_INLINE void LoadTile(const LoadRow& row, const Epilogue& epilogue, int x, int c) {
    F v[P][kRegs];
    R2B_TILE(v[p][r] = Operand(row.origin + (x + p) * row.pixel + Channel(c, row.gap), r));
    Stages<P>(v, epilogue, x, c);
  }
  static void Plain(const LoadRow& row, const Epilogue& epilogue) {
    int c = 0;
    for (; c + kBlock <= row.channels; c += kBlock) {
      int x = 0;
      for (; x + V::kPlainPixels <= row.width; x += V::kPlainPixels) LoadTile<V::kPlainPixels>(row, epilogue, x, c);
      for (; x < row.width; ++x) LoadTile<1>(row, epilogue, x, c);
    }
    if (c < row.channels)
      for (int x = 0; x < row.width; ++x) {
        float v[1][kBlock];
        for (int i = 0; i < row.channels - c; ++i)
          v[0][i] = reinterpret_cast<const float*>(row.origin + x * row.pixel)[c + i];
        PartialStages(v, 1, epilogue, x, c, row.channels - c);
      }
  }

  // ---- dense ----
  // Four lanes, products and sums rounded apart, lanes added in pairs: TensorFlow Lite's order. Weights lie as
  // PackDense leaves them; groups of eight outputs side by side hide the latency of their additions.
  template <int kGroups>
  static R2B_INLINE void DenseGroups(const float* x, const float* packed, int inputs, int count, float* y) {
    constexpr int kGroupRegs = 4 * kDenseGroup / V::kWidth;
    const ptrdiff_t group = ptrdiff_t(inputs) * kDenseGroup;
    F sum[kGroups][kGroupRegs];
    R2B_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      R2B_UNROLL
      for (int r = 0; r < kGroupRegs; ++r) sum[g][r] = V::Zero();
    }
    int i = 0;
    for (; i + 4 <= inputs; i += 4) {
      const F value = V::Repeat4(x + i);
      R2B_UNROLL
      for (int g = 0; g < kGroups; ++g) {
        R2B_UNROLL
        for (int r = 0; r < kGroupRegs; ++r)
          sum[g][r] = V::Add(sum[g][r], V::Mul(value, V::Load(packed + g * group + i * kDenseGroup + r * V::kWidth)));
      }
    }
    float lanes[kGroups * kDenseGroup][4];
    R2B_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      R2B_UNROLL
      for (int r = 0; r < kGroupRegs; ++r) V::Store(&lanes[g * kDenseGroup][0] + r * V::kWidth, sum[g][r]);
    }
    for (int o = 0; o < count; ++o) {
      float total = (lanes[o][0] + lanes[o][1]) + (lanes[o][2] + lanes[o][3]);
      for (int j = i; j < inputs; ++j)
        total += x[j] * packed[o / kDenseGroup * group + j * kDenseGroup + o % kDenseGroup];
      y[o] = total;
    }
  }
  static void Dense(const float* x, const float* packed, int inputs, int begin, int end, float* y) {
    constexpr int kOutputs = V::kDenseGroups * kDenseGroup;
    int o = begin;
    for (; o + kOutputs <= end; o += kOutputs)
      DenseGroups<V::kDenseGroups>(x, packed + ptrdiff_t(o) * inputs, inputs, kOutputs, y + o);
    for (; o < end; o += kDenseGroup)
      DenseGroups<1>(x, packed + ptrdiff_t(o) * inputs, inputs, end - o < kDenseGroup ? end - o : kDenseGroup, y + o);
  }

  // ---- weights of a training step ----
  // Compilers vectorise it for the instruction set of the file.
  static void PackSigns(const float* weights, int channels, int outputs, uint32_t* words) {
    for (int o = 0; o < outputs; ++o) words[o] = 0;
    for (int i = 0; i < channels; ++i, weights += outputs)
      for (int o = 0; o < outputs; ++o) words[o] |= uint32_t(weights[o] < 0) << i;
  }

  // ---- logistic ----
  // 1 / (1 + exp(-x)) through e = exp(-|x|) as e / (1 + e), or 1 minus that for x >= 0. With m = round(32 * z / ln 2),
  // z = -|x|: exp(z) = 2^(m >> 5) * 2^((m & 31) / 32) * exp(t), where t = z - m * ln 2 / 32 is small enough for a
  // parabola. Adding and subtracting 1.5 * 2^18, whose last bit is worth 1/32, rounds. (XNNPACK's method and constants
  // on AVX-512.)
  struct PowersOfTwo {
    float table[32];
    PowersOfTwo() {
      for (int k = 0; k < 32; ++k) table[k] = float(__builtin_exp2(k / 32.0));
    }
  };
  static void Logistic(const float* x, int64_t count, float* y) {
    static const PowersOfTwo powers;
    const float round = 393216.0f;
    for (int64_t i = 0; i < count; i += V::kWidth) {
      const int lanes = count - i < V::kWidth ? int(count - i) : V::kWidth;
      float z[V::kWidth] = {}, m[V::kWidth], fraction[V::kWidth], whole[V::kWidth], e[V::kWidth];
      for (int l = 0; l < lanes; ++l) z[l] = x[i + l] < 0 ? x[i + l] : -x[i + l];
      const F rounded = V::Fma(V::Load(z), V::Set1(0x1.715476p0f), V::Set1(round));
      V::Store(m, rounded);
      for (int l = 0; l < V::kWidth; ++l) {
        int32_t bits, base;
        __builtin_memcpy(&bits, &m[l], 4);
        __builtin_memcpy(&base, &round, 4);
        const int32_t steps = z[l] > -100 ? bits - base : -100 * 47;  // below, exp() is 0 in all that follows
        fraction[l] = powers.table[steps & 31];
        const uint32_t exponent = (steps >> 5) > -127 ? uint32_t(127 + (steps >> 5)) << 23 : 0;
        __builtin_memcpy(&whole[l], &exponent, 4);
      }
      const F n = V::Add(rounded, V::Set1(-round));
      F t = V::Fma(n, V::Set1(-0x1.62e43p-1f), V::Load(z));
      t = V::Fma(n, V::Set1(0x1.05c61p-29f), t);
      const F p = V::Fma(t, V::Set1(0.5f), V::Set1(0x1.0000f6p0f)), f = V::Load(fraction);
      V::Store(e, V::Mul(V::Fma(V::Mul(t, f), p, f), V::Load(whole)));
      for (int l = 0; l < lanes; ++l) {
        const float s = e[l] / (e[l] + 1.0f);
        y[i + l] = x[i + l] >= 0 ? 1.0f - s : s;
      }
    }
  }
};
