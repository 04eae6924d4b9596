// The C interface of r2b.h: handles, turns, errors, and the memory of inputs and outputs. What runs is a Plan.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "boundary.h"
#include "cores.h"
#include "export.h"
#include "limits.h"
#include "model.h"
#include "options.h"
#include "plan.h"
#include "r2b.h"

struct r2b_model {
  explicit r2b_model(std::vector<uint8_t> file) : model(std::move(file)) {}
  const r2b::Model model;
};

struct r2b_engine {
  std::shared_ptr<const r2b_model> source;
  const r2b::Kernels* kernels = nullptr;
  r2b::Limits limits;
  std::unique_ptr<r2b::ThreadPool> pool;
  std::unique_ptr<r2b::Plan> plan;
  std::vector<std::vector<uint8_t>> inputs, outputs;  // values, by the model's lists
  std::atomic_flag running = ATOMIC_FLAG_INIT;        // by some thread
};

namespace r2b {
namespace {

using Models = Handles<r2b_model>;
using Engines = Handles<r2b_engine>;

constexpr size_t kMostFile = size_t(1) << 31;  // bytes; the format's own limit

// Tells `error` what went wrong, as far as there is room. A sentence never ends within a character.
void Tell(r2b_error* error, const std::string& sentence) {
  if (!error) return;
  size_t length = std::min(sentence.size(), sizeof(error->text) - 1);
  if (length < sentence.size())
    while (length > 0 && (sentence[length] & 0xC0) == 0x80) --length;
  std::memcpy(error->text, sentence.data(), length);
  error->text[length] = 0;
}

// Runs `body`, and tells what it throws. Whether it threw nothing.
template <class Body>
bool Tried(r2b_error* error, const Body& body) noexcept {
  std::string sentence;
  if (Contained(&sentence, body)) return true;
  Tell(error, sentence.empty() ? "out of memory" : sentence);
  return false;
}

std::shared_ptr<r2b_engine> Found(const r2b_engine* engine) {
  auto found = Engines::Instance().Find(engine);
  if (!found) throw Refused("this is no engine, or it has been freed");
  return found;
}

// Calls `body(engine)` for the one thread whose turn it is.
template <class Body>
bool InTurn(const r2b_engine* engine, r2b_error* error, const Body& body) {
  return Tried(error, [&] {
    const auto found = Found(engine);
    const Turn turn(&found->running);
    if (!turn.mine())
      throw Refused("another thread is using this engine; give each thread an engine of its own, or take turns");
    body(*found);
  });
}

size_t TensorBytes(const Tensor& tensor) { return size_t((Elements(tensor.dims) * ByteSize(tensor.type)).value()); }

// The tensor at a place of one of the model's lists.
const Tensor& At(const r2b_engine& engine, const std::vector<int>& list, int32_t index, const char* what) {
  if (index < 0 || size_t(index) >= list.size())
    throw Refused("the model has " + std::to_string(list.size()) + " " + what + "s, numbered from 0; received " +
                  std::to_string(index));
  return engine.plan->graph().tensors[list[index]];
}

r2b_type TypeOf(DType type) {
  switch (type) {
    case DType::kFloat: return R2B_FLOAT32;
    case DType::kInt32: return R2B_INT32;
    case DType::kInt8: return R2B_INT8;
    case DType::kBool: return R2B_BOOL;
    case DType::kOther: break;
  }
  return R2B_OTHER;
}

void Describe(const r2b_engine& engine, const std::vector<int>& list, int32_t index, const char* what,
              r2b_tensor* out) {
  const Tensor& tensor = At(engine, list, index, what);
  if (!out) throw Refused("the place for the tensor's description must be given");
  *out = {};
  out->number = list[index];
  out->type = TypeOf(tensor.type);
  out->rank = int32_t(std::min<size_t>(tensor.dims.size(), R2B_MOST_DIMENSIONS));
  std::copy_n(tensor.dims.begin(), out->rank, out->dims);
  out->bytes = TensorBytes(tensor);
  if (tensor.type == DType::kInt8) {
    out->scale = tensor.scale;
    out->zero_point = tensor.zero_point;
  }
  // The model's name, since a plan lives only until the next shape.
  out->name = engine.source->model.graph().tensors[list[index]].name.c_str();
}

// Makes a plan for the given shapes of inputs (none: those of the file), and memory for its values; keeps both only
// where all of it succeeds.
void Prepare(r2b_engine* engine, const std::vector<std::vector<int>>& shapes) {
  const Model& model = engine->source->model;
  auto plan = std::make_unique<Plan>(model.graph(), engine->kernels, false);
  for (size_t i = 0; i < shapes.size(); ++i) plan->SetDims(model.inputs()[i], shapes[i].data(), int(shapes[i].size()));
  plan->SetLimits(engine->limits);
  std::string error;
  if (!plan->Prepare(engine->pool->size(), &error)) throw Refused(error);
  const auto memory = [&](const std::vector<int>& list) {
    std::vector<std::vector<uint8_t>> values;
    for (int t : list) values.emplace_back(TensorBytes(plan->graph().tensors[t]));
    return values;
  };
  auto inputs = memory(model.inputs()), outputs = memory(model.outputs());
  engine->inputs.swap(inputs);
  engine->outputs.swap(outputs);
  engine->plan = std::move(plan);
}

const Kernels* ChosenKernels(const char* named) {
  const char* name = named ? named : std::getenv("R2B_RUNTIME_KERNELS");
  std::string error;
  if (const Kernels* kernels = FindKernels(name ? name : "", &error)) return kernels;
  throw Refused(error);
}

void Set(r2b_engine* engine, const r2b_options& options) {
  if (options.num_threads < 0 || options.num_threads > kMostThreads)
    throw Refused("num_threads must be 1 to " + std::to_string(kMostThreads) + "; received " +
                  std::to_string(options.num_threads));
  if (options.max_memory < 0 || options.max_work < 0)
    throw Refused("max_memory and max_work must be positive, or 0 for the default");
  engine->kernels = ChosenKernels(options.kernels);
  engine->pool = std::make_unique<ThreadPool>(TeamSize(std::max(1, options.num_threads)));
  if (options.max_memory) engine->limits.memory = options.max_memory;
  if (options.max_work) engine->limits.work = options.max_work;
}

std::vector<uint8_t> ReadFile(const char* path) {
  if (!path) throw Refused("the path of a model must be given");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "rb"), std::fclose);
  if (!file) throw Refused(std::string("cannot read ") + path + ": " + std::strerror(errno));
  std::vector<uint8_t> bytes;
  uint8_t chunk[1 << 16];
  while (const size_t read = std::fread(chunk, 1, sizeof chunk, file.get())) {
    bytes.insert(bytes.end(), chunk, chunk + read);
    if (bytes.size() > kMostFile) throw Refused(std::string(path) + " is larger than 2 GiB, and so no model");
  }
  if (std::ferror(file.get())) throw Refused(std::string("cannot read ") + path + ": " + std::strerror(errno));
  return bytes;
}

