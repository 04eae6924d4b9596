// The functions of r2b.h that concern engines. They let one thread at a time use an engine, and copy inputs and outputs
// to and from its memory; a Plan runs the model.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "c_api.h"
#include "cores.h"
#include "export.h"
#include "fixed_point.h"
#include "options.h"

namespace r2b {
namespace {

// Calls `body(engine)`. Fails if the handle is invalid, or if another thread is using the engine.
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

// The tensor at `index` of one of the model's lists. `what` is "input" or "output", for messages.
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
    case DType::kUInt8: return R2B_UINT8;
    case DType::kBool: return R2B_BOOL;
    case DType::kOther: break;
  }
  return R2B_OTHER;
}

void Describe(const r2b_engine& engine, const std::vector<int>& list, int32_t index, const char* what,
              r2b_tensor* out) {
  const Tensor& tensor = At(engine, list, index, what);
  CheckPointer(out, "the tensor's description");
  *out = {};
  out->number = list[index];
  out->type = TypeOf(tensor.type);
  out->rank = int32_t(std::min<size_t>(tensor.dims.size(), R2B_MOST_DIMENSIONS));
  std::copy_n(tensor.dims.begin(), out->rank, out->dims);
  out->bytes = TensorBytes(tensor);
  if (tensor.type == DType::kInt8 || tensor.type == DType::kUInt8) {
    out->scale = tensor.scale;
    out->zero_point = tensor.zero_point;
  }
  // The name comes from the model, since a plan lives only until the next resize.
  out->name = engine.source->model.graph().tensors[list[index]].name.c_str();
}

