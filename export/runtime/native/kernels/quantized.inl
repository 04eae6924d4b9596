// Convolutions of 8-bit numbers, written once as templates over a vector type V (tile.inl) and a type Q, which has an
// instruction set's arithmetic on 8-bit numbers. Q has these members:
//
// kPacking                         the BytePacking of its operands
// Pixels(R)                        how many pixels a tile may have, with R registers for each pixel
// Sums, Zero()                     the type of as many 32-bit sums as V::F has lanes, and sums of zero
// Value, At(p)                     32 bits of activations, repeated for all lanes
// Weights, Load(p)                 weights, 32 bits for each lane
// Add(sums, value, weights)        adds products to the sums
// Numbers(sums, output, channel)   requantises the sums to int8 numbers, as floats
// Small                            void, or a class: if Requantisation::small is true, Small(output,
//                                  channel).Numbers(sums) does the same as Numbers() in fewer instructions
// ToFloats(sums), FromFloats(v)    converts sums to floats, and back
//
// Sums are exact. Unless kPacking is kPairs, an activation in scratch memory differs from number - zero point by a
// constant. Requantisation::bias cancels its effect on the sums.

// Requantises the sums of N output channels, from `channel` on, to int8 numbers, which it stores as floats.
template <int N>
R2B_INLINE void NumbersOf(const int32_t* sums, const Requantisation& output, int channel, float* numbers) {
  for (int i = 0; i < N; ++i) {
    const int c = channel + i;
    const int32_t product = FixedProduct(uint32_t(sums[i]) + uint32_t(output.bias[c]), output.multiplier[c],
                                         output.left[c], output.right[c]);
    const auto number = int32_t(uint32_t(product) + uint32_t(output.zero_point));
    const int32_t most = number < output.hi ? number : output.hi;
    numbers[i] = float(most > output.lo ? most : output.lo);
  }
}

template <class V, class Q>
struct Quantized {
  using T = Tile<V>;
  using F = typename V::F;
  static constexpr bool kHasSmall = !std::is_void_v<typename Q::Small>;
  static constexpr bool kJoins = Q::kPacking != BytePacking::kPairs;  // whether QconvRow::planes may be above 0

  // Copies an input row, with padding, to scratch memory. If `line` is null, the row lies outside the image. The loops
  // read copies of row's fields. A written byte may alias any field, so compilers would otherwise read the fields again
  // after each byte, and could not vectorise the loops.
  static void Expand(const QconvRow& row, const uint8_t* line, uint8_t* out) {
    const int before = row.before, values = row.values, after = row.after;
    if constexpr (Q::kPacking == BytePacking::kPairs) {
      int16_t* to = reinterpret_cast<int16_t*>(out);
      const int total = before + values + after;
      const int inside = line ? before : total, end = line ? before + values : total;
      for (int i = 0; i < inside; ++i) to[i] = 0;
      for (int i = end; i < total; ++i) to[i] = 0;
      to += before;
      if (!line) return;
      const auto zero_point = int16_t(row.zero_point);
      const uint8_t flip = row.flip;
      for (int i = 0; i < values; ++i) to[i] = int16_t(int8_t(line[i] ^ flip) - zero_point);
    } else {
      constexpr uint8_t kSign = Q::kPacking == BytePacking::kUnsigned ? 0x80 : 0;
      const uint8_t outside = uint8_t(row.zero_point) ^ kSign, flip = row.flip ^ kSign;
      const auto fill = [outside](uint8_t* to, int count) R2B_LAMBDA { __builtin_memset(to, outside, size_t(count)); };
      if (!line) return fill(out, before + values + after);
      fill(out, before);
      out += before;
      for (int i = 0; i < values; ++i) out[i] = line[i] ^ flip;
      fill(out + values, after);
    }
  }