r2b_model* Loaded(std::vector<uint8_t> file) {
  return Models::Instance().Add(std::make_shared<r2b_model>(std::move(file)));
}

}  // namespace
}  // namespace r2b

const char* r2b_version(void) { return R2B_VERSION; }

int32_t r2b_abi_version(void) { return R2B_ABI_VERSION; }

const char* r2b_kernels(void) {
  thread_local std::string names, error;
  r2b::Contained(&error, [&] {
    names.clear();
    for (const char* const* name = r2b::AvailableKernels(); *name; ++name)
      names += (names.empty() ? "" : ",") + std::string(*name);
  });
  return names.c_str();
}

r2b_model* r2b_model_load(const void* bytes, size_t size, r2b_error* error) {
  r2b_model* made = nullptr;
  r2b::Tried(error, [&] {
    if (!bytes) throw r2b::Refused("the bytes of a model must be given");
    if (size > r2b::kMostFile) throw r2b::Refused("the file is larger than 2 GiB, and so no model");
    const auto* first = static_cast<const uint8_t*>(bytes);
    made = r2b::Loaded({first, first + size});
  });
  return made;
}

r2b_model* r2b_model_open(const char* path, r2b_error* error) {
  r2b_model* made = nullptr;
  r2b::Tried(error, [&] { made = r2b::Loaded(r2b::ReadFile(path)); });
  return made;
}

void r2b_model_free(r2b_model* model) { r2b::Models::Instance().Remove(model); }

