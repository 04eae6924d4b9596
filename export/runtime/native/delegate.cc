// The shared object's interface for TensorFlow Lite: an external delegate.
//
// load_delegate() passes its options to tflite_plugin_create_delegate. The interpreter then calls Delegate::Prepare,
// where we name the nodes of its graph that we want to replace. For each connected part of these nodes the interpreter
// creates one of our kernels (KernelInit) and runs it in their place. All errors reach the interpreter through this
// file; no other file calls the interpreter.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "boundary.h"
#include "cores.h"
#include "export.h"
#include "import.h"
#include "options.h"
#include "plan.h"

namespace r2b {
namespace {

struct KernelState;

// Kept alive by the delegate and by every kernel: at the end of a Python program the garbage collector may destroy the
// delegate before the interpreter that uses it.
struct DelegateState {
  tfl::Delegate delegate{};
  Options options;      // the limits hold for all kernels together
  ForkSafeMutex mutex;  // guards `live` and KernelState::taken
  std::set<KernelState*> live;
};

struct KernelState {
  std::shared_ptr<DelegateState> owner;
  std::string error;  // found in KernelInit, reported in KernelPrepare
  std::unique_ptr<Plan> plan;
  std::unique_ptr<ThreadPool> pool;
  std::vector<int> tensors;                     // interpreter's index of each plan tensor
  Limits taken{0, 0};                           // how much of the delegate's limits the plan takes
  bool ready = false;                           // whether the last preparation succeeded
  std::atomic_flag running = ATOMIC_FLAG_INIT;  // set while a thread is using the kernel
};

constexpr char kTaken[] =
    "another thread is using this interpreter; give each thread an interpreter of its own, or take turns";

using Delegates = Handles<DelegateState>;

// Translates the nodes that a kernel replaces into the kernel's graph.
class PartitionReader {
 public:
  PartitionReader(tfl::Context* context, const tfl::DelegateParams* params, KernelState* state)
      : context_(context), params_(params), state_(state), local_(context->tensors_size, -1) {}

  // Gives the kernel a plan, or an error.
  void Read() {
    for (int i = 0; i < params_->nodes_to_replace->size && state_->error.empty(); ++i)
      ReadNode(params_->nodes_to_replace->data[i]);
    FindInputsAndOutputs();
    if (state_->error.empty())
      state_->plan =
          std::make_unique<Plan>(std::move(graph_), state_->owner->options.kernels, state_->owner->options.profile);
  }

 private:
  void ReadNode(int index) {
    tfl::Node* node;
    tfl::Registration* registration;
    std::vector<Op> ops;
    if (context_->GetNodeAndRegistration(context_, index, &node, &registration) != tfl::kOk) {
      state_->error = "the interpreter does not know node " + std::to_string(index);
    } else if (ImportNode(context_, index, *node, *registration, &ops, &state_->error) == Import::kClaimed) {
      for (Op& op : ops) {
        for (int& t : op.in) t = Local(t);
        op.out = Local(op.out);
        graph_.ops.push_back(op);
      }
    } else if (state_->error.empty()) {
      state_->error = "node " + std::to_string(index) + " changed after it was claimed";
    }
  }

  // Returns the graph's index of an interpreter's tensor. Imports the tensor when it is first needed.
  int Local(int tensor) {
    if (tensor < 0) return -1;
    if (local_[tensor] < 0) {
      local_[tensor] = int(graph_.tensors.size());
      graph_.tensors.push_back(ImportTensor(context_->tensors[tensor], tensor));
      state_->tensors.push_back(tensor);
    }
    return local_[tensor];
  }

  void FindInputsAndOutputs() {
    std::vector<bool> produced(graph_.tensors.size(), false);
    for (const Op& op : graph_.ops) produced[op.out] = true;
    for (size_t t = 0; t < graph_.tensors.size(); ++t)
      if (!produced[t] && !graph_.tensors[t].constant) graph_.inputs.push_back(int(t));
    for (int i = 0; i < params_->output_tensors->size; ++i) {
      const int t = params_->output_tensors->data[i];
      if (t >= 0 && local_[t] >= 0 && produced[local_[t]]) graph_.outputs.push_back(local_[t]);
    }
  }