// Makes a plan for the given shapes of the inputs (empty: those of the file), and memory for inputs and outputs. If
// anything fails, the engine is unchanged.
void Prepare(r2b_engine* engine, const std::vector<std::vector<int>>& shapes) {
  const Model& model = engine->source->model;
  auto plan = std::make_unique<Plan>(model.graph(), engine->kernels, engine->profile, engine->source->weights);
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

// Throws Refused unless input 0 can take the images that the preprocessing makes.
void CheckTakesImages(const r2b_engine& engine, const Preprocessing& preprocessing) {
  const Tensor& input = At(engine, engine.source->model.inputs(), 0, "input");
  const std::vector<int> made{preprocessing.height, preprocessing.width, preprocessing.channels};
  if (input.dims.size() != 4 || !std::equal(made.begin(), made.end(), input.dims.begin() + 1))
    throw Refused("the preprocessing makes images of shape " + DimsText(made) + ", but the model's input has shape " +
                  DimsText(input.dims));
  if (input.type != DType::kFloat && input.type != DType::kUInt8 && !(input.type == DType::kInt8 && input.scale > 0))
    throw Refused("the model's input must be float32, uint8, or int8 with a scale, to take an image");
  const auto is = [&](const std::vector<float>& values, float one) {
    return std::all_of(values.begin(), values.end(), [&](float value) { return value == one; });
  };
  if (input.type == DType::kUInt8 && !(input.scale > 0) && !(is(preprocessing.mean, 0) && is(preprocessing.std, 1)))
    throw Refused(
        "the model's input is uint8 without a scale, so pixel values are passed unchanged, and the preprocessing must "
        "have mean 0 and std 1; convert the model again");
}

// Quantises values to an 8-bit tensor's type. If the tensor has no scale, rounds them to whole numbers.
void Quantise(const std::vector<float>& values, const Tensor& tensor, uint8_t* stored) {
  const float scale = tensor.scale > 0 ? tensor.scale : 1;
  const double zero_point = tensor.scale > 0 ? tensor.zero_point : 0, least = LeastNumber(tensor.type);
  for (size_t i = 0; i < values.size(); ++i) {
    const double step = double(std::nearbyint(values[i] / scale)) + zero_point;
    stored[i] = uint8_t(int(std::clamp(step, least, least + 255)));
  }
}

void SetImage(r2b_engine* engine, int32_t place, const r2b_image& given) {
  const Preprocessing& preprocessing = PreprocessingOf(*engine->source);
  CheckTakesImages(*engine, preprocessing);
  const Tensor& input = At(*engine, engine->source->model.inputs(), 0, "input");
  if (place < 0 || place >= input.dims[0])
    throw Refused("the input holds " + std::to_string(input.dims[0]) + " images, numbered from 0; received " +
                  std::to_string(place));
  const int64_t stride = given.stride ? given.stride : int64_t(given.width) * given.channels;
  const Image image{given.pixels, given.height, given.width, given.channels, ptrdiff_t(stride)};
  const size_t count = size_t(preprocessing.height) * preprocessing.width * preprocessing.channels;
  uint8_t* const own = engine->inputs[0].data() + size_t(place) * count * ByteSize(input.type);
  if (input.type == DType::kFloat) {
    PrepareImage(preprocessing, engine->kernels, image, reinterpret_cast<float*>(own));
    return;
  }
  std::vector<float> prepared(count);
  PrepareImage(preprocessing, engine->kernels, image, prepared.data());
  Quantise(prepared, input, own);
}

// Writes an output's values as floats. 8-bit numbers are dequantised if the output has a scale.
void GetValues(const r2b_engine& engine, int32_t index, float* values, size_t count) {
  const Tensor& tensor = At(engine, engine.source->model.outputs(), index, "output");
  const size_t elements = size_t(Elements(tensor.dims).value());
  CheckPointer(values, "output " + std::to_string(index));
  if (count != elements)
    throw Refused("output " + std::to_string(index) + " has " + std::to_string(elements) +
                  " values; received room for " + std::to_string(count));
  const uint8_t* own = engine.outputs[index].data();
  for (size_t i = 0; i < count; ++i) {
    switch (tensor.type) {
      case DType::kFloat: values[i] = reinterpret_cast<const float*>(own)[i]; break;
      case DType::kInt32: values[i] = float(reinterpret_cast<const int32_t*>(own)[i]); break;
      case DType::kInt8:
      case DType::kUInt8: {
        const float number = tensor.type == DType::kUInt8 ? float(own[i]) : float(int8_t(own[i]));
        values[i] = tensor.scale ? (number - float(tensor.zero_point)) * tensor.scale : number;
        break;
      }
      default: values[i] = own[i] != 0;
    }
  }
}

// Throws Refused unless the model has one input, which takes images, and one output, whose last dimension is the
// number of labels.
void CheckClassifier(const r2b_engine& engine) {
  const r2b_model& source = *engine.source;
  const std::vector<int>&inputs = source.model.inputs(), &outputs = source.model.outputs();
  if (inputs.size() != 1 || outputs.size() != 1)
    throw Refused("a classifier has one input and one output; the model has " + std::to_string(inputs.size()) +
                  " and " + std::to_string(outputs.size()));
  CheckTakesImages(engine, PreprocessingOf(source));
  if (!source.labels_error.empty()) throw Refused(source.labels_error);
  const std::vector<int>& answer = engine.plan->dims(outputs[0]);
  if (answer.empty() || size_t(answer.back()) != source.labels.size())
    throw Refused("the model has " + std::to_string(source.labels.size()) + " labels for an output of shape " +
                  DimsText(answer) + "; convert it again with as many labels as classes");
}

const Kernels* ChosenKernels(const char* named) {
  const char* name = named ? named : std::getenv("R2B_RUNTIME_KERNELS");
  std::string error;
  if (const Kernels* kernels = FindKernels(name ? name : "", &error)) return kernels;
  throw Refused(error);
}

void Set(r2b_engine* engine, const r2b_options& options) {
  if (options.num_threads < 0 || options.num_threads > kMostThreads)
    throw Refused("num_threads must be 1 to " + std::to_string(kMostThreads) + ", or 0 for the default; received " +
                  std::to_string(options.num_threads));
  if (options.max_memory < 0 || options.max_work < 0)
    throw Refused("max_memory and max_work must be positive, or 0 for the default");
  engine->kernels = ChosenKernels(options.kernels);
  engine->pool = std::make_unique<ThreadPool>(TeamSize(std::max<int>(1, options.num_threads)));
  engine->profile = options.profile != 0;
  if (options.max_memory) engine->limits.memory = options.max_memory;
  if (options.max_work) engine->limits.work = options.max_work;
}

}  // namespace

