// The part of TensorFlow Lite's C ABI that the delegate uses. With these declarations the build needs no TensorFlow
// headers, and the shared object has no undefined symbols of TensorFlow Lite.
//
// These declarations fit all versions from tflite-runtime 2.14 to ai-edge-litert 2.x, because:
//  * TensorFlow Lite only appends members to these structures. We read the interpreter's objects through its pointers,
//    so unknown members at the end do no harm.
//  * We create two structures that the interpreter reads: a `Delegate` and a `Registration`. The Registration is passed
//    BY VALUE to ReplaceNodeSubsetsWithDelegateKernels. We declare the newest layouts (up to `opaque_delegate_builder`
//    and `inplace_operator`) and zero the members that we do not set. An older interpreter reads a prefix.
//  * An `IntArray` is `int size` followed by the values. We only read the interpreter's arrays. We pass ours as
//    `const`, except to ResizeTensor: that array is malloc()ed here and freed by the interpreter, on the C library's
//    heap.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tfl {

enum Status : int { kOk = 0, kError = 1, kDelegateError = 2 };

enum Type : int {
  kNoType = 0,
  kFloat32 = 1,
  kInt32 = 2,
  kUInt8 = 3,
  kInt64 = 4,
  kBool = 6,
  kInt8 = 9,
};

// Values of BuiltinOperator in the TensorFlow Lite schema.
enum Builtin : int32_t {
  kAdd = 0,
  kAveragePool2d = 1,
  kConcatenation = 2,
  kConv2d = 3,
  kDepthwiseConv2d = 4,
  kDequantize = 6,
  kFullyConnected = 9,
  kLogistic = 14,
  kMaxPool2d = 17,
  kMul = 18,
  kRelu = 19,
  kReluN1To1 = 20,
  kRelu6 = 21,
  kReshape = 22,
  kResizeBilinear = 23,
  kSoftmax = 25,
  kCustom = 32,
  kPad = 34,
  kMean = 40,
  kSub = 41,
  kStridedSlice = 45,
  kSplit = 49,
  kDelegate = 51,
  kPrelu = 54,
  kMaximum = 55,
  kMinimum = 57,
  kPadV2 = 60,
  kTransposeConv = 67,
  kQuantize = 114,
  kRound = 116,
};

enum Activation : int { kActNone = 0, kActRelu = 1, kActReluN1To1 = 2, kActRelu6 = 3 };
enum Padding : int { kPaddingUnknown = 0, kPaddingSame = 1, kPaddingValid = 2 };
enum AllocationType : int { kMmapRo = 1, kPersistentRo = 5 };

constexpr int64_t kAllowDynamicTensors = 1;
constexpr int kOptionalTensor = -1;

struct IntArray {
  int size;
  int data[1];  // really `size` values
};

struct FloatArray {
  int size;
  float data[1];  // really `size` values
};

struct Context;
struct Delegate;
struct Node;

struct QuantizationParams {
  float scale;
  int32_t zero_point;
};
// Value = scale * (number - zero point). There is one scale and zero point for the whole tensor, or one of each for
// every index of dimension `quantized_dimension`.
struct AffineQuantization {
  FloatArray* scale;
  IntArray* zero_point;
  int32_t quantized_dimension;
};
constexpr int kAffineQuantization = 1;
struct Quantization {
  int type;
  void* params;  // an AffineQuantization if `type` is kAffineQuantization
};

struct Tensor {
  Type type;
  void* data;
  IntArray* dims;
  QuantizationParams params;
  AllocationType allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  Delegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  Quantization quantization;
  void* sparsity;
  const IntArray* dims_signature;
};

struct Node {
  IntArray* inputs;
  IntArray* outputs;
  IntArray* intermediates;
  IntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  Delegate* delegate;
  bool might_have_side_effect;
};

struct DelegateParams {
  Delegate* delegate;
  IntArray* nodes_to_replace;
  IntArray* input_tensors;
  IntArray* output_tensors;
};

struct Registration {
  void* (*init)(Context*, const char* buffer, size_t length);
  void (*free)(Context*, void* user_data);
  Status (*prepare)(Context*, Node*);
  Status (*invoke)(Context*, Node*);
  const char* (*profiling_string)(const Context*, const Node*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* (*async_kernel)(Context*, Node*);
  uint64_t inplace_operator;
};

struct Context {
  size_t tensors_size;
  Status (*GetExecutionPlan)(Context*, IntArray** plan);
  Tensor* tensors;
  void* impl_;
  Status (*ResizeTensor)(Context*, Tensor*, IntArray* owned_by_callee);
  void (*ReportError)(Context*, const char* format, ...);
  Status (*AddTensors)(Context*, int count, int* first);
  Status (*GetNodeAndRegistration)(Context*, int node, Node**, Registration**);
  Status (*ReplaceNodeSubsetsWithDelegateKernels)(Context*, Registration, const IntArray* nodes, Delegate*);
  int recommended_num_threads;
  void* (*GetExternalContext)(Context*, int type);
  void (*SetExternalContext)(Context*, int type, void*);
  // Further members follow; none of them is used.
};

struct Delegate {
  void* data;
  Status (*Prepare)(Context*, Delegate*);
  Status (*CopyFromBufferHandle)(Context*, Delegate*, int, Tensor*);
  Status (*CopyToBufferHandle)(Context*, Delegate*, int, Tensor*);
  void (*FreeBufferHandle)(Context*, Delegate*, int*);
  int64_t flags;
  void* opaque_delegate_builder;
};

// Returns null for a tensor without affine quantisation.
inline const AffineQuantization* Affine(const Tensor& tensor) {
  return tensor.quantization.type == kAffineQuantization
             ? static_cast<const AffineQuantization*>(tensor.quantization.params)
             : nullptr;
}

// Options of the builtin operators that the delegate claims (`Node::builtin_data`). Each is a prefix of TFLite's
// structure.
struct ConvParams {
  Padding padding;
  int stride_width, stride_height;
  Activation activation;
  int dilation_width_factor, dilation_height_factor;
};
struct DepthwiseConvParams {
  Padding padding;
  int stride_width, stride_height;
  int depth_multiplier;
  Activation activation;
  int dilation_width_factor, dilation_height_factor;
};
struct TransposeConvParams {
  Padding padding;
  int stride_width, stride_height;
  Activation activation;  // only in version 4 of the operator and later
};
struct PoolParams {
  Padding padding;
  int stride_width, stride_height;
  int filter_width, filter_height;
  Activation activation;
};
struct FullyConnectedParams {
  Activation activation;
  int weights_format;
  bool keep_num_dims;
};
struct ActivationParams {
  Activation activation;
};  // the options of ADD, MUL and SUB begin with it
struct ReducerParams {
  bool keep_dims;
};
struct SoftmaxParams {
  float beta;
};
struct ConcatenationParams {
  int axis;
  Activation activation;
};
struct StridedSliceParams {
  int begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_axis_mask;
  bool offset;  // only in version 8 of the operator and later: whether `end` counts from `begin`
};
struct ResizeBilinearParams {
  bool align_corners, half_pixel_centers;
};

}  // namespace tfl
