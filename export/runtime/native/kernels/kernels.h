// The interface between a graph plan and an instruction set: a table of functions (Kernels), most of which compute one
// row of outputs.
//
// Layout. Activations are NHWC. Inside a plan there may be a gap after each pixel, or a row of an image may consist of
// blocks: the first 32 channels of all its pixels, then the next 32 channels of all its pixels, and so on (Stage::gap).
// A bit-packed activation holds 32 channels in each 32-bit word, least significant bit first, where 1 means negative,
// as the converter of Larq Compute Engine (LCE) defines it. All row kernels work on tiles of P pixels x 32 output
// channels (kBlock): 32 channels are one word of packed output, two AVX-512 registers, four AVX2 ones, or eight NEON
// ones.
//
// A row kernel computes tile after tile: it accumulates values in registers (convolution, pooling) or loads them, and
// runs the epilogue on them. If the last block has fewer than 32 channels, only the registers that hold some of them
// are computed. The epilogue is a short list of stages (multiply, add, PReLU, store, pack signs, ...), chosen when the
// graph is planned. One dispatch of a stage serves a whole tile, so the list costs little more than code written for
// one network. Intermediate results stay in registers.
//
// Every multiplication and addition of the epilogue is rounded separately (no fused multiply-add), as in TensorFlow
// Lite's kernels, because the sign of a result may become a bit of the next layer's input. Float convolutions start
// from the bias and add one product after the other, in the order in which the filter is stored, with fused
// multiply-adds where the instruction set has them. Averages add pixel after pixel. A dense layer adds in four lanes if
// there is one input vector, and like a float convolution if there are several. The logistic function is a fixed
// approximation (exponential.inl). The kernels of LCE's interpreter on x86 do all of this in the same way, so whole
// networks agree with it to the last bit; sums in another order would flip a few signs in every image.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

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
    kNumbers,    // v, a 32-bit sum, is requantised to an int8 number as `output` says; floats hold both
    // out[j] = max(v[2j - before], v[2j + 1 - before], v[2j + 2 - before]) for 0 <= j < windows, without pixels outside
    // the row
    kMaxColumns,
  };
  Kind kind;
  float lo = 0, hi = 0;  // kClamp
  // The operand (`in`) or output (`out`) of the row's pixel 0 and channel 0, and the bytes from one pixel to the next
  // (`pixel`). If `pixel` is 0, the operand is one vector over the channels, the same for all pixels.
  const uint8_t* in = nullptr;
  uint8_t* out = nullptr;
  ptrdiff_t pixel = 0;
  ptrdiff_t row = 0;  // bytes from one row to the next; 0: all rows have the same operand
  // Bytes between the end of a pixel's block of 32 channels and the start of its next block; 0: channels are
  // contiguous.
  ptrdiff_t gap = 0;
  const Requantisation* output = nullptr;  // kNumbers
  float scale = 1;                         // kStoreInt8
  int32_t zero_point = 0;
  int before = 0, windows = 0;  // kMaxColumns; `before` is 0 or 1, and `pixel` is the bytes between windows
};

// The stages that follow a binary convolution in this project's networks; with `vector`, the operand must be one vector
// over the channels. Kernels have code for exactly this list, which needs no dispatch per stage.
struct GatedStage {
  Stage::Kind kind;
  bool vector;
};
constexpr GatedStage kGated[] = {{Stage::kMul, true},         {Stage::kPreluMax, true}, {Stage::kAdd, false},
                                 {Stage::kStoreFloat, false}, {Stage::kMul, true},      {Stage::kAdd, true},
                                 {Stage::kStoreBits, false},  {Stage::kSum, false}};
constexpr int kGatedCount = sizeof kGated / sizeof *kGated;

// A list of stages, which must not change while the epilogue exists.
struct Epilogue {
  const Stage* stages;
  int count;
  bool is_gated;  // the stages are those of kGated

  Epilogue(const Stage* stages, int count) : stages(stages), count(count), is_gated(count == kGatedCount) {
    for (int s = 0; s < count && is_gated; ++s)
      is_gated =
          stages[s].kind == kGated[s].kind && (!kGated[s].vector || (stages[s].pixel == 0 && stages[s].gap == 0));
  }
};

