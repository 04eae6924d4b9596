// Resampling written once; each instruction set's file includes this after tile.inl and its vector type V, inside its unnamed
// namespace. Here V gives Load; kStreams: whether it has Stream (to an aligned address, past the caches) and StreamEnd (after
// which other threads see it).
//
// Every product and sum is rounded on its own and in the order of TensorFlow's operators, whose bits these are: ResizeBilinear
// goes along the rows first and ResizeBicubic down the columns.

template <class V, class T, int C>
struct Resampling {
  // A pixel of three channels, and one value that belongs to the next or to nobody.
  typedef float Pixel __attribute__((vector_size(16), aligned(4), may_alias));

  static R2B_INLINE const T* Row(const Resample& r, int row) { return static_cast<const T*>(r.image) + row * r.stride; }

  // out[x] = result(x, load), where load(sample) is the pixel of `line` at a sample of that column.
  template <class Result>
  static R2B_INLINE void Columns(const Resample& r, const float* line, float* out, Result result) {
    for (int x = 0; x < r.width; ++x) {
      const int* column = r.columns + x;
      if constexpr (C == 3) {
        const auto load = [&](int sample) R2B_LAMBDA { return *reinterpret_cast<const Pixel*>(line + column[sample * r.width]); };
        *reinterpret_cast<Pixel*>(out + 3 * x) = result(x, load);
      } else {
        out[x] = result(x, [&](int sample) R2B_LAMBDA { return line[column[sample * r.width]]; });
      }
    }
  }

  // Row y of the result: value(i), normalised where asked for. `line` is where to put it together.
  template <class Value>
  static R2B_INLINE void Finish(const Resample& r, int y, float* line, Value value) {
    const int values = r.width * C;
    float* row = r.out + size_t(y) * values;
    bool streamed = false;
    if constexpr (V::kStreams) streamed = r.streamed && values % V::kWidth == 0 && uintptr_t(row) % (V::kWidth * sizeof(float)) == 0;
    float* out = streamed ? line : row;
    if (r.mean)
      for (int i = 0; i < values; ++i) out[i] = (value(i) - r.mean[i]) / r.std[i];
    else
      for (int i = 0; i < values; ++i) out[i] = value(i);
    if constexpr (V::kStreams) {
      if (!streamed) return;
      for (int i = 0; i < values; i += V::kWidth) V::Stream(row + i, V::Load(line + i));
    }
  }

  static void LinearColumns(const Resample& r, int row, float* widened, float* out) {
    const T* in = Row(r, row);
    for (int i = 0; i < r.row; ++i) widened[i] = float(in[i]);
    Columns(r, widened, out, [&](int x, auto load) R2B_LAMBDA {
      const auto first = load(0);
      return first + (load(1) - first) * r.column_weights[x];
    });
  }

  static void Linear(const Resample& r) {
    float* widened = r.scratch;
    const int line = r.width * C + kResampleMargin;
    float* const lines[2] = {widened + r.row + kResampleMargin, widened + r.row + kResampleMargin + line};
    float* const finished = lines[1] + line;
    int held[2] = {-1, -1};  // which rows of the image these come from
    int first = 0;           // which of them is the upper one
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
      Finish(r, y, finished, [&](int i) R2B_LAMBDA { return above[i] + (below[i] - above[i]) * weight; });
    }
  }

  static void Cubic(const Resample& r) {
    float *down = r.scratch, *line = down + r.row + kResampleMargin, *finished = line + r.width * C + kResampleMargin;
    for (int y = 0; y < r.height; ++y) {
      const T* in[4];
      float w[4];
      for (int k = 0; k < 4; ++k) {
        in[k] = Row(r, r.rows[k * r.height + y]);
        w[k] = r.row_weights[k * r.height + y];
      }
      for (int i = 0; i < r.row; ++i)
        down[i] = float(in[0][i]) * w[0] + float(in[1][i]) * w[1] + float(in[2][i]) * w[2] + float(in[3][i]) * w[3];
      Columns(r, down, line, [&](int x, auto load) R2B_LAMBDA {
        const float* weight = r.column_weights + x;
        const int next = r.width;
        return load(0) * weight[0] + load(1) * weight[next] + load(2) * weight[2 * next] + load(3) * weight[3 * next];
      });
      Finish(r, y, finished, [&](int i) R2B_LAMBDA { return line[i]; });
    }
  }
};

template <class V, class T>
void ResampleOf(const Resample& r) {
  if (r.channels == 3)
    r.cubic ? Resampling<V, T, 3>::Cubic(r) : Resampling<V, T, 3>::Linear(r);
  else
    r.cubic ? Resampling<V, T, 1>::Cubic(r) : Resampling<V, T, 1>::Linear(r);
}

template <class V>
void ResampleImage(const Resample& r) {
  r.bytes ? ResampleOf<V, uint8_t>(r) : ResampleOf<V, float>(r);
  if constexpr (V::kStreams) V::StreamEnd();
}
