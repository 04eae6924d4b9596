// Kernels without an epilogue: dense layers, element-wise operators, bilinear resizing, and conversions between values
// and bits or bytes. They are written once, as templates over a vector type V (tile.inl).

template <class V>
struct Vectors {
  using F = typename V::F;

  // ---- dense ----
  // Computes `count` outputs, with weights packed by PackDense. Sums are in TensorFlow Lite's order: each output is
  // summed in four lanes, the lanes are added in pairs, and the last inputs % 4 products are added one by one. Every
  // product and sum is rounded separately. Computing kGroups groups together hides the latency of their additions.
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
  // Compilers vectorise these loops for the instruction set of the including file.
  static void PackSigns(const float* weights, int channels, int outputs, uint32_t* words) {
    for (int o = 0; o < outputs; ++o) words[o] = 0;
    for (int i = 0; i < channels; ++i, weights += outputs)
      for (int o = 0; o < outputs; ++o) words[o] |= uint32_t(weights[o] < 0) << i;
  }

  // ---- element-wise ----
  // Calls whole(i) for each whole vector, where i is the index of its first value. If values remain, calls part(i,
  // lanes) for them.
  template <class Whole, class Part>
  static R2B_INLINE void ForVectors(int64_t count, Whole whole, Part part) {
    int64_t i = 0;
    for (; i + V::kWidth <= count; i += V::kWidth) whole(i);
    if (i < count) part(i, V::First(int(count - i)));
  }
  // y[i] = apply(x[i]); y may be x.
  template <class Apply>
  static R2B_INLINE void Map(const float* x, int64_t count, float* y, Apply apply) {
    ForVectors(
        count, [&](int64_t i) R2B_LAMBDA { V::Store(y + i, apply(V::Load(x + i))); },
        [&](int64_t i, typename V::Lanes lanes) R2B_LAMBDA { V::Store(y + i, apply(V::Load(x + i, lanes)), lanes); });
  }

  static void Logistic(const float* x, int64_t count, float* y) {
    Map(x, count, y, [](F v) R2B_LAMBDA { return Exponential<V>::Logistic(v); });
  }

  template <bool kMaximum>
  static R2B_INLINE float Extreme(const float* x, int count) {
    const auto further = [](float a, float b) R2B_LAMBDA { return kMaximum ? (a < b ? b : a) : (b < a ? b : a); };
    float most = x[0];
    int i = 0;
    if (count >= 2 * V::kWidth) {
      F vector = V::Load(x);
      for (i = V::kWidth; i + V::kWidth <= count; i += V::kWidth)
        vector = kMaximum ? V::Max(vector, V::Load(x + i)) : V::Min(vector, V::Load(x + i));
      float lanes[V::kWidth];
      V::Store(lanes, vector);
      most = lanes[0];
      for (float lane : lanes) most = further(most, lane);
    }
    for (; i < count; ++i) most = further(most, x[i]);
    return most;
  }

  // Softmax over each row of `channels` values. The row's maximum (its minimum if beta is negative) is subtracted
  // first, so that no exponent is above 0. Exponentials are summed in the order of the channels.
  static void Softmax(const float* x, int64_t rows, int channels, float beta, float* y) {
    const int64_t together = channels < 512 ? 512 / channels : 1;  // rows per call of Map(), to fill vectors
    for (int64_t begin = 0; begin < rows; begin += together) {
      const int64_t end = begin + together < rows ? begin + together : rows, at = begin * channels;
      for (int64_t row = begin; row < end; ++row) {
        const float* in = x + row * channels;
        float* out = y + row * channels;
        const float top = beta < 0 ? Extreme<false>(in, channels) : Extreme<true>(in, channels);
        for (int c = 0; c < channels; ++c) out[c] = (in[c] - top) * beta;
      }
      Map(y + at, (end - begin) * channels, y + at, [](F z) R2B_LAMBDA { return Exponential<V>::OfNegative(z); });
      for (int64_t row = begin; row < end; ++row) {
        float* out = y + row * channels;
        float sum = 0;
        for (int c = 0; c < channels; ++c) sum += out[c];
        for (int c = 0; c < channels; ++c) out[c] /= sum;
      }
    }
  }

  // Rounds to whole numbers, halves to even. Floats of magnitude 2^23 or more are already whole. For smaller
  // magnitudes, subtracting 2^23 from -|v| and adding it again rounds to a whole number.
  static R2B_INLINE F Rounded(F v) {
    const F whole = V::Set1(8388608), minus = V::MinusAbs(v);
    const F rounded = V::Add(V::Add(minus, V::Set1(-8388608)), whole);
    const F result = V::IfNegative(V::Add(minus, whole), minus, rounded);
    return V::IfNegative(v, result, V::Mul(result, V::Set1(-1)));
  }