// A convolution reads each output pixel's inputs as a few contiguous runs: one for each kernel row if the row's taps
// are contiguous in memory (no horizontal dilation, one group), else one for each tap. `segment[i]` is the offset in
// bytes from a pixel's origin to its run i.
struct RunList {
  const uint8_t* origin;  // of output pixel 0: where its first tap reads
  ptrdiff_t pixel;        // bytes between the origins of neighbouring output pixels
  const ptrdiff_t* segment;
  int segments;
  int length;  // of a run: 32-bit words, or floats
};

// A row of a binary convolution: v = clamp(2 * popcount + corrections[x]) * multiplier + bias; steps/bconv.cc derives
// these values. Everything before the multiplication is a whole number, so equal dot products give equal results,
// whether or not a window reaches into the padding.
struct BconvRow {
  RunList input;
  const void* weights;            // packed by PackBits, from channel0 on
  ptrdiff_t block_bytes;          // from one block of 32 output channels to the next
  int width, channel0, channels;  // output pixels; the first output channel, and how many
  const float* multiplier;        // from channel0, padded to whole blocks
  const float* bias;
  bool unscaled;  // all multipliers are -1 and nothing is clamped
  bool clamp;
  float lo, hi;
  const float* const* corrections;  // per pixel of the row: null, or a vector like `bias`; the whole array may be null
  int correction0;                  // index of channel0 in those vectors
  void* scratch;                    // Kernels::bconv_scratch() bytes, private to the thread
};

// A row of a float convolution. Fields are like those of BconvRow.
struct FconvRow {
  RunList input;
  const float* weights;  // packed by PackFloats
  ptrdiff_t block_bytes;
  const float* bias;  // from channel0, padded to whole blocks
  int width, channel0, channels;
};

// How the operands of 8-bit convolutions are packed. A kernel adds four or two products to each 32-bit sum at a time,
// so activations (in scratch memory) and weights (in columns, see ByteColumns) lie in groups of four or two.
enum class BytePacking : uint8_t {
  kUnsigned,  // four products of an unsigned byte (the activation's number + 128) and a signed byte (the weight)
  kSigned,    // four products of signed bytes
  kPairs,     // two products of 16-bit numbers; an activation is stored as number - zero point
};
// The number of products that are added to a sum at a time, and the bytes of an activation in scratch memory.
inline int ProductsOf(BytePacking packing) { return packing == BytePacking::kPairs ? 2 : 4; }
inline int ActivationBytes(BytePacking packing) { return packing == BytePacking::kPairs ? 2 : 1; }

// How an output's 8-bit weights are divided into columns of `products` weights, which a kernel multiplies at a time.
// The weights come in segments of `length`. If `joined` is 0, each segment is filled up with zeros to whole columns. If
// not, the last weights of a segment, which do not fill a column, are joined with those of other segments. The whole
// columns of all segments come first; then come columns of `joined` such weights each, filled up with zeros.
struct ByteColumns {
  int length, products, joined;

  int rest() const { return joined ? length % products : 0; }
  int of_segment() const { return joined ? length / products : (length + products - 1) / products; }
  int of_rests(int segments) const { return joined ? (segments * rest() + joined - 1) / joined : 0; }
};

// How 32-bit sums become int8 numbers, or int8 numbers minus their zero point: TensorFlow Lite's fixed-point arithmetic
// with both of its roundings (FixedProduct).
struct Requantisation {
  // One number for each output channel: the bias, in units of a product, and the parts of the scale
  // 2^-31 * multiplier * 2^(left - right).
  const int32_t *bias, *multiplier, *left, *right;
  // The zero point of the output, or 0 if the results are numbers minus the zero point; and the limits to which the
  // activation clamps the results.
  int32_t zero_point, lo, hi;
  // Whether Q::Small (avx512.cc), which takes fewer instructions, gives the same results: floats hold all sums exactly,
  // and for every output channel 0 < right <= kMostRight, left is 0, and the bias is between -kMostBias and kMostBias.
  bool small;
  static constexpr int kMostRight = 22, kMostBias = 1 << 29;
};

