// What the graph plan asks of an instruction set: a table of functions that each compute one row of outputs.
//
// Layout. Activations are NHWC, or, inside a plan, rows of blocks: of each row first 32 channels of all its pixels,
// then the next 32 (Stage::gap). A bit-packed activation holds 32 channels in each 32-bit word, least significant bit
// first, 1 meaning negative, as LCE's converter defines it. All kernels work on tiles of P pixels x 32 output channels
// (kBlock): 32 channels are one word of packed output, two AVX-512 registers, four AVX ones, eight NEON ones.
//
// A row kernel computes tile after tile: accumulate (convolution, window, or plain load) into registers, run the
// epilogue over them, go on. Of a last block of fewer channels it computes only the registers that hold some. The
// epilogue is a short list of stages (multiply, add, PReLU, store, pack signs, ...), chosen when the graph is planned.
// One dispatch of a stage serves a whole tile, so the list costs little more than code written out for one network, and
// intermediate results of a block never leave the registers.
//
// Every multiplication and addition of the epilogue is rounded on its own (no fused multiply-add), as TensorFlow
// Lite's kernels do, because the sign of the result decides bits downstream. Float convolutions start from the bias and
// add one fused product after the other, in the order of the filter's memory; averages add pixel after pixel; dense
// layers of one vector add in four lanes, those of several as float convolutions do; the logistic function is a given
// approximation. So do the kernels in LCE's interpreter on x86, and so whole networks agree with it to the last bit,
// where sums in another order would flip a few signs in every image.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/fixed_product.inl"

