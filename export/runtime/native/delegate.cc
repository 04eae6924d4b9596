// The shared object's face: an external delegate for TensorFlow Lite.
//
// The interpreter calls tflite_plugin_create_delegate with the options of load_delegate(), then Delegate::Prepare for
// the graph: there we name the nodes we want. For each connected part of them it creates one of our kernels
// (KernelInit), and runs it in place of those nodes. Everything the interpreter can get wrong is reported here, with a
// message; nothing below this file talks to it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <vector>

#include "export.h"
#include "import.h"
#include "plan.h"

#ifndef R2B_VERSION
#define R2B_VERSION "0.0.0"
#endif

namespace r2b {
namespace {

struct KernelState;

// Kept alive by the delegate and by every kernel: at the end of a Python program the garbage collector may destroy the
// delegate before the interpreter that uses it.
struct DelegateState {
  tfl::Delegate delegate{};
  std::shared_ptr<DelegateState> self;  // the delegate's own share
  const Kernels* kernels = nullptr;
  int threads = 0;  // 0: as many as the interpreter recommends
  bool claim_float = true;
  bool profile = false;
  std::mutex mutex;  // guards `live`
  std::set<KernelState*> live;
  std::string report;  // owned text of the last r2b_runtime_profile()
};

struct KernelState {
  std::shared_ptr<DelegateState> owner;
  std::string error;  // found in KernelInit, reported in KernelPrepare
  std::unique_ptr<Plan> plan;
  std::unique_ptr<ThreadPool> pool;
  std::vector<int> tensors;  // interpreter's index of each plan tensor
};

void* KernelInit(tfl::Context* context, const char* buffer, size_t) {
  const auto* params = reinterpret_cast<const tfl::DelegateParams*>(buffer);
  const std::shared_ptr<DelegateState> owner = static_cast<DelegateState*>(params->delegate->data)->self;
  auto* state = new KernelState{owner, "", nullptr, nullptr, {}};
  Graph graph;
  std::vector<int> local(context->tensors_size, -1);
  auto map = [&](int tensor) {
    if (tensor < 0) return -1;
    if (local[tensor] < 0) {
      local[tensor] = int(graph.tensors.size());
      const tfl::Tensor& source = context->tensors[tensor];
      graph.tensors.push_back(ImportTensor(source));
      state->tensors.push_back(tensor);
      const Tensor& t = graph.tensors.back();
      int64_t count = 1;
      for (int d : t.dims) count = d >= 0 && count < (int64_t(1) << 40) ? count * d : int64_t(1) << 40;
      if (t.constant && t.type != DType::kOther && uint64_t(count) * uint64_t(ByteSize(t.type)) > source.bytes)
        state->error =
            "tensor " + std::to_string(tensor) + " has fewer bytes than its shape needs; the file is damaged";
    }
    return local[tensor];
  };
  for (int i = 0; i < params->nodes_to_replace->size && state->error.empty(); ++i) {
    const int index = params->nodes_to_replace->data[i];
    tfl::Node* node;
    tfl::Registration* registration;
    Op op;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != tfl::kOk) {
      state->error = "the interpreter does not know node " + std::to_string(index);
    } else if (ImportNode(context, index, *node, *registration, &op, &state->error) == Import::kClaimed) {
      for (int& t : op.in) t = map(t);
      op.out = map(op.out);
      graph.ops.push_back(op);
    } else if (state->error.empty()) {
      state->error = "node " + std::to_string(index) + " changed after it was claimed";
    }
  }
  std::vector<bool> produced(graph.tensors.size(), false);
  for (const Op& op : graph.ops) produced[op.out] = true;
  for (size_t t = 0; t < graph.tensors.size(); ++t)
    if (!produced[t] && !graph.tensors[t].constant) graph.inputs.push_back(int(t));
  for (int i = 0; i < params->output_tensors->size; ++i) {
    const int t = params->output_tensors->data[i];
    if (t >= 0 && local[t] >= 0 && produced[local[t]]) graph.outputs.push_back(local[t]);
  }
  if (state->error.empty()) state->plan = std::make_unique<Plan>(std::move(graph), owner->kernels, owner->profile);
  std::lock_guard<std::mutex> lock(owner->mutex);
  owner->live.insert(state);
  return state;
}

void KernelFree(tfl::Context*, void* data) {
  auto* state = static_cast<KernelState*>(data);
  {
    std::lock_guard<std::mutex> lock(state->owner->mutex);
    state->owner->live.erase(state);
  }
  delete state;
}

tfl::Status Report(tfl::Context* context, const std::string& message) {
  context->ReportError(context, "r2b-runtime: %s", message.c_str());
  return tfl::kError;
}

tfl::Status KernelPrepare(tfl::Context* context, tfl::Node* node) {
  auto* state = static_cast<KernelState*>(node->user_data);
  if (!state->plan) return Report(context, state->error);
  Plan& plan = *state->plan;
  for (int t : plan.graph().inputs) {
    const tfl::Tensor& tensor = context->tensors[state->tensors[t]];
    if (!tensor.dims) return Report(context, "an input has no shape");
    plan.SetDims(t, tensor.dims->data, tensor.dims->size);
  }
  const int wanted = state->owner->threads > 0              ? state->owner->threads
                     : context->recommended_num_threads > 0 ? context->recommended_num_threads
                                                            : 1;
  if (!state->pool || state->pool->size() != wanted) state->pool = std::make_unique<ThreadPool>(wanted);
  std::string error;
  try {
    if (!plan.Prepare(state->pool->size(), &error)) return Report(context, error);
  } catch (const std::bad_alloc&) {
    return Report(context, "out of memory");
  }
  for (int t : plan.graph().outputs) {
    tfl::Tensor* tensor = &context->tensors[state->tensors[t]];
    const std::vector<int>& dims = plan.dims(t);
    const bool same = tensor->dims && tensor->dims->size == int(dims.size()) &&
                      std::equal(dims.begin(), dims.end(), tensor->dims->data);
    if (same) continue;
    // The interpreter takes the array over and releases it with free(). (ResizeTensorExplicit, which copies, is a null
    // pointer on desktops.)
    auto* shape = static_cast<tfl::IntArray*>(std::malloc(sizeof(int) * (1 + dims.size())));
    if (!shape) return Report(context, "out of memory");
    shape->size = int(dims.size());
    std::copy(dims.begin(), dims.end(), shape->data);
    if (context->ResizeTensor(context, tensor, shape) != tfl::kOk) return tfl::kError;
  }
  return tfl::kOk;
}

tfl::Status KernelInvoke(tfl::Context* context, tfl::Node* node) {
  auto* state = static_cast<KernelState*>(node->user_data);
  Plan& plan = *state->plan;
  for (const std::vector<int>* list : {&plan.graph().inputs, &plan.graph().outputs})
    for (int t : *list) {
      const tfl::Tensor& tensor = context->tensors[state->tensors[t]];
      if (!tensor.data)
        return Report(context,
                      "tensor " + std::to_string(state->tensors[t]) + " has no memory; call allocate_tensors() first");
      plan.Bind(t, tensor.data);
    }
  plan.Run(state->pool.get());
  return tfl::kOk;
}

const char* ProfilingString(const tfl::Context*, const tfl::Node*) { return "r2b-runtime"; }

tfl::Status DelegatePrepare(tfl::Context* context, tfl::Delegate* delegate) {
  auto* owner = static_cast<DelegateState*>(delegate->data);
  tfl::IntArray* plan;
  if (context->GetExecutionPlan(context, &plan) != tfl::kOk) return tfl::kError;
  const std::vector<int> nodes(plan->data, plan->data + plan->size);  // later calls invalidate `plan`
  std::vector<int> claimed{0};                                        // laid out like an IntArray: size first
  bool any = false;
  for (int index : nodes) {
    tfl::Node* node;
    tfl::Registration* registration;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != tfl::kOk) return tfl::kError;
    Op op;
    std::string error;
    const Import import = ImportNode(context, index, *node, *registration, &op, &error);
    if (import == Import::kFailed) return Report(context, error);
    any |= IsLceOp(*registration);
    if (import == Import::kClaimed && (owner->claim_float || IsLceOp(*registration))) claimed.push_back(index);
  }
  if (!any) return tfl::kOk;  // a model without binary operators is not our business
  claimed[0] = int(claimed.size()) - 1;
  tfl::Registration registration{};
  registration.init = KernelInit;
  registration.free = KernelFree;
  registration.prepare = KernelPrepare;
  registration.invoke = KernelInvoke;
  registration.profiling_string = ProfilingString;
  registration.builtin_code = tfl::kDelegate;
  registration.custom_name = "R2bRuntime";
  registration.version = 1;
  return context->ReplaceNodeSubsetsWithDelegateKernels(
      context, registration, reinterpret_cast<const tfl::IntArray*>(claimed.data()), delegate);
}