  static R2B_INLINE F Of(const ArithmeticRun& run, F u, F v) {
    switch (run.kind) {
      case ArithmeticRun::kMul: return V::Mul(u, v);
      case ArithmeticRun::kAdd: return V::Add(u, v);
      case ArithmeticRun::kSub: return V::Add(u, V::Mul(v, V::Set1(-1)));
      case ArithmeticRun::kPrelu: return V::Prelu(u, v);
      case ArithmeticRun::kMinimum: return V::Min(u, v);
      case ArithmeticRun::kMaximum: return V::Max(u, v);
      case ArithmeticRun::kRound: return Rounded(u);
      case ArithmeticRun::kFirst: break;
    }
    return u;
  }
  template <ArithmeticRun::Kind kKind>
  static void ArithmeticOf(ArithmeticRun run) {
    run.kind = kKind;  // lets the compiler resolve the switch in Of()
    const F lo = V::Set1(run.lo), hi = V::Set1(run.hi), x0 = V::Set1(run.x[0]), y0 = V::Set1(run.y[0]);
    const auto clamped = [&](F v) R2B_LAMBDA { return run.clamp ? V::Min(hi, V::Max(lo, v)) : v; };
    ForVectors(
        run.count,
        [&](int64_t i) R2B_LAMBDA {
          const F u = run.x_step ? V::Load(run.x + i) : x0, v = run.y_step ? V::Load(run.y + i) : y0;
          V::Store(run.out + i, clamped(Of(run, u, v)));
        },
        [&](int64_t i, typename V::Lanes lanes) R2B_LAMBDA {
          const F u = run.x_step ? V::Load(run.x + i, lanes) : x0, v = run.y_step ? V::Load(run.y + i, lanes) : y0;
          V::Store(run.out + i, clamped(Of(run, u, v)), lanes);
        });
  }
  static void Arithmetic(const ArithmeticRun& run) {
    switch (run.kind) {
      case ArithmeticRun::kMul: return ArithmeticOf<ArithmeticRun::kMul>(run);
      case ArithmeticRun::kAdd: return ArithmeticOf<ArithmeticRun::kAdd>(run);
      case ArithmeticRun::kSub: return ArithmeticOf<ArithmeticRun::kSub>(run);
      case ArithmeticRun::kPrelu: return ArithmeticOf<ArithmeticRun::kPrelu>(run);
      case ArithmeticRun::kMinimum: return ArithmeticOf<ArithmeticRun::kMinimum>(run);
      case ArithmeticRun::kMaximum: return ArithmeticOf<ArithmeticRun::kMaximum>(run);
      case ArithmeticRun::kRound: return ArithmeticOf<ArithmeticRun::kRound>(run);
      case ArithmeticRun::kFirst: return ArithmeticOf<ArithmeticRun::kFirst>(run);
    }
  }

  // ---- bilinear resizing of a feature map ----
  static void Bilinear(const BilinearRow& row) {
    for (int x = 0; x < row.width; ++x) {
      const ptrdiff_t left = row.left[x] * row.in_pixel, right = row.right[x] * row.in_pixel;
      const auto at = [](const uint8_t* line, ptrdiff_t pixel)
                          R2B_LAMBDA { return reinterpret_cast<const float*>(line + pixel); };
      const float *a = at(row.upper, left), *b = at(row.upper, right), *c = at(row.lower, left),
                  *d = at(row.lower, right);
      float* out = reinterpret_cast<float*>(row.out + x * row.out_pixel);
      const float across = row.across[x], up = 1 - row.down;
      const F wa = V::Set1(up * (1 - across)), wb = V::Set1(up * across), wc = V::Set1(row.down * (1 - across)),
              wd = V::Set1(row.down * across);
      const auto sum = [&](F p, F q, F r, F s) R2B_LAMBDA {
        return V::Add(V::Add(V::Add(V::Mul(p, wa), V::Mul(q, wb)), V::Mul(r, wc)), V::Mul(s, wd));
      };
      ForVectors(
          row.channels,
          [&](int64_t i)
              R2B_LAMBDA { V::Store(out + i, sum(V::Load(a + i), V::Load(b + i), V::Load(c + i), V::Load(d + i))); },
          [&](int64_t i, typename V::Lanes lanes) R2B_LAMBDA {
            const F value =
                sum(V::Load(a + i, lanes), V::Load(b + i, lanes), V::Load(c + i, lanes), V::Load(d + i, lanes));
            V::Store(out + i, value, lanes);
          });
    }
  }

  // ---- bits to values, values to bytes ----
  // Compilers vectorise UnpackTo() for the instruction set of the including file.
  template <class Value>
  static void UnpackTo(const uint32_t* words, int64_t pixels, int channels, Value plus, Value minus, Value* out) {
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      int c = 0;
      for (; c + 32 <= channels; c += 32, ++words, out += 32)
        for (int i = 0; i < 32; ++i) out[i] = *words >> i & 1 ? minus : plus;
      if (c == channels) continue;
      for (int i = 0; i < channels - c; ++i) out[i] = *words >> i & 1 ? minus : plus;
      out += channels - c;
      ++words;
    }
  }
  static void Unpack(const uint32_t* words, int64_t pixels, int channels, float* out) {
    UnpackTo(words, pixels, channels, 1.0f, -1.0f, out);
  }
  static void ToBytes(const float* values, int64_t count, float scale, int zero_point, int8_t* out) {
    const ByteNumbers<V> bytes(scale, zero_point);
    int64_t i = 0;
    for (; i + V::kWidth <= count; i += V::kWidth) bytes.Store(out + i, V::Load(values + i));
    if (i == count) return;
    int8_t last[V::kWidth];
    bytes.Store(last, V::Load(values + i, V::First(int(count - i))));
    __builtin_memcpy(out + i, last, size_t(count - i));
  }
  static void UnpackBytes(const uint32_t* words, int64_t pixels, int channels, int8_t plus, int8_t minus, int8_t* out) {
    UnpackTo(words, pixels, channels, plus, minus, out);
  }
};
