// Compares kernels with scalar code. Rows mostly have a number of channels that is no multiple of 32, and their memory
// ends at an inaccessible page. Results must be equal bit for bit; softmax and the logistic function must be close to
// the exact functions.
#include <cmath>
#include <cstdio>
#include <memory>

#include "checks.h"
#include "edge.h"
#include "kernels/pack.h"

namespace r2b {
namespace {

constexpr int kChannels[] = {1, 3, 8, 15, 16, 17, 24, 31, 32, 33, 40, 48, 63};
constexpr int kWidths[] = {1, 2, 5, 13, 30};  // whole tiles and remainders, for every size of tile

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && !std::memcmp(a.data(), b.data(), a.size() * sizeof(float));
}
// volatile: every product and sum is rounded separately
float Product(float a, float b) {
  volatile float product = a * b;
  return product;
}
float Total(float a, float b) {
  volatile float total = a + b;
  return total;
}

// An epilogue with every kind of stage except kNumbers. Its operands and outputs end at an inaccessible page.
class Stages {
 public:
  Stages(const Kernels* kernels, int width, int channels)
      : kernels_(kernels),
        width_(width),
        channels_(channels),
        vector_(Floats(channels)),
        map_(Floats(size_t(width) * channels)),
        numbers_(Floats(width)),
        sums_(Floats(channels)),
        floats_(size_t(width) * channels),
        sigmas_(size_t(width) * channels),
        maxima_(size_t(Windows()) * channels),
        bits_(size_t(width) * Words()),
        bytes_(size_t(width) * channels),
        sums_before_(sums_.values()),
        before_(Random(0, 1)) {
    const ptrdiff_t map = channels * ptrdiff_t(sizeof(float)), number = sizeof(float);
    Add(Stage::kMul, vector_.bytes(), 0);
    Add(Stage::kAdd, map_.bytes(), map);
    Add(Stage::kMulPixel, numbers_.bytes(), number);
    Add(Stage::kAddPixel, numbers_.bytes(), number);
    Add(Stage::kPrelu, vector_.bytes(), 0);
    Add(Stage::kAddSelf, nullptr, 0);
    Add(Stage::kStoreFloat, floats_.bytes(), map);
    Add(Stage::kStoreBits, bits_.bytes(), Words() * ptrdiff_t(sizeof(uint32_t)));
    Add(Stage::kStoreInt8, bytes_.bytes(), channels);
    Add(Stage::kSum, sums_.bytes(), 0);
    Add(Stage::kMaxColumns, maxima_.bytes(), map);
    Add(Stage::kMulSelf, nullptr, 0);
    Add(Stage::kPreluMax, vector_.bytes(), 0);
    Add(Stage::kClamp, nullptr, 0);
    Add(Stage::kMulLogistic, nullptr, 0);
    Add(Stage::kLogistic, nullptr, 0);
    Add(Stage::kStoreFloat, sigmas_.bytes(), map);
  }
  Epilogue epilogue() const { return {list_.data(), int(list_.size())}; }

  // Checks that the stages' outputs for `values`, [pixel][channel], equal those of scalar code.
  void Expect(std::vector<float> values, const std::string& what) {
    std::vector<float> sums = sums_before_, floats, sigmas, maxima(size_t(Windows()) * channels_, -INFINITY);
    std::vector<uint32_t> bits(bits_.values().size(), 0);
    bool bytes = true;
    for (int x = 0; x < width_; ++x)
      for (int c = 0; c < channels_; ++c) {
        const size_t at = size_t(x) * channels_ + c;
        float v = Total(Product(values[at], vector_.data()[c]), map_.data()[at]);
        v = Total(Product(v, numbers_.data()[x]), numbers_.data()[x]);
        if (v < 0) v = Product(v, vector_.data()[c]);
        v = Total(v, v);
        floats.push_back(v);
        bits[size_t(x) * Words() + c / 32] |= uint32_t(v < 0) << c % 32;
        bytes &= bytes_.data()[at] == int8_t(std::fmin(std::fmax(std::round(v), -128.0f), 127.0f));
        sums[c] = Total(sums[c], v);
        for (int window = 0; window < Windows(); ++window)
          if (x >= 2 * window - before_ && x <= 2 * window + 2 - before_)
            maxima[size_t(window) * channels_ + c] = std::fmax(maxima[size_t(window) * channels_ + c], v);
        v = Product(v, v);
        v = std::fmax(v, Product(v, vector_.data()[c]));
        v = std::fmin(std::fmax(v, -1.5f), 2.5f);
        v = Logistic(Product(v, Logistic(v)));
        sigmas.push_back(v);
      }
    Check(SameBits(floats_.values(), floats), what + ": floats");
    Check(SameBits(sigmas_.values(), sigmas), what + ": logistic function");
    Check(SameBits(sums_.values(), sums), what + ": sums");
    Check(SameBits(maxima_.values(), maxima), what + ": maxima of columns");
    Check(bits_.values() == bits, what + ": bits");
    Check(bytes, what + ": int8");
    Check(vector_.intact() && map_.intact() && numbers_.intact() && sums_.intact() && floats_.intact() &&
              sigmas_.intact() && maxima_.intact() && bits_.intact() && bytes_.intact(),
          what + ": wrote before a tensor");
  }

