// Row kernels for float convolutions, depthwise convolutions, pooling, and epilogues on tensors that already exist.
// They are written once, as templates over a vector type V (tile.inl).

template <class V>
struct Rows {
  using T = Tile<V>;
  using F = typename V::F;
  static constexpr int kRegs = T::kRegs;

  // ---- float convolution: multiply each input value by the weights of a block of output channels ----
  template <bool kWhole, int P, int R>
  static __attribute__((noinline)) void FconvTile(const FconvRow& row, const Epilogue& epilogue, int x, int block) {
    F v[P][R];
    R2B_TILE(v[p][r] = V::Load(row.bias + block * kBlock + r * V::kWidth));
    const uint8_t* origin = row.input.origin + x * row.input.pixel;
    const ptrdiff_t pixel = row.input.pixel;
    const float* w =
        reinterpret_cast<const float*>(reinterpret_cast<const uint8_t*>(row.weights) + block * row.block_bytes);
    for (int s = 0; s < row.input.segments; ++s) {
      // Three pixels share a base register, since P pointers would not fit the integer registers. x86 reaches base +
      // pixel and base + 2 * pixel without extra instructions.
      const uint8_t* base[(P + 2) / 3];
      R2B_UNROLL
      for (int b = 0; b < (P + 2) / 3; ++b) base[b] = origin + row.input.segment[s] + 3 * b * pixel;
      for (int i = 0; i < row.input.length; ++i, w += kBlock) {
        F weight[R];
        R2B_UNROLL
        for (int r = 0; r < R; ++r) weight[r] = V::Load(w + r * V::kWidth);
        R2B_UNROLL
        for (int p = 0; p < P; ++p) {
          const F value = V::Set1(*reinterpret_cast<const float*>(base[p / 3] + (p % 3) * pixel));
          R2B_UNROLL
          for (int r = 0; r < R; ++r) v[p][r] = V::Fma(value, weight[r], v[p][r]);
        }
        R2B_UNROLL
        for (int b = 0; b < (P + 2) / 3; ++b) base[b] += sizeof(float);
      }
    }
    const int c = block * kBlock;
    T::template RunEpilogue<kWhole>(v, epilogue, x, row.channel0 + c, row.channels - c);
  }

  template <bool kWhole, int P, int R>
  static void FconvTiles(const FconvRow& row, const Epilogue& epilogue, int x, int block) {
    for (; x + P <= row.width; x += P) FconvTile<kWhole, P, R>(row, epilogue, x, block);
    if constexpr (P > 1) FconvTiles<kWhole, (P + 1) / 2, R>(row, epilogue, x, block);
  }
  static void Fconv(const FconvRow& row, const Epilogue& epilogue) {
    const int whole = row.channels / kBlock, left = row.channels % kBlock;
    for (int block = 0; block < whole; ++block) FconvTiles<true, V::FconvPixels(kRegs), kRegs>(row, epilogue, 0, block);
    if (left)
      T::ForRegisters(left, [&](auto registers) {
        constexpr int R = registers.kCount;
        FconvTiles<false, V::FconvPixels(R), R>(row, epilogue, 0, whole);
      });
  }

