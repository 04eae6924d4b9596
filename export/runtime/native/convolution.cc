#include "convolution.h"

#include <algorithm>
#include <limits>
#include <mutex>

#include "boundary.h"
#include "cores.h"
#include "export.h"
#include "plan.h"

namespace r2b {

void Convolver::PackSigns(const ConvolutionShape& s, const float* kernel) {
  const int words = (s.channels + 31) / 32, depth = s.kernel_h * s.kernel_w * words;
  filter_.resize(size_t(s.outputs) * depth);
  packing_.resize(size_t(pool_.size()) * s.outputs);  // not in a worker, where an exception would end the process
  pool_.Run([&](int thread) {
    uint32_t* const of_outputs = packing_.data() + size_t(thread) * s.outputs;
    for (int d = thread; d < depth; d += pool_.size()) {
      const int tap = d / words, first = d % words * 32;
      kernels_->pack_signs(kernel + (size_t(tap) * s.channels + first) * s.outputs, std::min(32, s.channels - first),
                           s.outputs, of_outputs);
      for (int o = 0; o < s.outputs; ++o) filter_[size_t(o) * depth + d] = of_outputs[o];
    }
  });
}

bool Convolver::Run(const ConvolutionShape& s, const float* images, const float* kernel, float* output,
                    std::string* error) {
  std::lock_guard<ForkSafeMutex> lock(mutex_);
  for (const std::vector<int>& dims :
       {std::vector<int>{s.images, s.height, s.width, s.channels}, {s.kernel_h, s.kernel_w, s.channels, s.outputs}})
    if (Elements(dims) > kMostElements || Elements(dims).value() == 0)
      return *error = "images and kernel must have 1 to " + std::to_string(kMostElements) + " elements; received " +
                      DimsText(dims),
             false;
  PackSigns(s, kernel);
  const std::vector<float> ones(s.outputs, 1), zeros(s.outputs, 0);
  enum { kImages, kBits, kFilter, kMultiplier, kBias, kOutput };
  Graph graph;
  graph.tensors.resize(6);
  const auto define = [&](int tensor, DType type, const std::vector<int>& dims, const void* constant) {
    graph.tensors[tensor].type = type;
    graph.tensors[tensor].dims = dims;
    graph.tensors[tensor].constant = constant;
  };
  define(kImages, DType::kFloat, {s.images, s.height, s.width, s.channels}, nullptr);
  define(kBits, DType::kInt32, {}, nullptr);
  define(kFilter, DType::kInt32, {s.outputs, s.kernel_h, s.kernel_w, (s.channels + 31) / 32}, filter_.data());
  define(kMultiplier, DType::kFloat, {s.outputs}, ones.data());
  define(kBias, DType::kFloat, {s.outputs}, zeros.data());
  define(kOutput, DType::kFloat, {}, nullptr);
  Op quantize;
  quantize.kind = OpKind::kQuantize;
  quantize.in = {kImages};
  quantize.out = kBits;
  Op convolve;
  convolve.kind = OpKind::kBconv;
  convolve.in = {kBits, kFilter, kMultiplier, kBias};
  convolve.out = kOutput;
  convolve.kernel_h = s.kernel_h;
  convolve.kernel_w = s.kernel_w;
  convolve.stride_h = s.stride_h;
  convolve.stride_w = s.stride_w;
  convolve.same_padding = s.same_padding;
  convolve.channels_in = s.channels;
  quantize.node = 0;
  convolve.node = 1;
  graph.ops = {quantize, convolve};
  graph.inputs = {kImages};
  graph.outputs = {kOutput};

  Plan plan(std::move(graph), kernels_, false);
  plan.SetLimits({std::numeric_limits<ptrdiff_t>::max(), Count::kMost});  // no limits: the caller chose the sizes
  if (!plan.Prepare(pool_.size(), error)) return false;
  plan.Bind(kImages, const_cast<float*>(images));  // inputs are only read
  plan.Bind(kOutput, output);
  plan.Run(&pool_);
  return true;
}

}  // namespace r2b

namespace {
using Convolvers = r2b::Handles<r2b::Convolver>;
}

// `kernels` is the name of a set of kernels, or "auto" for the best. Returns null if there is no such set, if it does
// not run on this CPU, or if memory runs out.
R2B_EXPORT r2b::Convolver* r2b_runtime_create_convolver(const char* kernels, int threads) {
  r2b::Convolver* made = nullptr;
  std::string error;
  r2b::Contained(&error, [&] {
    if (const r2b::Kernels* selected = r2b::SelectKernels(kernels))
      made = Convolvers::Instance().Add(std::make_shared<r2b::Convolver>(selected, r2b::TeamSize(threads)));
  });
  return made;
}

// If another thread is using the convolver, it stays alive until that thread's call returns.
R2B_EXPORT void r2b_runtime_destroy_convolver(r2b::Convolver* convolver) { Convolvers::Instance().Remove(convolver); }

// Returns null on success, else an error message, which lives until the thread's next call.
R2B_EXPORT const char* r2b_runtime_convolve(r2b::Convolver* convolver, const r2b::ConvolutionShape* shape,
                                            const float* images, const float* kernel, float* output) {
  thread_local std::string error;
  bool convolved = false;
  const bool done = r2b::Contained(&error, [&] {
    const auto found = Convolvers::Instance().Find(convolver);
    if (found) convolved = found->Run(*shape, images, kernel, output, &error);
    else error = "the convolver has been closed; make another one";
  });
  if (done && convolved) return nullptr;
  return error.empty() ? "out of memory" : error.c_str();
}