  tfl::Context* context_;
  const tfl::DelegateParams* params_;
  KernelState* state_;
  std::vector<int> local_;
  Graph graph_;
};

void* KernelInit(tfl::Context* context, const char* buffer, size_t) {
  const auto* params = reinterpret_cast<const tfl::DelegateParams*>(buffer);
  KernelState* state = nullptr;
  std::string error;
  if (Contained(&error, [&] {
        auto made = std::make_unique<KernelState>();
        made->owner = Delegates::Instance().Find(static_cast<DelegateState*>(params->delegate->data));
        if (!made->owner) return;
        if (std::string found; !Contained(&found, [&] { PartitionReader(context, params, made.get()).Read(); })) {
          made->plan.reset();
          made->error = found;
        }
        const std::lock_guard<ForkSafeMutex> lock(made->owner->mutex);
        made->owner->live.insert(made.get());
        state = made.release();
      }))
    return state;
  return nullptr;
}

void KernelFree(tfl::Context*, void* data) {
  auto* state = static_cast<KernelState*>(data);
  if (!state) return;
  {
    const std::lock_guard<ForkSafeMutex> lock(state->owner->mutex);
    state->owner->live.erase(state);
  }
  delete state;
}

// Interpreters append their own messages to ours; the line break keeps them apart.
tfl::Status Report(tfl::Context* context, const std::string& message) {
  context->ReportError(context, "r2b-runtime: %s\n", message.empty() ? "out of memory" : message.c_str());
  return tfl::kError;
}

// The limits less what the delegate's other kernels have taken.
Limits Remaining(const KernelState& state) {
  const std::lock_guard<ForkSafeMutex> lock(state.owner->mutex);
  Limits limits = state.owner->options.limits;
  for (const KernelState* other : state.owner->live) {
    if (other == &state) continue;
    limits.memory -= std::min(limits.memory, other->taken.memory);
    limits.work -= std::min(limits.work, other->taken.work);
  }
  return limits;
}

tfl::Status PrepareKernel(tfl::Context* context, KernelState* state) {
  if (!state->plan) return Report(context, state->error);
  Plan& plan = *state->plan;
  state->ready = false;
  for (int t : plan.graph().inputs) {
    const tfl::Tensor& tensor = context->tensors[state->tensors[t]];
    if (!tensor.dims) return Report(context, "an input has no shape");
    plan.SetDims(t, tensor.dims->data, tensor.dims->size);
  }
  const int team =
      TeamSize(state->owner->options.threads > 0 ? state->owner->options.threads : context->recommended_num_threads);
  if (!state->pool || state->pool->size() != team) state->pool = std::make_unique<ThreadPool>(team);
  std::string error;
  plan.SetLimits(Remaining(*state));
  if (!plan.Prepare(state->pool->size(), &error)) return Report(context, error);
  {
    const std::lock_guard<ForkSafeMutex> lock(state->owner->mutex);
    state->taken = {plan.budget().memory(), plan.budget().work()};
  }
  for (int t : plan.graph().outputs) {
    tfl::Tensor* tensor = &context->tensors[state->tensors[t]];
    const std::vector<int>& dims = plan.dims(t);
    const bool same = tensor->dims && tensor->dims->size == int(dims.size()) &&
                      std::equal(dims.begin(), dims.end(), tensor->dims->data);
    if (same) continue;
    // The interpreter takes ownership of the array and releases it with free(). (ResizeTensorExplicit, which copies, is
    // a null pointer on desktops.)
    auto* shape = static_cast<tfl::IntArray*>(std::malloc(sizeof(int) * (1 + dims.size())));
    if (!shape) return Report(context, "out of memory");
    shape->size = int(dims.size());
    std::copy(dims.begin(), dims.end(), shape->data);
    if (context->ResizeTensor(context, tensor, shape) != tfl::kOk)
      return Report(context, "the interpreter has no memory for an output of " + DimsText(dims));
  }
  state->ready = true;
  return tfl::kOk;
}

tfl::Status InvokeKernel(tfl::Context* context, KernelState* state) {
  if (!state->ready) return Report(context, "the model is not prepared; call allocate_tensors() first");
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

// Runs `body(context, state)` if no other thread is using the kernel, and reports what it throws.
template <class Body>
tfl::Status InTurn(tfl::Context* context, tfl::Node* node, Body body) {
  tfl::Status status = tfl::kError;
  std::string error;
  const bool done = Contained(&error, [&] {
    auto* state = static_cast<KernelState*>(node->user_data);
    if (!state) {
      Report(context, "the delegate was destroyed before the interpreter was made, or memory ran out; make both again");
      return;
    }
    const Turn turn(&state->running);
    status = turn.mine() ? body(context, state) : Report(context, kTaken);
  });
  return done ? status : Report(context, error);
}
tfl::Status KernelPrepare(tfl::Context* context, tfl::Node* node) { return InTurn(context, node, PrepareKernel); }
tfl::Status KernelInvoke(tfl::Context* context, tfl::Node* node) { return InTurn(context, node, InvokeKernel); }

const char* ProfilingString(const tfl::Context*, const tfl::Node*) { return "r2b-runtime"; }

tfl::Status ClaimNodes(tfl::Context* context, tfl::Delegate* delegate) {
  const std::shared_ptr<DelegateState> owner = Delegates::Instance().Find(static_cast<DelegateState*>(delegate->data));
  if (!owner) return Report(context, "the delegate has been destroyed");
  tfl::IntArray* plan;
  if (context->GetExecutionPlan(context, &plan) != tfl::kOk) return tfl::kError;
  const std::vector<int> nodes(plan->data, plan->data + plan->size);  // later calls invalidate `plan`
  std::vector<int> claimed{0};                                        // laid out like an IntArray: size first
  bool any = false;
  for (int index : nodes) {
    tfl::Node* node;
    tfl::Registration* registration;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != tfl::kOk) return tfl::kError;
    std::vector<Op> ops;
    std::string error;
    const Import import = ImportNode(context, index, *node, *registration, &ops, &error);
    // Any other operator that cannot be imported is left to the interpreter, which runs or refuses it.
    if (import == Import::kFailed && IsLceOp(*registration)) return Report(context, error);
    any |= IsLceOp(*registration);
    if (import == Import::kClaimed && (owner->options.claim_float || IsLceOp(*registration))) claimed.push_back(index);
  }
  if (!any) return tfl::kOk;  // a model without binary operators is left alone
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

tfl::Status DelegatePrepare(tfl::Context* context, tfl::Delegate* delegate) {
  tfl::Status status = tfl::kError;
  std::string error;
  return Contained(&error, [&] { status = ClaimNodes(context, delegate); }) ? status : Report(context, error);
}

}  // namespace
}  // namespace r2b

R2B_EXPORT tfl::Delegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count,
                                                        void (*report_error)(const char*)) {
  r2b::DelegateState* made = nullptr;
  std::string error;
  r2b::Contained(&error, [&] {
    auto state = std::make_shared<r2b::DelegateState>();
    if (!r2b::ParseOptions(&state->options, keys, values, count, &error)) return;
    state->delegate.data = state.get();
    state->delegate.Prepare = r2b::DelegatePrepare;
    state->delegate.flags = tfl::kAllowDynamicTensors;
    made = r2b::Delegates::Instance().Add(std::move(state));
  });
  if (made) return &made->delegate;
  if (report_error) r2b::Contained(&error, [&] { report_error(("r2b-runtime: " + error).c_str()); });
  return nullptr;
}