std::shared_ptr<r2b_engine> Found(const r2b_engine* engine) {
  auto found = Engines::Instance().Find(engine);
  if (!found) throw Refused("this is not an engine, or the engine has been freed");
  return found;
}

}  // namespace r2b

const char* r2b_kernels(void) {
  thread_local std::string names, error;
  r2b::Contained(&error, [&] {
    names.clear();
    for (const char* const* name = r2b::AvailableKernels(); *name; ++name)
      names += (names.empty() ? "" : ",") + std::string(*name);
  });
  return names.c_str();
}

r2b_engine* r2b_engine_create(const r2b_model* model, const r2b_options* options, r2b_error* error) {
  r2b_engine* made = nullptr;
  r2b::Tried(error, [&] {
    auto engine = std::make_shared<r2b_engine>();
    engine->source = r2b::Found(model);
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
    r2b::CheckPointer(dims, "the shape");
    if (rank < 0 || rank > R2B_MOST_DIMENSIONS)
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
    r2b::CheckPointer(values, "input " + std::to_string(index));
    if (bytes != own.size())
      throw r2b::Refused("input " + std::to_string(index) + " has " + std::to_string(own.size()) + " bytes; received " +
                         std::to_string(bytes));
    std::copy_n(static_cast<const uint8_t*>(values), bytes, own.begin());
  });
}

int r2b_engine_get_output(r2b_engine* engine, int32_t index, void* values, size_t bytes, r2b_error* error) {
  return r2b::InTurn(engine, error, [&](const r2b_engine& found) {
    r2b::At(found, found.source->model.outputs(), index, "output");
    const std::vector<uint8_t>& own = found.outputs[index];
    r2b::CheckPointer(values, "output " + std::to_string(index));
    if (bytes != own.size())
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
    // An output that the file lists twice was bound to the last of its buffers: copy it to the others.
    for (size_t i = 0; i < model.outputs().size(); ++i)
      for (size_t j = i + 1; j < model.outputs().size(); ++j)
        if (model.outputs()[j] == model.outputs()[i]) found.outputs[i] = found.outputs[j];
  });
}

int r2b_engine_check_classifier(const r2b_engine* engine, r2b_error* error) {
  return r2b::InTurn(engine, error, [&](const r2b_engine& found) { r2b::CheckClassifier(found); });
}

int r2b_engine_set_image(r2b_engine* engine, int32_t place, const r2b_image* image, r2b_error* error) {
  return r2b::InTurn(engine, error, [&](r2b_engine& found) {
    r2b::CheckPointer(image, "the image");
    r2b::SetImage(&found, place, *image);
  });
}

int r2b_engine_get_values(r2b_engine* engine, int32_t index, float* values, size_t count, r2b_error* error) {
  return r2b::InTurn(engine, error, [&](const r2b_engine& found) { r2b::GetValues(found, index, values, count); });
}

int64_t r2b_engine_memory(const r2b_engine* engine, r2b_error* error) {
  int64_t bytes = -1;
  r2b::InTurn(engine, error, [&](const r2b_engine& found) { bytes = found.plan->budget().memory(); });
  return bytes;
}

int64_t r2b_engine_weights(const r2b_engine* engine, r2b_error* error) {
  int64_t bytes = -1;
  r2b::InTurn(engine, error, [&](const r2b_engine& found) { bytes = int64_t(found.source->weights->bytes()); });
  return bytes;
}

int32_t r2b_engine_steps(const r2b_engine* engine, r2b_error* error) {
  int32_t count = -1;
  r2b::InTurn(engine, error, [&](const r2b_engine& found) { count = int32_t(found.plan->Profile().size()); });
  return count;
}

int r2b_engine_step(const r2b_engine* engine, int32_t index, r2b_step* step, r2b_error* error) {
  return r2b::InTurn(engine, error, [&](const r2b_engine& found) {
    const auto steps = found.plan->Profile();
    if (index < 0 || size_t(index) >= steps.size())
      throw r2b::Refused("the engine has " + std::to_string(steps.size()) + " steps, numbered from 0; received " +
                         std::to_string(index));
    r2b::CheckPointer(step, "the step");
    const r2b::StepProfile& from = steps[index];
    step->seconds = from.seconds;
    step->runs = from.runs;
    r2b::Copy(from.description, step->description, sizeof step->description);
  });
}
