// The resizing of images, written once as templates. An instruction set's file includes this file inside its unnamed
// namespace, after tile.inl and its vector type V. This file uses these members of V (see tile.inl):
//
// Load(p), Store(p, v)  with AVX2 and AVX-512, Load(p) also converts kWidth bytes to floats
// kPicks                Kernels::picks: kWidth if V has Pick, else 0
// Pick(p, lanes)        the kWidth values p[lanes[0]], p[lanes[1]], ..., where lanes[i] < 2 * kWidth
//
// The results have the same bits as those of TensorFlow's operators: products and sums are computed in the same order,
// and each is rounded separately. ResizeBilinear interpolates along the rows first, ResizeBicubic along the columns.

template <class V, class T, int C>
struct Resampling {
  // A pixel of three channels, and one more value, from the next pixel or from the margin (kResampleMargin).
  typedef float Pixel __attribute__((vector_size(16), aligned(4), may_alias));

  static R2B_INLINE const T* Row(const Resample& r, int row) { return static_cast<const T*>(r.image) + row * r.stride; }

  // out[i] = result(load) for each i in a row of the image, where load(row) is row[i].
  template <class Result>
  static R2B_INLINE void Rows(const Resample& r, float* out, Result result) {
    int i = 0;
#if defined(__AVX2__)
    for (; i + V::kWidth <= r.row; i += V::kWidth)
      V::Store(out + i, result([&](const T* row) R2B_LAMBDA { return V::Load(row + i); }));
#endif
    for (; i < r.row; ++i) out[i] = result([&](const T* row) R2B_LAMBDA { return float(row[i]); });
  }

  // For each column of the resized image, writes result(load, weight) to `out`. A column is interpolated from several
  // samples: load(k) returns the values of its k-th sample in `line`, and weight(k) the weight of this sample.
  template <class Result>
  static R2B_INLINE void Columns(const Resample& r, const float* line, float* out, Result result) {
    if constexpr (V::kPicks > 0) {
      if (r.picked) return PickedColumns(r, line, out, result);
    }
    for (int x = 0; x < r.width; ++x) {
      const int* column = r.columns + x;
      const auto weight = [&](int sample) R2B_LAMBDA { return r.column_weights[sample * r.width + x]; };
      if constexpr (C == 3) {
        const auto load = [&](int sample)
                              R2B_LAMBDA { return *reinterpret_cast<const Pixel*>(line + column[sample * r.width]); };
        *reinterpret_cast<Pixel*>(out + 3 * x) = result(load, weight);
      } else {
        out[x] = result([&](int sample) R2B_LAMBDA { return line[column[sample * r.width]]; }, weight);
      }
    }
  }

  template <class Result>
  static R2B_INLINE void PickedColumns(const Resample& r, const float* line, float* out, Result result) {
    const int vectors = (r.width * C + V::kWidth - 1) / V::kWidth, *const picked = r.picked, *const lanes = r.lanes;
    const float* const weights = r.lane_weights;
    for (int i = 0; i < vectors; ++i) {
      const auto load = [&](int sample) R2B_LAMBDA {
        const int at = sample * vectors + i;
        return V::Pick(line + picked[at], lanes + at * V::kWidth);
      };
      const auto weight = [&](int sample) R2B_LAMBDA { return V::Load(weights + (sample * vectors + i) * V::kWidth); };
      V::Store(out + i * V::kWidth, result(load, weight));
    }
  }

  // Writes row y of the result. Its value i is value(load), normalised if r.mean is given, where load(line) is line[i].
  template <class Value>
  static R2B_INLINE void Finish(const Resample& r, int y, Value value) {
    const int values = r.width * C;
    float* const out = r.out + size_t(y) * values;
    int i = 0;
    const auto one = [&](const float* line) R2B_LAMBDA { return line[i]; };
#if defined(__AVX2__)
    // Eight values at a time even with AVX-512: two divisions of eight floats take less time than one of sixteen.
    const auto eight = [&](const float* line) R2B_LAMBDA { return _mm256_loadu_ps(line + i); };
    const bool streamed = r.streamed && values % 8 == 0 && uintptr_t(out) % sizeof(__m256) == 0;
    for (; i + 8 <= values; i += 8) {
      const __m256 v = r.mean ? (value(eight) - eight(r.mean)) / eight(r.std) : value(eight);
      streamed ? _mm256_stream_ps(out + i, v) : _mm256_storeu_ps(out + i, v);
    }
#endif
    if (r.mean)
      for (; i < values; ++i) out[i] = (value(one) - r.mean[i]) / r.std[i];
    else
      for (; i < values; ++i) out[i] = value(one);
  }

  static void LinearColumns(const Resample& r, int row, float* widened, float* out) {
    const T* in = Row(r, row);
    Rows(r, widened, [&](auto load) R2B_LAMBDA { return load(in); });
    Columns(r, widened, out, [](auto load, auto weight) R2B_LAMBDA {
      const auto first = load(0);
      return first + (load(1) - first) * weight(0);
    });
  }

  static void Linear(const Resample& r) {
    float* widened = r.scratch;
    float* const lines[2] = {widened + r.row + kResampleMargin, widened + r.row + r.width * C + 2 * kResampleMargin};
    int held[2] = {-1, -1};  // which rows of the image the lines come from; -1: none yet
    int first = 0;           // which of the two lines is the upper one
    for (int y = 0; y < r.height; ++y) {
      const int upper = r.rows[y], lower = r.rows[r.height + y];
      if (held[1 - first] == upper) first = 1 - first;
      const auto hold = [&](int line, int row) {
        if (held[line] != row) LinearColumns(r, row, widened, lines[line]);
        held[line] = row;
      };
      hold(first, upper);
      if (lower != upper) hold(1 - first, lower);
      const float *above = lines[first], *below = lower == upper ? above : lines[1 - first], weight = r.row_weights[y];
      Finish(r, y, [&](auto load) R2B_LAMBDA { return load(above) + (load(below) - load(above)) * weight; });
    }
  }

  static void Cubic(const Resample& r) {
    float *down = r.scratch, *line = down + r.row + kResampleMargin;
    for (int y = 0; y < r.height; ++y) {
      const T* in[4];
      float w[4];
      for (int k = 0; k < 4; ++k) {
        in[k] = Row(r, r.rows[k * r.height + y]);
        w[k] = r.row_weights[k * r.height + y];
      }
      Rows(r, down, [&](auto load) R2B_LAMBDA {
        return load(in[0]) * w[0] + load(in[1]) * w[1] + load(in[2]) * w[2] + load(in[3]) * w[3];
      });
      Columns(r, down, line, [](auto load, auto weight) R2B_LAMBDA {
        return load(0) * weight(0) + load(1) * weight(1) + load(2) * weight(2) + load(3) * weight(3);
      });
      Finish(r, y, [&](auto load) R2B_LAMBDA { return load(line); });
    }
  }
};

template <class V, class T>
void ResampleOf(const Resample& r) {
  if (r.channels == 3) r.cubic ? Resampling<V, T, 3>::Cubic(r) : Resampling<V, T, 3>::Linear(r);
  else r.cubic ? Resampling<V, T, 1>::Cubic(r) : Resampling<V, T, 1>::Linear(r);
}

template <class V>
void ResampleImage(const Resample& r) {
  r.bytes ? ResampleOf<V, uint8_t>(r) : ResampleOf<V, float>(r);
#if defined(__AVX2__)
  _mm_sfence();  // makes streamed values visible to other threads
#endif
}
