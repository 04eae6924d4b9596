// The interface between a graph plan and an instruction set: a table of functions (Kernels), most of which compute one
// row of outputs.
//
// Layout. Activations are NHWC. Inside a plan, pixels may lie further apart than their channels need (Stage::pixel), or
// a row of an image may consist of blocks: the first 32 channels of all its pixels, then the next 32 channels of all
// its pixels, and so on (Stage::gap). A bit-packed activation holds 32 channels in each 32-bit word, least significant
// bit first. A bit of 1 means negative, as in Larq Compute Engine (LCE). Kernels with an epilogue (row kernels) work on
// tiles of P pixels x 32 output channels (kBlock): 32 channels are one word of packed output, two AVX-512 registers,
// four AVX2 ones, or eight NEON ones.
//
// A row kernel computes tile after tile: it accumulates values in registers (convolution, pooling) or loads them, and
// runs the epilogue on them. If the last block has fewer than 32 channels, its tiles have fewer registers. The epilogue
// is a short list of stages (multiply, add, PReLU, store, pack signs, ...), chosen when the graph is planned. A stage
// is dispatched once for a whole tile, so the list costs little more than code written for one network. Intermediate
// results stay in registers.
//
// Rounding. The sign of a result may become a bit of the next layer's input, so results must be rounded as in
// TensorFlow Lite's kernels. Every multiplication and addition of the epilogue is therefore rounded separately (no
// fused multiply-add). Float convolutions start from the bias and add one product after the other, in the order in
// which the filter is stored, with fused multiply-adds where the instruction set has them. Averages add pixel after
// pixel. A dense layer with one input vector adds in four lanes; with several, it adds like a float convolution. The
// logistic function is a fixed approximation (exponential.inl). The kernels of LCE's interpreter on x86 do all of this
// in the same way, so the results of whole networks agree to the last bit. Sums in another order would flip a few signs
// in every image.
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
    kNumbers,    // requantises v, a 32-bit sum, to an int8 number (`output`); both are held as floats
    // out[j] = max(v[2j - before], v[2j + 1 - before], v[2j + 2 - before]) for 0 <= j < windows; pixels outside the row
    // are left out
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
  int before = 0, windows = 0;  // kMaxColumns; `before` is 0 or 1, and `pixel` is the step from out[j] to out[j + 1]
};

struct GatedStage {
  Stage::Kind kind;
  bool vector;  // the operand must be one vector over the channels
};
// The stages that follow a binary convolution in a Real-to-Binary half block whose output feeds another half block:
// gate, PReLU, shortcut, store, batch norm, sign bits, and the sum for the next gate. Most sets of kernels have code
// for exactly this list, without a dispatch for each stage.
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

// A row of a binary convolution: v = clamp(2 * popcount(input ^ weights) + corrections[x]) * multiplier + bias.
// steps/bconv.cc explains the formula. Everything before the multiplication is a whole number, so equal dot products
// give equal results, whether or not a window reaches into the padding.
struct BconvRow {
  RunList input;
  const void* weights;            // packed by PackBits, from channel0 on
  ptrdiff_t block_bytes;          // from one block of 32 output channels to the next
  int width, channel0, channels;  // output pixels; the first output channel, and how many
  const float* multiplier;        // from channel0, padded to whole blocks
  const float* bias;
  bool unscaled;  // the convolution has no scale, so all multipliers are -1 (steps/bconv.cc), and nothing is clamped
  bool clamp;
  float lo, hi;
  const float* const* corrections;  // for each pixel a vector over the channels, or null; the array may be null, too
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

// How the operands of 8-bit convolutions are packed. An activation's number is its quantised int8 value. A kernel adds
// four or two products to each 32-bit sum at a time, so activations (in scratch memory) and weights (in columns, see
// ByteColumns) lie in groups of four or two.
enum class BytePacking : uint8_t {
  kUnsigned,  // four products of an unsigned byte (the activation's number + 128) and a signed byte (the weight)
  kSigned,    // four products of signed bytes
  kPairs,     // two products of 16-bit numbers; an activation is stored as number - zero point
};
// The number of products that are added to a sum at a time, and the bytes of an activation in scratch memory.
inline int ProductsOf(BytePacking packing) { return packing == BytePacking::kPairs ? 2 : 4; }
inline int ActivationBytes(BytePacking packing) { return packing == BytePacking::kPairs ? 2 : 1; }

// How the 8-bit weights of an output channel are divided into columns. A kernel multiplies the `products` weights of a
// column at a time. The weights come in segments of `length` weights. If `joined` is 0, each segment is filled up with
// zeros to whole columns. Otherwise, whole columns are taken from each segment, and fewer than `products` weights
// remain at its end. The whole columns of all segments come first. Then come the remaining weights of all
// segments: each column takes `joined` of them, and is filled up with zeros to `products`.
struct ByteColumns {
  int length, products, joined;

