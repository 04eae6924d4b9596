// A binary convolution outside any model, for training: the signs of float images are convolved with the signs of a
// float kernel. The kernel may change from call to call. Images and kernel have TensorFlow's layout. The output equals
// that of a float convolution of ±1 exactly, since all sums are whole numbers.
#pragma once

#include <string>
#include <vector>

#include "fork.h"
#include "kernels/kernels.h"
#include "thread_pool.h"

namespace r2b {

// r2b_runtime/convolution.py mirrors this struct, so types and order must stay the same.
struct ConvolutionShape {
  int images, height, width, channels;  // of the input, NHWC
  int kernel_h, kernel_w, outputs;      // of the kernel, [kernel_h][kernel_w][channels][outputs]
  int stride_h, stride_w;
  int same_padding;  // 1: SAME, with zero padding; 0: VALID
};

class Convolver {
 public:
  // The workers sleep between two convolutions, when training has other work for the cores.
  Convolver(const Kernels* kernels, int threads) : kernels_(kernels), pool_(threads, ThreadPool::Between::kSleep) {}

  // Writes the result to `output`, NHWC. False, with the reason in `*error`, if the shape is refused. Calls from
  // several threads take turns.
  bool Run(const ConvolutionShape& shape, const float* images, const float* kernel, float* output, std::string* error);

 private:
  void PackSigns(const ConvolutionShape& shape, const float* kernel);

  const Kernels* kernels_;
  ThreadPool pool_;
  ForkSafeMutex mutex_;
  std::vector<uint32_t> filter_;   // [output][kernel_h][kernel_w][word], as in a model file
  std::vector<uint32_t> packing_;  // [thread][output], used by PackSigns()
};

}  // namespace r2b