  // Fills the planes (QconvRow::planes) from the rows in scratch memory. Planes and rows have the same pixel stride. So
  // byte k of all pixels of a plane comes from one row, at a fixed distance in bytes. A mask clears the row's other
  // bytes.
  static void JoinRests(const QconvRow& row) {
    const int bytes = (row.width - 1) * int(row.input.pixel) + 4, rests = row.rows * row.rest;
    const uint8_t* after = row.scratch + row.input.length * ProductsOf(Q::kPacking);
    for (int j = 0; j < row.planes; ++j) {
      const uint8_t *from[4], *mask[4];  // for each of a pixel's four bytes, of which the first `joined` are used
      for (int k = 0; k < 4; ++k) {
        const int i = j * row.joined + k;
        const bool used = k < row.joined && i < rests;
        from[k] = used ? after + (row.first + i / row.rest) % row.rows * row.line_bytes + i % row.rest - k : after;
        mask[k] = used ? row.pixel_starts + 4 - k : row.no_bytes;
      }
      uint8_t* __restrict plane = row.scratch + (row.rows + j) * row.line_bytes;
      for (int i = 0; i < bytes; ++i)
        plane[i] = (from[0][i] & mask[0][i]) | (from[1][i] & mask[1][i]) | (from[2][i] & mask[2][i]) |
                   (from[3][i] & mask[3][i]);
    }
  }

  template <int P, int R>
  static __attribute__((noinline)) void AnyNumbers(const typename Q::Sums (&sums)[P][R], F (&numbers)[P][R],
                                                   const Requantisation& output, int c) {
    for (int p = 0; p < P; ++p)
      for (int r = 0; r < R; ++r) numbers[p][r] = Q::Numbers(sums[p][r], output, c + r * V::kWidth);
  }

  template <bool kWhole, int P, int R>
  static __attribute__((noinline)) void Convolve(const QconvRow& row, const Epilogue& epilogue, int x, int block) {
    constexpr int kColumn = kBlock * 4;  // bytes of one column of a block's weights
    typename Q::Sums sums[P][R];
    R2B_TILE(sums[p][r] = Q::Zero());
    const uint8_t* origin = row.input.origin + x * row.input.pixel;
    const ptrdiff_t pixel = row.input.pixel;
    const uint8_t* w = row.weights + block * row.block_bytes;
    for (int s = 0; s < row.input.segments; ++s) {
      const uint8_t* base[(P + 2) / 3];  // three pixels share an address, as in Rows::FconvTile
      R2B_UNROLL
      for (int b = 0; b < (P + 2) / 3; ++b) base[b] = origin + row.input.segment[s] + 3 * b * pixel;
      const int columns = kJoins && s >= row.input.segments - row.planes ? 1 : row.input.length;
      for (int i = 0; i < columns; ++i, w += kColumn) {
        typename Q::Weights weights[R];
        R2B_UNROLL
        for (int r = 0; r < R; ++r) weights[r] = Q::Load(w + r * V::kWidth * 4);
        R2B_UNROLL
        for (int p = 0; p < P; ++p) {
          const typename Q::Value value = Q::At(base[p / 3] + (p % 3) * pixel);
          R2B_UNROLL
          for (int r = 0; r < R; ++r) Q::Add(sums[p][r], value, weights[r]);
        }
        R2B_UNROLL
        for (int b = 0; b < (P + 2) / 3; ++b) base[b] += 4;
      }
    }
    const int c = block * kBlock;
    F v[P][R];
    if (row.unfinished) {
      R2B_TILE(v[p][r] = Q::ToFloats(sums[p][r]));
    } else if constexpr (!kHasSmall) {
      R2B_TILE(v[p][r] = Q::Numbers(sums[p][r], row.output, c + r * V::kWidth));
    } else if (row.output.small) {
      R2B_UNROLL
      for (int r = 0; r < R; ++r) {
        const typename Q::Small small(row.output, c + r * V::kWidth);
        R2B_UNROLL
        for (int p = 0; p < P; ++p) v[p][r] = small.Numbers(sums[p][r]);
      }
    } else {
      // AnyNumbers() gets copies: compilers do not keep an array in registers if its address is passed to a function.
      typename Q::Sums all[P][R];
      F numbers[P][R];
      R2B_TILE(all[p][r] = sums[p][r]);
      AnyNumbers(all, numbers, row.output, c);
      R2B_TILE(v[p][r] = numbers[p][r]);
    }
    T::template RunEpilogue<kWhole>(v, epilogue, x, row.channel0 + c, row.channels - c);
  }