bool ParseCount(const char* text, int most, int* value) {
  char* end;
  const long parsed = std::strtol(text, &end, 10);
  if (end == text || *end || parsed < 0 || parsed > most) return false;
  *value = int(parsed);
  return true;
}

bool ParseOptions(DelegateState* state, char** keys, char** values, size_t count, std::string* error) {
  const char* kernels = std::getenv("R2B_RUNTIME_KERNELS");
  for (size_t i = 0; i < count; ++i) {
    const std::string key = keys[i] ? keys[i] : "", value = values[i] ? values[i] : "";
    int number = 0;
    if (key == "kernels") {
      kernels = values[i];
    } else if (key == "num_threads") {
      if (!ParseCount(value.c_str(), 256, &state->threads))
        return *error = "option num_threads = '" + value + "' must be 0 (the interpreter's) to 256", false;
    } else if (key == "profile") {
      if (!ParseCount(value.c_str(), 1, &number))
        return *error = "option profile = '" + value + "' must be 0 or 1", false;
      state->profile = number;
    } else if (key == "claim") {
      if (value != "all" && value != "binary")
        return *error = "option claim = '" + value + "' must be 'all' or 'binary'", false;
      state->claim_float = value == "all";
    } else {
      return *error = "unknown option '" + key + "'; there are kernels, num_threads, claim and profile", false;
    }
  }
  state->kernels = SelectKernels(kernels);
  if (state->kernels) return true;
  *error = std::string("kernels '") + (kernels ? kernels : "") +
           "' are not built into this library or do not run on this CPU; available: auto";
  for (const char* const* name = AvailableKernels(); *name; ++name) *error += std::string(", ") + *name;
  return false;
}

}  // namespace
}  // namespace r2b