namespace r2b {

constexpr int kBlock = 32;
constexpr int kDenseGroup = 8;  // outputs of a dense layer whose weights lie side by side

struct Requantisation;

struct Stage {
  enum Kind : uint8_t {
    kMul,       // v *= operand
    kMulPixel,  // v *= operand, one number for all channels of a pixel
    kMulSelf,   // v *= v
    kAdd,       // v += operand
    kAddPixel,
    kAddSelf,
    kPrelu,        // v = v < 0 ? v * operand : v
    kPreluMax,     // the same for operands that are at most 1: v = max(v, v * operand)
    kClamp,        // v = min(max(v, lo), hi)
    kLogistic,     // v = 1 / (1 + exp(-v))
    kMulLogistic,  // v *= 1 / (1 + exp(-v))
    kStoreFloat,
    kStoreBits,  // sign bits, one word for 32 channels
    kStoreInt8,  // v / scale rounded half away from zero, + zero_point, saturated
    kSum,        // out[c] += v, one pixel after the other
    kNumbers,    // v, a whole 32-bit sum, becomes an int8 number as `output` says
    // out[j] = max(v[2j - before], v[2j + 1 - before], v[2j + 2 - before]) for the `windows` first j, of those there
    // are
    kMaxColumns,
  };
  Kind kind;
  float lo = 0, hi = 0;
  // Operand (or output) of output pixel 0 and channel 0 of the row, and bytes from one pixel to the next. A pixel
  // stride of 0 makes an operand one vector over the channels.
  const uint8_t* in = nullptr;
  uint8_t* out = nullptr;
  ptrdiff_t pixel = 0;
  // Between the bytes of a block of 32 channels and those of the next: 0 where channels are contiguous.
  ptrdiff_t gap = 0;
  const Requantisation* output = nullptr;  // kNumbers
  float scale = 1;                         // kStoreInt8
  int32_t zero_point = 0;
  int before = 0, windows = 0;  // kMaxColumns; `before` is 0 or 1, and `pixel` is between windows
};

struct Epilogue {
  const Stage* stages;
  int count;
};

// A convolution reads each output pixel's inputs as a few contiguous runs: one per kernel row where the input
// allows it (no dilation), else one per tap. `segment[i]` is the run's offset in bytes from the pixel's origin.
struct RunList {
  const uint8_t* origin;  // of output pixel 0
  ptrdiff_t pixel;        // bytes between the origins of neighbouring output pixels
  const ptrdiff_t* segment;
  int segments;
  int length;  // of a run: 32-bit words, or floats
};

// v = (2 * popcount + corrections[x]) clamped, * multiplier + bias; steps/bconv.cc says how these are made. What is
// added up before `multiplier` is whole numbers, so that a product of signs that is 0 stays 0 wherever the image is
// padded.
struct BconvRow {
  RunList input;
  const void* weights;    // packed by PackBits
  ptrdiff_t block_bytes;  // from one block of 32 output channels to the next
  int width, channel0, channels;
  const float* multiplier;  // from channel0, padded to whole blocks
  const float* bias;
  bool unscaled;  // all multipliers are -1 and nothing is clamped
  bool clamp;
  float lo, hi;
  const float* const* corrections;  // per pixel of the row: null, or a vector like `bias`; the whole array may be null
  int correction0;                  // of channel0 in those vectors
  void* scratch;                    // BconvScratch() bytes, private to the thread
};

struct FconvRow {
  RunList input;
  const float* weights;  // packed by PackFloats
  ptrdiff_t block_bytes;
  const float* bias;  // from channel0, padded to whole blocks
  int width, channel0, channels;
};

// What a convolution of 8-bit numbers adds up in one 32-bit sum at a time: activations lie so in scratch memory,
// weights in four or two columns.
enum class BytePacking : uint8_t {
  kUnsigned,  // four products of an unsigned activation, number + 128, and a signed weight
  kSigned,    // four products of signed numbers
  kPairs,     // two products of 16-bit numbers; that of an activation is number - zero point
};
inline int ProductsOf(BytePacking packing) { return packing == BytePacking::kPairs ? 2 : 4; }
inline int ActivationBytes(BytePacking packing) { return packing == BytePacking::kPairs ? 2 : 1; }

// How sums become int8 numbers, one of each for an output channel: TensorFlow Lite's fixed-point arithmetic, with both
// of its roundings.
struct Requantisation {
  const int32_t *bias, *multiplier, *left, *right;  // in units of a product; 2^31 * multiplier; shifts before and after
  int32_t zero_point, lo, hi;                       // of the output; `lo` and `hi` are what its activation leaves
};

// Values in registers are int8 numbers as floats; or, `unfinished`, the sums that kNumbers makes them of, which floats
// must hold exactly.
struct QconvRow {
  // Pixel 0 of each row of the input that the filter meets; null: the row lies outside. Each is copied to scratch
  // memory, with the zero point where the filter meets pixels outside.
  const uint8_t* const* lines;
  int rows, before, values, after;  // how many values lie outside, inside, and outside again
  uint8_t flip;                     // 0x80: the input is uint8, number + 128
  int32_t zero_point;               // of the numbers
  uint8_t* scratch;                 // QconvScratch() bytes, private to the thread
  ptrdiff_t line_bytes;             // from a row in scratch memory to the next
  RunList input;                    // in scratch memory; `length` counts columns of weights
  const uint8_t* weights;           // packed by PackBytes
  ptrdiff_t block_bytes;
  Requantisation output;  // from channel0, padded to whole blocks
  bool unfinished;
  int width, channel0, channels;
};
constexpr int kScratchMargin = 64;  // bytes after a row in scratch memory: vectors are read and written whole
inline ptrdiff_t QconvLine(BytePacking packing, int64_t values) {
  return ptrdiff_t((values * ActivationBytes(packing) + 2 * kScratchMargin - 1) / kScratchMargin * kScratchMargin);
}

// Each channel is convolved with a filter of its own: to the bias, the taps' products are added in their order, product
// and sum rounded apart.
struct DepthwiseRow {
  const uint8_t* origin;  // of output pixel 0 and channel 0
  ptrdiff_t pixel;        // bytes between the origins of neighbouring output pixels
  ptrdiff_t gap;          // as in a stage
  const ptrdiff_t* tap;   // offset in bytes from a pixel's origin
  int taps;
  bool threes;           // every three taps read neighbouring pixels, and so do neighbouring outputs
  const float* weights;  // [block of channels][tap][32], from channel 0
  const float* bias;     // from channel 0, padded to whole blocks
  int width;
  int begin_channel, end_channel;  // the first is that of a block
};

// Reduces a window. Pixels outside the image were clipped off by the caller.
struct PoolRow {
  const uint8_t* const* lines;  // input pixel 0 of each input row in the window
  int rows;                     // how many
  ptrdiff_t pixel, gap;         // bytes between input pixels, and, as in a stage, between blocks of channels
  const int* begin;             // per output pixel: first input pixel, and one past the last
  const int* end;
  int width;
  int begin_channel, end_channel;  // which of the pixels' channels; the first is that of a block
  bool maximum;                    // else average
};

// An element-wise operator of two operands, or the first of them alone (as it is, or rounded, halves to even numbers),
// and a clamp. An operand's step is 1, or 0 where it is one number.
struct ArithmeticRun {
  enum Kind : uint8_t { kMul, kAdd, kSub, kPrelu, kMinimum, kMaximum, kRound, kFirst };
  Kind kind;
  bool clamp;
  float lo, hi;
  const float *x, *y;  // y: also where it is not used
  int x_step, y_step;
  int count;
  float* out;
};

struct LoadRow {
  const uint8_t* origin;
  ptrdiff_t pixel, gap;  // as in PoolRow
  int width, channels;
};

// A row of a map in another size: the four pixels around each position, each times its weight, are added up in the
// order upper left, upper right, lower left, lower right.
struct BilinearRow {
  const uint8_t *upper, *lower;   // input pixel 0
  const int *left, *right;        // input pixels, for each output pixel
  const float* across;            // how far each lies from the left to the right,
  float down;                     // and from the upper to the lower row
  ptrdiff_t in_pixel, out_pixel;  // bytes from pixel to pixel
  int width, channels;
  uint8_t* out;
};

// One image in another size. Along each axis a result has four samples and as many weights (cubic), or two and the
// weight of the second (linear).
struct Resample {
  const void* image;
  bool bytes;         // else floats
  int row;            // values in a row of the image: pixels * channels
  ptrdiff_t stride;   // from one row to the next
  int channels;       // 1 or 3
  int height, width;  // of the result
  bool cubic;
  const int* rows;              // [sample][height]
  const float* row_weights;     // [sample or one][height]
  const int* columns;           // [sample][width], in values from the begin of a row
  const float* column_weights;  // [sample or one][width]
  // The same for kernels that pick their vectors of values out of two vectors of the line each: where those two begin,
  // which of their values, and the weights, [sample][vector of values][lane]. Null where samples lie too far apart.
  const int* picked;  // [sample][vector of values]
  const int* lanes;
  const float* lane_weights;
  const float* mean;  // [width * channels]: the result is (value - mean) / std; null: the value
  const float* std;
  float* scratch;  // ResampleScratch() values, private to the thread
  float* out;      // [height][width][channels]
  bool streamed;   // past the caches: nobody reads it soon
};
constexpr int kResampleMargin = 32;  // two vectors begin at the last value of a line
inline size_t ResampleScratch(const Resample& r) {
  return size_t(r.row) + 2 * size_t(r.width) * size_t(r.channels) + 3 * size_t(kResampleMargin);
}

struct Kernels {
  const char* name;
  int chunk_bits;  // how many input channels one element of packed binary weights covers
  int max_depth;   // largest kernel_h * kernel_w * channels that the accumulators hold
  size_t (*bconv_scratch)(int width, const RunList&);
  void (*bconv)(const BconvRow&, const Epilogue&);
  void (*fconv)(const FconvRow&, const Epilogue&);
  BytePacking byte_packing;
  void (*qconv)(const QconvRow&, const Epilogue&);
  void (*depthwise)(const DepthwiseRow&, const Epilogue&);
  void (*pool)(const PoolRow&, const Epilogue&);
  void (*load)(const LoadRow&, const Epilogue&);
  // y[o] = sum_i x[i] * w[o][i] for o in [begin, end), weights packed by PackDense; begin is a multiple of kDenseGroup
  void (*dense)(const float* x, const float* packed, int inputs, int begin, int end, float* y);
  void (*logistic)(const float* x, int64_t count, float* y);
  void (*softmax)(const float* x, int64_t rows, int channels, float beta, float* y);
  void (*arithmetic)(const ArithmeticRun&);
  void (*bilinear)(const BilinearRow&);
  // Bits of pixels, in whole words, to 1 and -1 or to the two given values.
  void (*unpack)(const uint32_t* words, int64_t pixels, int channels, float* out);
  void (*unpack_bytes)(const uint32_t* words, int64_t pixels, int channels, int8_t plus, int8_t minus, int8_t* out);
  // To int8 as kStoreInt8 does.
  void (*to_bytes)(const float* values, int64_t count, float scale, int zero_point, int8_t* out);
  // Weights lie [channel][output], at most 32 channels: bit i of words[o] is set where that of channel i is negative.
  void (*pack_signs)(const float* weights, int channels, int outputs, uint32_t* words);
  void (*resample)(const Resample&);
  int picks;  // values in a vector of Resample::picked; 0: not used
};

// Null where not built for this target. Whether the CPU can run it is for dispatch.cc to find out.
const Kernels* PortableKernels();
const Kernels* Avx2Kernels();
const Kernels* Avx512Kernels();
const Kernels* Avx512XorKernels();  // the same, with other instructions for binary products
const Kernels* NeonKernels();
const Kernels* NeonDotKernels();  // with its dot products of 8-bit numbers
const Kernels* WasmKernels();     // only in WebAssembly, where there are no others

// The kernels of that name, or the best ones for "auto", "" and null. Null where they are not built or do not run here.
const Kernels* SelectKernels(const char* name);
// Names of all kernels that run here, best first; null-terminated.
const char* const* AvailableKernels();
// Those of two with the same name that this processor would not select; null where there are no two. For tests.
const Kernels* OtherKernels();

}  // namespace r2b