  static void Numbers(F* __restrict v, int pixels, int registers, const Requantisation& output, int c) {
    for (int r = 0; r < registers; ++r, c += V::kWidth) {
      if constexpr (kHasSmall) {
        const typename Q::Small small(output, c);
        for (int p = 0; p < pixels; ++p) v[p * registers + r] = small.Numbers(Q::FromFloats(v[p * registers + r]));
      } else {
        for (int p = 0; p < pixels; ++p)
          v[p * registers + r] = Q::Numbers(Q::FromFloats(v[p * registers + r]), output, c);
      }
    }
  }

  template <bool kWhole, int P, int R>
  static void ConvolvePixels(const QconvRow& row, const Epilogue& epilogue, int x, int block) {
    for (; x + P <= row.width; x += P) Convolve<kWhole, P, R>(row, epilogue, x, block);
    if constexpr (P > 1) ConvolvePixels<kWhole, (P + 1) / 2, R>(row, epilogue, x, block);
  }
  static void Qconv(const QconvRow& row, const Epilogue& epilogue) {
    for (int i = row.rows - row.fresh; i < row.rows; ++i)
      Expand(row, row.lines[i], row.scratch + (row.first + i) % row.rows * row.line_bytes);
    if constexpr (kJoins)
      if (row.planes) JoinRests(row);
    const int whole = row.channels / kBlock, left = row.channels % kBlock;
    for (int block = 0; block < whole; ++block)
      ConvolvePixels<true, Q::Pixels(T::kRegs), T::kRegs>(row, epilogue, 0, block);
    if (left)
      T::ForRegisters(left, [&](auto registers) {
        constexpr int R = registers.kCount;
        ConvolvePixels<false, Q::Pixels(R), R>(row, epilogue, 0, whole);
      });
  }
};

// Q for instruction sets without suitable instructions. It adds pairs of products, one lane at a time.
template <class V>
struct PlainBytes {
  using Small = void;
  static constexpr BytePacking kPacking = BytePacking::kPairs;
  static constexpr int kWidth = V::kWidth;
  struct Sums {
    int32_t lane[kWidth];
  };
  struct Value {
    int32_t first, second;
  };
  using Weights = const uint8_t*;
  static constexpr int Pixels(int) { return 1; }
  static R2B_INLINE Sums Zero() { return {}; }
  static R2B_INLINE Value At(const uint8_t* p) {
    int16_t pair[2];
    __builtin_memcpy(pair, p, sizeof pair);
    return {pair[0], pair[1]};
  }
  static R2B_INLINE Weights Load(const uint8_t* p) { return p; }
  static R2B_INLINE void Add(Sums& sums, Value value, Weights weights) {
    int16_t pairs[kWidth][2];
    __builtin_memcpy(pairs, weights, sizeof pairs);
    for (int i = 0; i < kWidth; ++i) {
      const int32_t products = value.first * pairs[i][0] + value.second * pairs[i][1];
      sums.lane[i] = int32_t(uint32_t(sums.lane[i]) + uint32_t(products));
    }
  }
  static R2B_INLINE typename V::F ToFloats(const Sums& sums) {
    float numbers[kWidth];
    for (int i = 0; i < kWidth; ++i) numbers[i] = float(sums.lane[i]);
    return V::Load(numbers);
  }
  static R2B_INLINE Sums FromFloats(typename V::F v) {
    float numbers[kWidth];
    V::Store(numbers, v);
    Sums sums;
    for (int i = 0; i < kWidth; ++i) sums.lane[i] = int32_t(numbers[i]);
    return sums;
  }
  static R2B_INLINE typename V::F Numbers(const Sums& sums, const Requantisation& output, int channel) {
    float numbers[kWidth];
    NumbersOf<kWidth>(sums.lane, output, channel, numbers);
    return V::Load(numbers);
  }
};