R2B_EXPORT tfl::Delegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count,
                                                        void (*report_error)(const char*)) {
  auto state = std::make_shared<r2b::DelegateState>();
  std::string error;
  if (!r2b::ParseOptions(state.get(), keys, values, count, &error)) {
    if (report_error) report_error(("r2b-runtime: " + error).c_str());
    return nullptr;
  }
  state->self = state;
  state->delegate.data = state.get();
  state->delegate.Prepare = r2b::DelegatePrepare;
  state->delegate.flags = tfl::kAllowDynamicTensors;
  return &state->delegate;
}

R2B_EXPORT void tflite_plugin_destroy_delegate(tfl::Delegate* delegate) {
  if (delegate) static_cast<r2b::DelegateState*>(delegate->data)->self.reset();
}

R2B_EXPORT const char* r2b_runtime_version() { return R2B_VERSION; }

// Names of the kernels that run here, best first, separated by commas.
R2B_EXPORT const char* r2b_runtime_kernels() {
  static const std::string names = [] {
    std::string text;
    for (const char* const* name = r2b::AvailableKernels(); *name; ++name)
      text += (text.empty() ? "" : ",") + std::string(*name);
    return text;
  }();
  return names.c_str();
}

// What a delegate created with profile=1 has run: a line for each step, "seconds<TAB>runs<TAB>description".
// Not to be called while its interpreter runs. The text lives until the next call for this delegate.
R2B_EXPORT const char* r2b_runtime_profile(tfl::Delegate* delegate) {
  auto* state = static_cast<r2b::DelegateState*>(delegate->data);
  std::lock_guard<std::mutex> lock(state->mutex);
  state->report = std::string("kernels\t") + state->kernels->name + "\n";
  for (const r2b::KernelState* kernel : state->live) {
    if (!kernel->plan) continue;
    for (const r2b::Step& step : kernel->plan->steps()) {
      char numbers[64];
      std::snprintf(numbers, sizeof numbers, "%.9f\t%lld\t", step.seconds, static_cast<long long>(step.runs));
      state->report += numbers + kernel->plan->Describe(step) + "\n";
    }
  }
  return state->report.c_str();
}