  // ---- depthwise convolution: each channel has its own weights ----
  template <class Memory, int P, int R>
  static R2B_INLINE void DepthwiseTaps(const DepthwiseRow& row, const Memory& memory, const uint8_t* origin,
                                       const float* w, F (&v)[P][R]) {
    for (int t = 0; t < row.taps; ++t, w += kBlock) {
      const uint8_t* at = origin + row.tap[t];
      R2B_UNROLL
      for (int r = 0; r < R; ++r) {
        F weight = V::Load(w + r * V::kWidth);
        V::Keep(weight);
        R2B_UNROLL
        for (int p = 0; p < P; ++p) v[p][r] = V::Add(v[p][r], V::Mul(memory.Load(at + p * row.pixel, r), weight));
      }
    }
  }
  // Does the same as DepthwiseTaps() for kernels of width 3 (row.threes), but loads each value only once, although up
  // to three taps read it.
  template <class Memory, int P, int R>
  static R2B_INLINE void DepthwiseThrees(const DepthwiseRow& row, const Memory& memory, const uint8_t* origin,
                                         const float* w, F (&v)[P][R]) {
    for (int t = 0; t < row.taps; t += 3, w += 3 * kBlock) {
      const uint8_t* at = origin + row.tap[t];
      R2B_UNROLL
      for (int r = 0; r < R; ++r) {
        F weight[3];
        R2B_UNROLL
        for (int k = 0; k < 3; ++k) {
          weight[k] = V::Load(w + k * kBlock + r * V::kWidth);
          V::Keep(weight[k]);
        }
        R2B_UNROLL
        for (int x = 0; x < P + 2; ++x) {
          F value = memory.Load(at + x * row.pixel, r);
          V::Keep(value);
          R2B_UNROLL
          for (int k = 0; k < 3; ++k)
            if (x - k >= 0 && x - k < P) v[x - k][r] = V::Add(v[x - k][r], V::Mul(value, weight[k]));
        }
      }
    }
  }
  template <bool kWhole, int P, int R>
  static R2B_INLINE void DepthwiseTile(const DepthwiseRow& row, const Epilogue& epilogue, int x, int c) {
    const typename T::template Pixel<kWhole, R> memory(row.end_channel - c);
    F v[P][R];
    R2B_TILE(v[p][r] = V::Load(row.bias + c + r * V::kWidth));
    const uint8_t* origin = row.origin + x * row.pixel + T::Channel(c, row.gap);
    const float* w = row.weights + ptrdiff_t(c) * row.taps;
    if (row.threes) DepthwiseThrees(row, memory, origin, w, v);
    else DepthwiseTaps(row, memory, origin, w, v);
    T::template RunEpilogue<kWhole>(v, epilogue, x, c, row.end_channel - c);
  }
  template <bool kWhole, int P, int R>
  static void DepthwiseTiles(const DepthwiseRow& row, const Epilogue& epilogue, int x, int c) {
    for (; x + P <= row.width; x += P) DepthwiseTile<kWhole, P, R>(row, epilogue, x, c);
    if constexpr (P > 1) DepthwiseTiles<kWhole, (P + 1) / 2, R>(row, epilogue, x, c);
  }
  static void Depthwise(const DepthwiseRow& row, const Epilogue& epilogue) {
    int c = row.begin_channel;
    for (; c + kBlock <= row.end_channel; c += kBlock)
      DepthwiseTiles<true, V::kPlainPixels, kRegs>(row, epilogue, 0, c);
    if (c < row.end_channel)
      T::ForRegisters(row.end_channel - c, [&](auto registers) {
        constexpr int R = registers.kCount;
        DepthwiseTiles<false, V::PartPixels(R), R>(row, epilogue, 0, c);
      });
  }