  // The number of remaining weights of a segment; the columns of a segment; the columns of all remaining weights.
  int rest() const { return joined ? length % products : 0; }
  int of_segment() const { return joined ? length / products : (length + products - 1) / products; }
  int of_rests(int segments) const { return joined ? (segments * rest() + joined - 1) / joined : 0; }
};

// How 32-bit sums become int8 numbers, or int8 numbers minus their zero point: TensorFlow Lite's fixed-point arithmetic
// with both of its roundings (FixedProduct).
struct Requantisation {
  // One number for each output channel: the bias, divided by the scales of input and weights so that it can be added to
  // the sums; and the parts of the scale
  // 2^-31 * multiplier * 2^(left - right).
  const int32_t *bias, *multiplier, *left, *right;
  // The zero point of the output, or 0 if the results are numbers minus the zero point; and the limits to which the
  // results are clamped.
  int32_t zero_point, lo, hi;
  // Whether Q::Small (avx512.cc) gives the same results in fewer instructions. If true, floats hold all sums exactly,
  // and for every output channel 0 < right <= kMostRight, left is 0, and the bias is between -kMostBias and kMostBias.
  bool small;
  static constexpr int kMostRight = 22, kMostBias = 1 << 29;
};

// A row of an 8-bit convolution. The epilogue receives int8 numbers as floats. If `unfinished` is true, it receives the
// sums instead, which the stage kNumbers requantises; floats must be able to hold them exactly.
struct QconvRow {
  // Pixel 0 of the input row under each kernel row; null: that row lies outside the image. The kernel copies these rows
  // to scratch memory and puts the zero point where the filter reads outside the image.
  const uint8_t* const* lines;
  int rows, before, values, after;  // kernel rows; how many of a row's values lie before, in and after the image
  // Scratch memory has a ring of `rows` rows: kernel row i is in row (first + i) % rows. Only the last `fresh` kernel
  // rows are copied; the others are still there from the row of outputs above.
  int first, fresh;
  uint8_t flip;          // 0x80: the input is uint8, and flipping this bit makes it int8; 0: it is int8
  int32_t zero_point;    // of the input as int8 numbers
  uint8_t* scratch;      // (rows + planes) * line_bytes + kScratchMargin bytes, private to the thread
  ptrdiff_t line_bytes;  // from a row in scratch memory to the next
  RunList input;         // in scratch memory; `length` counts columns of weights
  // If the values that an output pixel reads from a kernel row do not fill whole columns, the last `rest` of them may
  // be joined with those of other kernel rows (ByteColumns). The joined values lie in planes, which follow the rows in
  // scratch memory. A plane has the rows' pixel stride, and `joined` values for each output pixel. The last segments of
  // `input` are the planes, with one column each.
  int planes, joined, rest;
  // Masks for the bytes of a plane. `pixel_starts` begins four bytes before pixel 0; it is 0xff where an output pixel
  // begins, else 0. `no_bytes` is all zeros.
  const uint8_t *pixel_starts, *no_bytes;
  const uint8_t* weights;  // packed by PackBytes, from channel0 on
  ptrdiff_t block_bytes;
  Requantisation output;  // from channel0, padded to whole blocks
  bool unfinished;
  int width, channel0, channels;
};
constexpr int kScratchMargin = 64;  // bytes after a row in scratch memory, since vectors are read and written whole
// QconvRow::line_bytes for rows of `values` values, padding included.
inline ptrdiff_t QconvLine(BytePacking packing, int64_t values) {
  return ptrdiff_t((values * ActivationBytes(packing) + 2 * kScratchMargin - 1) / kScratchMargin * kScratchMargin);
}

// A row of a depthwise convolution. The taps' products are added to the bias in the order of the taps; each product and
// each sum is rounded separately.
struct DepthwiseRow {
  const uint8_t* origin;  // of output pixel 0 and channel 0
  ptrdiff_t pixel;        // bytes between the origins of neighbouring output pixels
  ptrdiff_t gap;          // as in a stage
  const ptrdiff_t* tap;   // offset of each tap from a pixel's origin, in bytes
  int taps;
  bool threes;           // the kernel has width 3, and its horizontal stride and dilation are 1
  const float* weights;  // [block of channels][tap][32], from channel 0
  const float* bias;     // from channel 0, padded to whole blocks
  int width;
  int begin_channel, end_channel;  // begin_channel is a multiple of kBlock
};

// A row of pooling: the maximum or average of each window, which the caller has clipped to the image.
struct PoolRow {
  const uint8_t* const* lines;  // input pixel 0 of each input row in the window
  int rows;                     // how many
  ptrdiff_t pixel, gap;         // bytes from one input pixel to the next; `gap` is as in a stage
  const int* begin;             // for each output pixel: its first input pixel, and (`end`) one past its last
  const int* end;
  int width;
  int begin_channel, end_channel;  // begin_channel is a multiple of kBlock
  bool maximum;                    // else average
};

// An element-wise operator on x and y, or on x alone: kRound (halves to even) and kFirst (x unchanged). If `clamp` is
// true, the results are clamped to [lo, hi]. An operand's step is 1, or 0 if the operand is a single number.
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

// A row of a tensor in memory, on which only the epilogue runs.
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
  const int* rows;              // [sample][height], rows of the image
  const float* row_weights;     // [sample][height]; linear: [height]
  const int* columns;           // [sample][width], in values from the start of a row
  const float* column_weights;  // [sample][width]; linear: [width]
  // The same as `columns` and `column_weights`, for kernels that pick each vector of samples out of two successive
  // vectors of a row (Kernels::picks). `picked`: where the first of the two begins, in values from the start of the
  // row; null if the samples lie too far apart or the kernel does not pick. `lanes`: the index, in the two vectors, of
  // the value that each lane takes. `lane_weights`: the weight of each lane.
  const int* picked;          // [sample][vector]
  const int* lanes;           // [sample][vector][lane]
  const float* lane_weights;  // [sample][vector][lane]; linear: [vector][lane]
  const float* mean;          // [width * channels]: the result is (value - mean) / std; null: not normalised
  const float* std;
  float* scratch;  // ResampleScratch() values, private to the thread
  float* out;      // [height][width][channels]
  bool streamed;   // the result bypasses the caches, since it will not be read soon
};
// Values after a line in scratch memory, since a kernel may read two vectors that begin at the line's last value.
constexpr int kResampleMargin = 32;
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
  // Unpack the bits of pixels. Each pixel begins with a new word. Bits 0 and 1 become 1 and -1, or `plus` and `minus`.
  void (*unpack)(const uint32_t* words, int64_t pixels, int channels, float* out);
  void (*unpack_bytes)(const uint32_t* words, int64_t pixels, int channels, int8_t plus, int8_t minus, int8_t* out);
  // Quantises floats to int8 as kStoreInt8 does.
  void (*to_bytes)(const float* values, int64_t count, float scale, int zero_point, int8_t* out);
  // Packs the signs of weights, [channel][output], of at most 32 channels: bit i of words[o] is set if the weight of
  // channel i and output o is negative.
  void (*pack_signs)(const float* weights, int channels, int outputs, uint32_t* words);
  void (*resample)(const Resample&);  // in WebAssembly only cubic
  int picks;                          // the number of lanes of the vectors for Resample::picked; 0: not used
};

// Null for kernels that are not built for this target. dispatch.cc finds out which of the others the CPU can run.
const Kernels* PortableKernels();
const Kernels* Avx2Kernels();
const Kernels* Avx512Kernels();
const Kernels* Avx512XorKernels();  // the same with other instructions for binary products (avx512.cc)
const Kernels* NeonKernels();
const Kernels* NeonDotKernels();  // NEON with instructions for dot products of 8-bit numbers
const Kernels* WasmKernels();     // only in WebAssembly builds, which have no others

// The kernels with this name, or the best ones for "auto", "" and null. Returns null if no kernels with this name run
// here.
const Kernels* SelectKernels(const char* name);
// The names of all kernels that run here, best first; null-terminated.
const char* const* AvailableKernels();
// For tests: if two tables of kernels that run here have the same name, the one that SelectKernels() does not choose on
// this processor. Otherwise null.
const Kernels* OtherKernels();

}  // namespace r2b