// A row of an 8-bit convolution. The epilogue receives int8 numbers as floats or, if `unfinished`, the sums from which
// kNumbers makes them; floats must be able to hold these sums exactly.
struct QconvRow {
  // Pixel 0 of the input row under each kernel row; null: that row lies outside the image. The kernel copies these rows
  // to scratch memory and puts the zero point where the filter reads outside the image.
  const uint8_t* const* lines;
  int rows, before, values, after;  // kernel rows; how many of a row's values lie before, in and after the image
  // Scratch memory is a ring: kernel row i is in its row (first + i) % rows. Only the last `fresh` rows are copied,
  // since those before them are still there from the row of outputs above.
  int first, fresh;
  uint8_t flip;          // 0x80: the input is uint8, and flipping this bit makes it int8; 0: it is int8
  int32_t zero_point;    // of the input as int8 numbers
  uint8_t* scratch;      // (rows + planes) * line_bytes + kScratchMargin bytes, private to the thread
  ptrdiff_t line_bytes;  // from a row in scratch memory to the next
  RunList input;         // in scratch memory; `length` counts columns of weights
  // If a kernel row's values do not fill whole columns, the last `rest` values of several rows may be joined
  // (ByteColumns) in planes, which follow the rows in scratch memory. A plane has the rows' pixel stride, and `joined`
  // values for each pixel. The last segments of `input` are the planes, with one column each.
  int planes, joined, rest;
  // Masks for the bytes of a plane: 0xff where a pixel begins, else 0, from four bytes before pixel 0 on; and zeros.
  const uint8_t *pixel_starts, *no_bytes;
  const uint8_t* weights;  // packed by PackBytes, from channel0 on
  ptrdiff_t block_bytes;
  Requantisation output;  // from channel0, padded to whole blocks
  bool unfinished;
  int width, channel0, channels;
};
constexpr int kScratchMargin = 64;  // bytes after a row in scratch memory, since vectors are read and written whole
// QconvRow::line_bytes for rows of `values` values.
inline ptrdiff_t QconvLine(BytePacking packing, int64_t values) {
  return ptrdiff_t((values * ActivationBytes(packing) + 2 * kScratchMargin - 1) / kScratchMargin * kScratchMargin);
}

// A row of a depthwise convolution. The taps' products are added to the bias in the order of the taps; each product and
// each sum is rounded separately.
struct DepthwiseRow {
  const uint8_t* origin;  // of output pixel 0 and channel 0
  ptrdiff_t pixel;        // bytes between the origins of neighbouring output pixels
  ptrdiff_t gap;          // as in a stage
  const ptrdiff_t* tap;   // offset in bytes from a pixel's origin
  int taps;
  bool threes;           // kernel width 3: its taps read adjacent pixels, and adjacent outputs have adjacent origins
  const float* weights;  // [block of channels][tap][32], from channel 0
  const float* bias;     // from channel 0, padded to whole blocks
  int width;
  int begin_channel, end_channel;  // begin_channel is a multiple of kBlock
};

// A row of pooling: the maximum or average of each window, which the caller has clipped to the image.
struct PoolRow {
  const uint8_t* const* lines;  // input pixel 0 of each input row in the window
  int rows;                     // how many
  ptrdiff_t pixel, gap;         // bytes between input pixels, and, as in a stage, between blocks of channels
  const int* begin;             // per output pixel: first input pixel, and one past the last
  const int* end;
  int width;
  int begin_channel, end_channel;  // begin_channel is a multiple of kBlock
  bool maximum;                    // else average
};

// An element-wise operator on two operands, or on x alone (kRound: halves to even; kFirst: x unchanged); with `clamp`,
// its results are clamped.
// An operand's step is 1, or 0 if the operand is a single number.
struct ArithmeticRun {
  enum Kind : uint8_t { kMul, kAdd, kSub, kPrelu, kMinimum, kMaximum, kRound, kFirst };
  Kind kind;
  bool clamp;
  float lo, hi;
  const float *x, *y;  // y must not be null, even if it is not used
  int x_step, y_step;
  int count;
  float* out;
};

// A row of a tensor that already exists.
struct LoadRow {
  const uint8_t* origin;
  ptrdiff_t pixel, gap;  // as in PoolRow
  int width, channels;
};