R2B_EXPORT void tflite_plugin_destroy_delegate(tfl::Delegate* delegate) {
  // The delegate is the state's first member. The pointer is only compared, so it may be one that has been freed.
  r2b::Delegates::Instance().Remove(reinterpret_cast<r2b::DelegateState*>(delegate));
}

// Returns a delegate's profile: the line "kernels<TAB>name", then a line for each step,
// "seconds<TAB>runs<TAB>description". The numbers are 0 unless the delegate was created with profile=1. The text is
// empty while another thread is using the interpreter. Null if this is not a delegate of ours, if it has been
// destroyed, or if memory runs out. The text lives until the thread's next call.
R2B_EXPORT const char* r2b_runtime_profile(tfl::Delegate* delegate) {
  thread_local std::string report, error;
  const bool known = r2b::Contained(&error, [&] {
    const auto state = r2b::Delegates::Instance().Find(reinterpret_cast<r2b::DelegateState*>(delegate));
    if (!state) throw std::invalid_argument("no delegate");
    const std::lock_guard<r2b::ForkSafeMutex> lock(state->mutex);
    report = std::string("kernels\t") + state->options.kernels->name + "\n";
    for (r2b::KernelState* kernel : state->live) {
      const r2b::Turn turn(&kernel->running);
      if (!turn.mine()) return report.clear();
      if (!kernel->plan) continue;
      for (const r2b::StepProfile& step : kernel->plan->Profile()) {
        char numbers[64];
        std::snprintf(numbers, sizeof numbers, "%.9f\t%lld\t", step.seconds, static_cast<long long>(step.runs));
        report += numbers + step.description + "\n";
      }
    }
  });
  return known ? report.c_str() : nullptr;
}
