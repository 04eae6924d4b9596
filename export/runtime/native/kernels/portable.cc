// Plain C++ for every other processor. Loops run over the 32 channels of a block so that compilers find vectors.
#include "kernels.h"

namespace r2b {
namespace {
#define R2B_UNROLL
#include "tile.inl"

struct V {
  static constexpr int kWidth = 8;
  struct F {
    float lane[kWidth];
  };
  static constexpr int kFconvPixels = 1;
  static constexpr int kPlainPixels = 1;
  static constexpr int kDenseGroups = 1;
#define R2B_LANES(expression)                              \
  F r;                                                     \
  for (int i = 0; i < kWidth; ++i) r.lane[i] = expression; \
  return r
  static R2B_INLINE F Load(const float* p) { R2B_LANES(p[i]); }
  static R2B_INLINE void Store(float* p, F v) {
    for (int i = 0; i < kWidth; ++i) p[i] = v.lane[i];
  }
  static constexpr int kPicks = 0;
  static R2B_INLINE F Set1(float v) { R2B_LANES(v); }
  static R2B_INLINE F Repeat4(const float* p) { R2B_LANES(p[i % 4]); }
  static R2B_INLINE F Zero() { return Set1(0); }
  static R2B_INLINE F Mul(F a, F b) { R2B_LANES(a.lane[i] * b.lane[i]); }
  static R2B_INLINE F Add(F a, F b) { R2B_LANES(a.lane[i] + b.lane[i]); }
  static R2B_INLINE F Div(F a, F b) { R2B_LANES(a.lane[i] / b.lane[i]); }
  static R2B_INLINE F Max(F a, F b) { R2B_LANES(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
  static R2B_INLINE F Min(F a, F b) { R2B_LANES(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
  static R2B_INLINE F Fma(F a, F b, F c) { R2B_LANES(a.lane[i] * b.lane[i] + c.lane[i]); }
  static R2B_INLINE F Prelu(F v, F a) { R2B_LANES(v.lane[i] < 0 ? v.lane[i] * a.lane[i] : v.lane[i]); }
#undef R2B_LANES
  static R2B_INLINE uint32_t NegativeMask(F v) {
    uint32_t mask = 0;
    for (int i = 0; i < kWidth; ++i) mask |= uint32_t(v.lane[i] < 0) << i;
    return mask;
  }
};
using T = Tile<V>;

#include "resample.inl"

R2B_INLINE uint32_t PopCount(uint32_t v) {
  v -= (v >> 1) & 0x55555555u;
  v = (v & 0x33333333u) + ((v >> 2) & 0x33333333u);
  v = (v + (v >> 4)) & 0x0f0f0f0fu;
  return (v * 0x01010101u) >> 24;
}

void Bconv(const BconvRow& row, const Epilogue& epilogue) {
  for (int block = 0; block * kBlock < row.channels; ++block)
    for (int x = 0; x < row.width; ++x) {
      uint32_t count[kBlock] = {};
      auto w = reinterpret_cast<const uint32_t*>(static_cast<const uint8_t*>(row.weights) + block * row.block_bytes);
      for (int s = 0; s < row.input.segments; ++s) {
        auto in = reinterpret_cast<const uint32_t*>(row.input.origin + x * row.input.pixel + row.input.segment[s]);
        for (int i = 0; i < row.input.length; ++i, w += kBlock)
          for (int lane = 0; lane < kBlock; ++lane) count[lane] += PopCount(in[i] ^ w[lane]);
      }
      float twice[kBlock];
      for (int lane = 0; lane < kBlock; ++lane) twice[lane] = float(int32_t(2 * count[lane]));
      V::F v[1][T::kRegs];
      for (int r = 0; r < T::kRegs; ++r) v[0][r] = V::Load(twice + r * V::kWidth);
      const int c = block * kBlock;
      T::Affine<1>(v, row, x, c);
      T::RunEpilogue<1>(v, epilogue, x, row.channel0 + c, row.channels - c);
    }
}

size_t BconvScratch(int, const RunList&) { return 0; }

}  // namespace

const Kernels* PortableKernels() {
  static const Kernels kernels = {"portable", 32,       1 << 22,  BconvScratch, Bconv,        T::Fconv,
                                  T::Pool,    T::Plain, T::Dense, T::Logistic,  T::PackSigns, ResampleImage<V>,
                                  V::kPicks};
  return &kernels;
}
}  // namespace r2b