  // ---- pooling ----
  template <bool kMaximum, class Memory, int R>
  static R2B_INLINE void Take(const Memory& memory, const uint8_t* at, F (&value)[R]) {
    R2B_UNROLL
    for (int r = 0; r < R; ++r)
      value[r] = kMaximum ? V::Max(value[r], memory.Load(at, r)) : V::Add(value[r], memory.Load(at, r));
  }
  // Computes a window's maximum or sum. Common window sizes are template arguments; otherwise kRows and kColumns are 0.
  template <bool kMaximum, int kRows, int kColumns, class Memory, int R>
  static R2B_INLINE void Window(const PoolRow& row, const Memory& memory, ptrdiff_t first, int columns, F (&value)[R]) {
    R2B_UNROLL
    for (int r = 0; r < R; ++r) value[r] = kMaximum ? memory.Load(row.lines[0] + first, r) : V::Zero();
    if constexpr (kRows > 0) {
      R2B_UNROLL
      for (int j = 0; j < kRows; ++j) {
        R2B_UNROLL
        for (int i = 0; i < kColumns; ++i) Take<kMaximum>(memory, row.lines[j] + first + i * row.pixel, value);
      }
    } else {
      for (int j = 0; j < row.rows; ++j)
        for (int i = 0; i < columns; ++i) Take<kMaximum>(memory, row.lines[j] + first + i * row.pixel, value);
    }
  }
  template <bool kWhole, int R>
  static R2B_INLINE void PoolPixel(const PoolRow& row, const typename T::template Pixel<kWhole, R>& memory, int x,
                                   int c, F (&value)[R]) {
    const int begin = row.begin[x], columns = row.end[x] - begin;
    const ptrdiff_t first = T::Channel(c, row.gap) + begin * row.pixel;
    if (row.maximum) {
      if (kWhole && row.rows == 3 && columns == 1) Window<true, 3, 1>(row, memory, first, columns, value);
      else if (kWhole && row.rows == 3 && columns == 3) Window<true, 3, 3>(row, memory, first, columns, value);
      else Window<true, 0, 0>(row, memory, first, columns, value);
      return;
    }
    if (kWhole && row.rows == 2 && columns == 2) Window<false, 2, 2>(row, memory, first, columns, value);
    else Window<false, 0, 0>(row, memory, first, columns, value);
    const F area = V::Set1(float(row.rows * columns));
    R2B_UNROLL
    for (int r = 0; r < R; ++r) value[r] = V::Div(value[r], area);
  }
  template <bool kWhole, int P, int R>
  static R2B_INLINE void PoolTile(const PoolRow& row, const Epilogue& epilogue, int x, int c) {
    const int valid = row.end_channel - c;
    const typename T::template Pixel<kWhole, R> memory(valid);
    F v[P][R];
    if constexpr (kWhole) {
      R2B_UNROLL
      for (int p = 0; p < P; ++p) PoolPixel<kWhole>(row, memory, x + p, c, v[p]);
    } else {
      // This loop is not unrolled, since RunEpilogue() stores a partial block's values in memory anyway.
      for (int p = 0; p < P; ++p) PoolPixel<kWhole>(row, memory, x + p, c, v[p]);
    }
    T::template RunEpilogue<kWhole>(v, epilogue, x, c, valid);
  }
  template <bool kWhole, int P, int R>
  static void PoolTiles(const PoolRow& row, const Epilogue& epilogue, int x, int c) {
    for (; x + P <= row.width; x += P) PoolTile<kWhole, P, R>(row, epilogue, x, c);
    if constexpr (P > 1) PoolTiles<kWhole, (P + 1) / 2, R>(row, epilogue, x, c);
  }
  static void Pool(const PoolRow& row, const Epilogue& epilogue) {
    int c = row.begin_channel;
    for (; c + kBlock <= row.end_channel; c += kBlock) PoolTiles<true, V::kPlainPixels, kRegs>(row, epilogue, 0, c);
    if (c < row.end_channel)
      T::ForRegisters(row.end_channel - c, [&](auto registers) {
        constexpr int R = registers.kCount;
        PoolTiles<false, V::PartPixels(R), R>(row, epilogue, 0, c);
      });
  }

  // ---- plain loads: an epilogue on a tensor that already exists ----
  template <bool kWhole, int P, int R>
  static R2B_INLINE void LoadTile(const LoadRow& row, const Epilogue& epilogue, int x, int c) {
    const typename T::template Pixel<kWhole, R> memory(row.channels - c);
    F v[P][R];
    R2B_TILE(v[p][r] = memory.Load(row.origin + (x + p) * row.pixel + T::Channel(c, row.gap), r));
    T::template RunEpilogue<kWhole>(v, epilogue, x, c, row.channels - c);
  }
  template <bool kWhole, int P, int R>
  static void LoadTiles(const LoadRow& row, const Epilogue& epilogue, int x, int c) {
    for (; x + P <= row.width; x += P) LoadTile<kWhole, P, R>(row, epilogue, x, c);
    if constexpr (P > 1) LoadTiles<kWhole, (P + 1) / 2, R>(row, epilogue, x, c);
  }
  static void Plain(const LoadRow& row, const Epilogue& epilogue) {
    int c = 0;
    for (; c + kBlock <= row.channels; c += kBlock) LoadTiles<true, V::kPlainPixels, kRegs>(row, epilogue, 0, c);
    if (c < row.channels)
      T::ForRegisters(row.channels - c, [&](auto registers) {
        constexpr int R = registers.kCount;
        LoadTiles<false, V::PartPixels(R), R>(row, epilogue, 0, c);
      });
  }
};
