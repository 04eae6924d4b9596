// A binary convolution by itself, for training: the signs of float images with the signs of a float kernel, which is
// another one in every call. Both lie as TensorFlow lays them. The output is the whole numbers that a float convolution
// of ±1 finds, exactly.
#pragma once

#include <string>
#include <vector>

#include "fork.h"
#include "kernels/kernels.h"
#include "thread_pool.h"

namespace r2b {

// All int, in this order: r2b_runtime/convolution.py has the same.
struct ConvolutionShape {
  int images, height, width, channels;  // of the input, NHWC
  int kernel_h, kernel_w, outputs;      // of the kernel, [kernel_h][kernel_w][channels][outputs]
  int stride_h, stride_w;
  int same_padding;  // 1: SAME, with zeros, which add nothing; 0: VALID
};

class Convolver {
 public:
  // Training has other work for the cores between two convolutions.
  Convolver(const Kernels* kernels, int threads) : kernels_(kernels), pool_(threads, ThreadPool::Between::kSleep) {}

  // False, with the reason, for shapes that make no convolution. Who calls while another call runs waits for it.
  bool Run(const ConvolutionShape& shape, const float* images, const float* kernel, float* output, std::string* error);

 private:
  void PackSigns(const ConvolutionShape& shape, const float* kernel);

  const Kernels* kernels_;
  ThreadPool pool_;
  ForkSafeMutex mutex_;
  std::vector<uint32_t> filter_;   // [output][kernel_h][kernel_w][word], as in a model file
  std::vector<uint32_t> packing_;  // [thread][output]
};

}  // namespace r2b
