// A miniature interpreter for fuzzing the delegate. It has tensors and nodes in TensorFlow Lite's layout, and the
// functions that the delegate calls. After preparing a kernel of the delegate, it allocates exactly the bytes that the
// shapes of the kernel's inputs and outputs need. A sanitizer therefore finds any access beyond them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "limits.h"
#include "tflite_abi.h"

constexpr int kMemory = 64;  // the delegate's max_memory in MiB; small enough for runs with sanitizers

struct Array {
  std::vector<int> storage{0};
  void Push(int v) { storage.push_back(v), storage[0] = int(storage.size()) - 1; }
  tfl::IntArray* get() { return reinterpret_cast<tfl::IntArray*>(storage.data()); }
};

struct MiniInterpreter {
  tfl::Context context{};
  std::vector<tfl::Tensor> tensors;
  std::vector<Array> shapes;
  std::vector<std::unique_ptr<uint8_t[]>> memory;
  std::vector<tfl::Node> nodes;
  std::vector<tfl::Registration> registrations;
  std::vector<Array> lists;
  std::vector<std::string> names;
  std::vector<std::vector<uint8_t>> options;
  std::vector<std::vector<int>> builtin;
  Array plan;
  std::vector<std::pair<tfl::Registration, std::unique_ptr<tfl::DelegateParams>>> kernels;
  std::vector<std::unique_ptr<Array>> arrays;

  static void Ignore(tfl::Context*, const char*, ...) {}
  static MiniInterpreter* Of(tfl::Context* c) { return static_cast<MiniInterpreter*>(c->impl_); }
  static size_t Bytes(tfl::Type type) {
    return type == tfl::kInt64 ? 8 : type == tfl::kInt8 || type == tfl::kBool || type == tfl::kUInt8 ? 1 : 4;
  }
  // Returns the bytes of a tensor, or -1 if a dimension is negative or the tensor takes more than kMemory MiB.
  static int64_t Size(const tfl::Tensor& tensor) {
    r2b::Count size = Bytes(tensor.type);
    for (int i = 0; i < tensor.dims->size; ++i) {
      if (tensor.dims->data[i] < 0) return -1;
      size = size * tensor.dims->data[i];
    }
    return size > int64_t(kMemory) << 20 ? -1 : size.value();
  }
  // Allocates exactly the bytes that the tensor's shape needs. Returns false if Size() is -1.
  bool Allocate(size_t t) {
    const int64_t size = Size(tensors[t]);
    if (size < 0) return false;
    tensors[t].bytes = size_t(size);
    memory[t].reset(new uint8_t[size ? size_t(size) : 1]());
    tensors[t].data = memory[t].get();
    return true;
  }

  // Links shapes to tensors and lists to nodes, and fills the context. Call it once all of these are complete.
  void Finish(int threads) {
    for (size_t i = 0; i < tensors.size(); ++i) tensors[i].dims = shapes[i].get();
    for (size_t i = 0; i < nodes.size(); ++i)
      nodes[i].inputs = lists[2 * i].get(), nodes[i].outputs = lists[2 * i + 1].get();
    context.tensors = tensors.data();
    context.tensors_size = tensors.size();
    context.impl_ = this;
    context.recommended_num_threads = threads;
    context.ReportError = Ignore;
    context.GetExecutionPlan = [](tfl::Context* c, tfl::IntArray** out) { return *out = Of(c)->plan.get(), tfl::kOk; };
    context.GetNodeAndRegistration = [](tfl::Context* c, int i, tfl::Node** n, tfl::Registration** r) {
      return *n = &Of(c)->nodes[size_t(i)], *r = &Of(c)->registrations[size_t(i)], tfl::kOk;
    };
    context.ResizeTensor = [](tfl::Context* c, tfl::Tensor* t, tfl::IntArray* dims) { return Of(c)->Resize(t, dims); };
    context.ReplaceNodeSubsetsWithDelegateKernels = [](tfl::Context* c, tfl::Registration r, const tfl::IntArray* n,
                                                       tfl::Delegate* d) { return Of(c)->Replace(r, n, d); };
  }

  tfl::Status Resize(tfl::Tensor* tensor, tfl::IntArray* dims) {
    const size_t i = size_t(tensor - tensors.data());
    shapes[i] = Array();
    for (int d = 0; d < dims->size; ++d) shapes[i].Push(dims->data[d]);
    std::free(dims);
    tensor->dims = shapes[i].get();
    return tfl::kOk;
  }

  // Returns the longest run of consecutive node indices at the start of `claimed`, as a partition for one kernel.
  static Array FirstRun(const tfl::IntArray* claimed) {
    Array run;
    for (int i = 0; i < claimed->size && claimed->data[i] == claimed->data[0] + i; ++i) run.Push(claimed->data[i]);
    return run;
  }

  // Leaves out the -1 that stands for an absent input.
  std::vector<int> Inputs(int node) const {
    const tfl::IntArray* list = nodes[size_t(node)].inputs;
    std::vector<int> there;
    std::copy_if(list->data, list->data + list->size, std::back_inserter(there), [](int t) { return t >= 0; });
    return there;
  }
  std::vector<int> Outputs(int node) const {
    const tfl::IntArray* list = nodes[size_t(node)].outputs;
    return std::vector<int>(list->data, list->data + list->size);
  }

  // Adds the kernel that replaces the nodes of FirstRun().
  tfl::Status Replace(tfl::Registration r, const tfl::IntArray* claimed, tfl::Delegate* delegate) {
    auto params = std::make_unique<tfl::DelegateParams>();
    for (int k = 0; k < 3; ++k) arrays.push_back(std::make_unique<Array>());
    Array &all = *arrays[arrays.size() - 3], &in = *arrays[arrays.size() - 2], &out = *arrays[arrays.size() - 1];
    std::vector<bool> made(tensors.size(), false), used(tensors.size(), false);
    all = FirstRun(claimed);
    for (size_t i = 1; i < all.storage.size(); ++i) {
      for (int t : Inputs(all.storage[i])) {
        if (!made[size_t(t)]) in.Push(t);
        used[size_t(t)] = true;
      }
      for (int t : Outputs(all.storage[i])) made[size_t(t)] = true;
    }
    // The partition's outputs are the results that none of its nodes reads. A result that they read is an output too if
    // its index is divisible by 3, as if a node outside the partition read it.
    for (size_t t = 0; t < made.size(); ++t)
      if (made[t] && (!used[t] || t % 3 == 0)) out.Push(int(t));
    *params = {delegate, all.get(), in.get(), out.get()};
    kernels.emplace_back(r, std::move(params));
    return tfl::kOk;
  }

  // Twice for each kernel: prepares it, allocates its inputs and outputs, and runs it. Returns how many kernels ran
  // both times.
  int RunAll() {
    int ran = 0;
    for (auto& [r, params] : kernels) {
      tfl::Node node{};
      node.user_data = r.init(&context, reinterpret_cast<const char*>(params.get()), 0);
      for (int run = 0; run < 2; ++run) {
        if (r.prepare(&context, &node) != tfl::kOk) break;
        bool held = true;
        for (const tfl::IntArray* list : {params->input_tensors, params->output_tensors})
          for (int i = 0; i < list->size; ++i) {
            const size_t t = size_t(list->data[i]);
            if (tensors[t].allocation_type != tfl::kMmapRo) held &= Allocate(t);
          }
        if (!held || r.invoke(&context, &node) != tfl::kOk) break;
        ran += run;
      }
      r.free(&context, node.user_data);
    }
    return ran;
  }
};