r2b_engine* r2b_engine_create(const r2b_model* model, const r2b_options* options, r2b_error* error) {
  r2b_engine* made = nullptr;
  r2b::Tried(error, [&] {
    auto engine = std::make_shared<r2b_engine>();
    engine->source = r2b::Models::Instance().Find(model);
    if (!engine->source) throw r2b::Refused("this is no model, or it has been freed");
    r2b_options all{};
    if (options) std::memcpy(&all, options, std::min(options->size, sizeof all));
    r2b::Set(engine.get(), all);
    r2b::Prepare(engine.get(), {});
    made = r2b::Engines::Instance().Add(std::move(engine));
  });
  return made;
}

void r2b_engine_free(r2b_engine* engine) { r2b::Engines::Instance().Remove(engine); }

int32_t r2b_engine_inputs(const r2b_engine* engine) {
  int32_t count = -1;
  r2b::Tried(nullptr, [&] { count = int32_t(r2b::Found(engine)->source->model.inputs().size()); });
  return count;
}

int32_t r2b_engine_outputs(const r2b_engine* engine) {
  int32_t count = -1;
  r2b::Tried(nullptr, [&] { count = int32_t(r2b::Found(engine)->source->model.outputs().size()); });
  return count;
}

int r2b_engine_input(const r2b_engine* engine, int32_t index, r2b_tensor* tensor, r2b_error* error) {
  return r2b::InTurn(engine, error, [&](const r2b_engine& found) {
    r2b::Describe(found, found.source->model.inputs(), index, "input", tensor);
  });
}

int r2b_engine_output(const r2b_engine* engine, int32_t index, r2b_tensor* tensor, r2b_error* error) {
  return r2b::InTurn(engine, error, [&](const r2b_engine& found) {
    r2b::Describe(found, found.source->model.outputs(), index, "output", tensor);
  });
}

int r2b_engine_resize(r2b_engine* engine, int32_t input, const int32_t* dims, int32_t rank, r2b_error* error) {
  return r2b::InTurn(engine, error, [&](r2b_engine& found) {
    const std::vector<int>& inputs = found.source->model.inputs();
    r2b::At(found, inputs, input, "input");
    if (!dims || rank < 0 || rank > R2B_MOST_DIMENSIONS)
      throw r2b::Refused("a shape has at most 8 dimensions; received " + std::to_string(rank));
    std::vector<std::vector<int>> shapes;
    for (int t : inputs) shapes.push_back(found.plan->dims(t));
    shapes[input].assign(dims, dims + rank);
    r2b::Prepare(&found, shapes);
  });
}

int r2b_engine_set_input(r2b_engine* engine, int32_t index, const void* values, size_t bytes, r2b_error* error) {
  return r2b::InTurn(engine, error, [&](r2b_engine& found) {
    r2b::At(found, found.source->model.inputs(), index, "input");
    std::vector<uint8_t>& own = found.inputs[index];
    if (!values || bytes != own.size())
      throw r2b::Refused("input " + std::to_string(index) + " has " + std::to_string(own.size()) + " bytes; received " +
                         std::to_string(bytes));
    std::copy_n(static_cast<const uint8_t*>(values), bytes, own.begin());
  });
}

int r2b_engine_get_output(r2b_engine* engine, int32_t index, void* values, size_t bytes, r2b_error* error) {
  return r2b::InTurn(engine, error, [&](const r2b_engine& found) {
    r2b::At(found, found.source->model.outputs(), index, "output");
    const std::vector<uint8_t>& own = found.outputs[index];
    if (!values || bytes != own.size())
      throw r2b::Refused("output " + std::to_string(index) + " has " + std::to_string(own.size()) +
                         " bytes; received room for " + std::to_string(bytes));
    std::copy(own.begin(), own.end(), static_cast<uint8_t*>(values));
  });
}

int r2b_engine_run(r2b_engine* engine, r2b_error* error) {
  return r2b::InTurn(engine, error, [&](r2b_engine& found) {
    const r2b::Model& model = found.source->model;
    for (size_t i = 0; i < model.inputs().size(); ++i) found.plan->Bind(model.inputs()[i], found.inputs[i].data());
    for (size_t i = 0; i < model.outputs().size(); ++i) found.plan->Bind(model.outputs()[i], found.outputs[i].data());
    found.plan->Run(found.pool.get());
    // A tensor that the file lists twice was computed into its last place.
    for (size_t i = 0; i < model.outputs().size(); ++i)
      for (size_t j = i + 1; j < model.outputs().size(); ++j)
        if (model.outputs()[j] == model.outputs()[i]) found.outputs[i] = found.outputs[j];
  });
}