 private:
  int Words() const { return (channels_ + 31) / 32; }
  int Windows() const { return (width_ + 1) / 2; }
  float Logistic(float x) const {
    kernels_->logistic(&x, 1, &x);
    return x;
  }
  void Add(Stage::Kind kind, uint8_t* memory, ptrdiff_t pixel) {
    Stage stage;
    stage.kind = kind;
    stage.in = stage.out = memory ? memory : vector_.bytes();
    stage.pixel = pixel;
    stage.lo = -1.5f;
    stage.hi = 2.5f;
    stage.before = before_;
    stage.windows = Windows();
    list_.push_back(stage);
  }

  const Kernels* kernels_;
  int width_, channels_;
  AtEdge<float> vector_, map_, numbers_, sums_, floats_, sigmas_, maxima_;
  AtEdge<uint32_t> bits_;
  AtEdge<int8_t> bytes_;
  std::vector<float> sums_before_;
  int before_;
  std::vector<Stage> list_;
};

void TestPlain(const Kernels* kernels, int width, int channels, const std::string& what) {
  Stages stages(kernels, width, channels);
  AtEdge<float> input(Floats(size_t(width) * channels));
  kernels->load({input.bytes(), channels * ptrdiff_t(sizeof(float)), 0, width, channels}, stages.epilogue());
  stages.Expect(input.values(), what + " load");
}

void TestPool(const Kernels* kernels, int width, int channels, bool maximum, const std::string& what) {
  Stages stages(kernels, width, channels);
  const int rows = Random(1, 3), size = Random(1, 3), in_width = width + size - 1;
  std::vector<std::unique_ptr<AtEdge<float>>> input;
  const uint8_t* lines[3];
  for (int j = 0; j < rows; ++j) {
    input.push_back(std::make_unique<AtEdge<float>>(Floats(size_t(in_width) * channels)));
    lines[j] = input[j]->bytes();
  }
  std::vector<int> begin, end;
  std::vector<float> expected;
  for (int x = 0; x < width; ++x) {
    begin.push_back(x);
    end.push_back(x + size);
    for (int c = 0; c < channels; ++c) {
      float value = maximum ? -INFINITY : 0;
      for (int j = 0; j < rows; ++j)
        for (int i = x; i < x + size; ++i) {
          const float next = input[j]->data()[size_t(i) * channels + c];
          value = maximum ? std::fmax(value, next) : Total(value, next);
        }
      expected.push_back(maximum ? value : value / float(rows * size));
    }
  }
  kernels->pool(
      {lines, rows, channels * ptrdiff_t(sizeof(float)), 0, begin.data(), end.data(), width, 0, channels, maximum},
      stages.epilogue());
  stages.Expect(expected, what + (maximum ? " maximum" : " average"));
}

// Whether float sums use fused multiply-adds. The portable kernels and ARMv7's round product and sum separately.
bool FusesProducts(const Kernels* kernels) {
#if defined(__x86_64__) || defined(__aarch64__)
  return std::string(kernels->name) != "portable";
#else
  (void)kernels;
  return false;
#endif
}

void TestFconv(const Kernels* kernels, int width, int channels, const std::string& what) {
  Stages stages(kernels, width, channels);
  const int segments = Random(1, 3), length = Random(1, 9), inputs = segments * length, step = Random(1, length);
  const ptrdiff_t row = (width - 1) * step + length;
  AtEdge<float> input(Floats(size_t(row) * segments));
  const auto filter = Floats(size_t(channels) * inputs);
  auto bias = Floats(channels);
  std::vector<ptrdiff_t> segment;
  for (int s = 0; s < segments; ++s) segment.push_back(s * row * ptrdiff_t(sizeof(float)));
  std::vector<float> expected;
  for (int x = 0; x < width; ++x)
    for (int o = 0; o < channels; ++o) {
      float sum = bias[o];
      for (int s = 0; s < segments; ++s)
        for (int i = 0; i < length; ++i) {
          const float value = input.data()[s * row + x * step + i], weight = filter[o * inputs + s * length + i];
          sum = FusesProducts(kernels) ? std::fma(value, weight, sum) : Total(sum, Product(value, weight));
        }
      expected.push_back(sum);
    }
  bias.resize((channels + kBlock - 1) / kBlock * kBlock);
  ptrdiff_t block_bytes;
  AtEdge<uint8_t> weights(PackFloats(filter.data(), channels, inputs, &block_bytes));
  const RunList runs{input.bytes(), step * ptrdiff_t(sizeof(float)), segment.data(), segments, length};
  kernels->fconv({runs, reinterpret_cast<const float*>(weights.data()), block_bytes, bias.data(), width, 0, channels},
                 stages.epilogue());
  stages.Expect(expected, what + " conv");
}

void TestBconv(const Kernels* kernels, int width, int channels, const std::string& what) {
  Stages stages(kernels, width, channels);
  const int segments = Random(1, 3), length = Random(1, 5), words = segments * length;
  const ptrdiff_t row = (width - 1) + length;
  AtEdge<uint32_t> input(size_t(row) * segments);
  std::vector<uint32_t> filter(size_t(channels) * words);
  for (uint32_t& word : filter) word = rng();
  for (ptrdiff_t i = 0; i < row * segments; ++i) input.data()[i] = rng();
  auto multiplier = Floats(channels), bias = Floats(channels);
  std::vector<ptrdiff_t> segment;
  for (int s = 0; s < segments; ++s) segment.push_back(s * row * ptrdiff_t(sizeof(uint32_t)));
  std::vector<float> expected;
  const float lo = 8.0f * words, hi = 40.0f * words;
  for (int x = 0; x < width; ++x)
    for (int o = 0; o < channels; ++o) {
      int count = 0;
      for (int s = 0; s < segments; ++s)
        for (int i = 0; i < length; ++i)
          count += __builtin_popcount(input.data()[s * row + x + i] ^ filter[o * words + s * length + i]);
      const float clamped = std::fmin(std::fmax(float(2 * count), lo), hi);
      expected.push_back(Total(Product(clamped, multiplier[o]), bias[o]));
    }
  multiplier.resize(64);
  bias.resize(64);
  ptrdiff_t block_bytes;
  const auto weights = PackBits(filter.data(), channels, 1, words, kernels->chunk_bits, &block_bytes);
  BconvRow job{};
  job.input = {input.bytes(), sizeof(uint32_t), segment.data(), segments, length};
  std::vector<uint8_t> scratch(kernels->bconv_scratch(width, job.input));
  job.weights = weights.data(), job.block_bytes = block_bytes, job.width = width, job.channels = channels;
  job.multiplier = multiplier.data(), job.bias = bias.data();
  job.clamp = true, job.lo = lo, job.hi = hi, job.scratch = scratch.data();
  kernels->bconv(job, stages.epilogue());
  stages.Expect(expected, what + " bconv");
}

void TestArithmetic(const Kernels* kernels, int count, const std::string& what) {
  AtEdge<float> x(Floats(count)), y(Floats(count)), out(count);
  for (ArithmeticRun::Kind kind :
       {ArithmeticRun::kMul, ArithmeticRun::kAdd, ArithmeticRun::kSub, ArithmeticRun::kPrelu, ArithmeticRun::kFirst})
    for (int form = 0; form < 8; ++form) {
      const int x_step = form & 1, y_step = form >> 1 & 1;
      const bool clamp = form & 4;
      kernels->arithmetic({kind, clamp, -1, 0.5f, x.data(), y.data(), x_step, y_step, count, out.data()});
      std::vector<float> expected;
      for (int i = 0; i < count; ++i) {
        const float u = x.data()[i * x_step], v = y.data()[i * y_step];
        float value = u;
        if (kind == ArithmeticRun::kMul || (kind == ArithmeticRun::kPrelu && u < 0)) value = Product(u, v);
        if (kind == ArithmeticRun::kAdd) value = Total(u, v);
        if (kind == ArithmeticRun::kSub) value = Total(u, -v);
        expected.push_back(clamp ? std::fmin(std::fmax(value, -1.0f), 0.5f) : value);
      }
      Check(SameBits(out.values(), expected) && out.intact(),
            what + " arithmetic " + std::to_string(kind) + ", form " + std::to_string(form));
    }
}

void TestUnpack(const Kernels* kernels, int pixels, int channels, const std::string& what) {
  const int words = (channels + 31) / 32;
  AtEdge<uint32_t> bits(size_t(pixels) * words);
  for (int i = 0; i < pixels * words; ++i) bits.data()[i] = rng();
  AtEdge<float> floats(size_t(pixels) * channels);
  AtEdge<int8_t> bytes(size_t(pixels) * channels);
  kernels->unpack(bits.data(), pixels, channels, floats.data());
  kernels->unpack_bytes(bits.data(), pixels, channels, 5, -9, bytes.data());
  bool equal = floats.intact() && bytes.intact();
  for (int pixel = 0; pixel < pixels; ++pixel)
    for (int c = 0; c < channels; ++c) {
      const bool negative = bits.data()[pixel * words + c / 32] >> c % 32 & 1;
      equal &= floats.data()[pixel * channels + c] == (negative ? -1.0f : 1.0f);
      equal &= bytes.data()[pixel * channels + c] == (negative ? -9 : 5);
    }
  Check(equal, what + " unpack");
}

// Results must not depend on a value's position, and must be close to the exact softmax and logistic functions.
void TestExponentials(const Kernels* kernels, int rows, int channels, const std::string& what) {
  std::vector<float> values = Floats(size_t(rows) * channels);
  for (size_t i = 0; i < values.size(); ++i) values[i] *= float(i % 7 * i % 11);
  AtEdge<float> x(values), y(values.size()), z(values.size());
  const float beta = Random(0, 3) ? 1.25f : -0.5f;
  kernels->softmax(x.data(), rows, channels, beta, y.data());
  kernels->logistic(x.data(), int64_t(values.size()), z.data());
  bool equal = y.intact() && z.intact(), close = true;
  for (int row = 0; row < rows; ++row) {
    const size_t at = size_t(row) * channels;
    std::vector<float> alone(channels);
    kernels->softmax(x.data() + at, 1, channels, beta, alone.data());
    equal &= !std::memcmp(alone.data(), y.data() + at, channels * sizeof(float));
    double top = -INFINITY, sum = 0;
    for (int c = 0; c < channels; ++c) top = std::fmax(top, double(beta) * values[at + c]);
    for (int c = 0; c < channels; ++c) sum += std::exp(double(beta) * values[at + c] - top);
    for (int c = 0; c < channels; ++c) {
      const double probability = std::exp(double(beta) * values[at + c] - top) / sum,
                   sigma = 1 / (1 + std::exp(-double(values[at + c])));
      close &= std::fabs(y.data()[at + c] - probability) <= 5e-6 * probability + 1e-7;
      close &= std::fabs(z.data()[at + c] - sigma) <= 5e-6 * sigma + 1e-37;
      float one = values[at + c];
      kernels->logistic(&one, 1, &one);
      equal &= one == z.data()[at + c];
    }
  }
  Check(equal, what + " exponentials: results depend on a value's position");
  Check(close, what + " exponentials");
}

}  // namespace