// A row of a feature map that is resized bilinearly. For each output pixel the four surrounding input pixels, each
// times its weight, are added in the order upper left, upper right, lower left, lower right.
struct BilinearRow {
  const uint8_t *upper, *lower;   // pixel 0 of the two input rows
  const int *left, *right;        // for each output pixel, the two input columns
  const float* across;            // for each output pixel, its distance from the left column, in input pixels
  float down;                     // the row's distance from the upper row, in input pixels
  ptrdiff_t in_pixel, out_pixel;  // bytes from pixel to pixel
  int width, channels;
  uint8_t* out;
};

// How one image is resized. Along each axis a value is interpolated from four samples, each with a weight (cubic), or
// from two samples and the weight of the second (linear).
struct Resample {
  const void* image;
  bool bytes;         // the image is of uint8; else of floats
  int row;            // values in a row of the image: pixels * channels
  ptrdiff_t stride;   // from one row to the next, in values
  int channels;       // 1 or 3
  int height, width;  // of the result
  bool cubic;
  const int* rows;              // [sample][height]
  const float* row_weights;     // [sample][height]; linear: [height]
  const int* columns;           // [sample][width], in values from the start of a row
  const float* column_weights;  // [sample][width]; linear: [width]
  // The columns for kernels that pick each vector of samples out of two successive vectors of a row (Kernels::picks).
  // `picked` is where those two begin, in values; null: samples lie too far apart, or the kernel does not pick. `lanes`
  // is which of the two vectors' values each lane takes, and `lane_weights` has the weight of each lane.
  const int* picked;          // [sample][vector]
  const int* lanes;           // [sample][vector][lane]
  const float* lane_weights;  // [sample][vector][lane]; linear: [vector][lane]
  const float* mean;          // [width * channels]: the result is (value - mean) / std; null: the value
  const float* std;
  float* scratch;  // ResampleScratch() values, private to the thread
  float* out;      // [height][width][channels]
  bool streamed;   // the result bypasses the caches, since nobody reads it soon
};
constexpr int kResampleMargin = 32;  // values after a line in scratch memory: two vectors may begin at its last value
inline size_t ResampleScratch(const Resample& r) {
  return size_t(r.row) + 2 * size_t(r.width) * size_t(r.channels) + 3 * size_t(kResampleMargin);
}

struct Kernels {
  const char* name;
  int chunk_bits;  // how many input channels one element of packed binary weights covers
  int max_depth;   // largest kernel_h * kernel_w * channels for which the accumulators of `bconv` suffice
  size_t (*bconv_scratch)(int width, const RunList&);  // bytes of BconvRow::scratch
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
  // Unpack the bits of pixels, each of which begins with a new word: 0 and 1 become 1 and -1, or `plus` and `minus`.
  void (*unpack)(const uint32_t* words, int64_t pixels, int channels, float* out);
  void (*unpack_bytes)(const uint32_t* words, int64_t pixels, int channels, int8_t plus, int8_t minus, int8_t* out);
  // Quantises floats to int8 as kStoreInt8 does.
  void (*to_bytes)(const float* values, int64_t count, float scale, int zero_point, int8_t* out);
  // Packs the signs of weights, [channel][output], of at most 32 channels: bit i of words[o] is set if the weight of
  // channel i and output o is negative.
  void (*pack_signs)(const float* weights, int channels, int outputs, uint32_t* words);
  void (*resample)(const Resample&);  // in WebAssembly only cubic
  int picks;                          // lanes of the vectors of Resample::picked; 0: `resample` does not use it
};

// Null for kernels that are not built for this target. dispatch.cc finds out which of the others the CPU can run.
const Kernels* PortableKernels();
const Kernels* Avx2Kernels();
const Kernels* Avx512Kernels();
const Kernels* Avx512XorKernels();  // the same with other instructions for binary products (avx512.cc)
const Kernels* NeonKernels();
const Kernels* NeonDotKernels();  // NEON with instructions for dot products of 8-bit numbers
const Kernels* WasmKernels();     // in WebAssembly, which has no others

// The kernels of that name, or the best ones for "auto", "" and null. Returns null if they are not built or do not run
// here.
const Kernels* SelectKernels(const char* name);
// The names of all kernels that run here, best first; null-terminated.
const char* const* AvailableKernels();
// For tests: if two tables of kernels that run here have the same name, the one that SelectKernels() does not choose on
// this processor. Otherwise null.
const Kernels* OtherKernels();

}  // namespace r2b