void TestLanes(const Kernels* kernels) {
  for (int channels : kChannels) {
    for (int width : kWidths) {
      const std::string what =
          std::string(kernels->name) + " " + std::to_string(width) + "x" + std::to_string(channels);
      TestPlain(kernels, width, channels, what);
      TestPool(kernels, width, channels, true, what);
      TestPool(kernels, width, channels, false, what);
      TestFconv(kernels, width, channels, what);
      TestBconv(kernels, width, channels, what);
      TestUnpack(kernels, width, channels, what);
      TestExponentials(kernels, width, channels, what);
    }
    TestArithmetic(kernels, channels, std::string(kernels->name) + " " + std::to_string(channels));
  }
  TestExponentials(kernels, 3, 1000, std::string(kernels->name) + " 1000");
  // Far from zero, the logistic function is 0 or 1, and NaN stays NaN.
  float far[] = {-1e30f, -INFINITY, -105, 105, INFINITY, 1e30f, 0, -0.0f, NAN};
  kernels->logistic(far, 9, far);
  const float expected[] = {0, 0, 0, 1, 1, 1, 0.5f, 0.5f};
  Check(!std::memcmp(far, expected, sizeof expected) && std::isnan(far[8]),
        std::string(kernels->name) + " logistic function far from zero");
}

}  // namespace r2b
