// Coverage-guided fuzzing of everything below the delegate's entry points, over the bytes of a model file.
//
// The interpreter's part is played here, in miniature: bytes are read as a `.tflite` FlatBuffer (every offset checked),
// tensors and nodes are laid out as TensorFlow Lite would, and the delegate is created, prepared, invoked and
// destroyed. Whatever the file says, the delegate may refuse it but must not crash, hang, or touch memory that is not
// its own; tensors therefore get exactly the bytes their shapes need. Seeds are real files, written by lce_model.py.
//
// Built with -fsanitize=fuzzer this is a libFuzzer target; with -DR2B_FUZZ_REPLAY it runs the files named as arguments.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tflite_abi.h"

extern "C" tfl::Delegate* tflite_plugin_create_delegate(char**, char**, size_t, void (*)(const char*));
extern "C" void tflite_plugin_destroy_delegate(tfl::Delegate*);

namespace {

// A checked view of a FlatBuffer. Reads outside the buffer give 0 and mark it bad.
struct Buffer {
  const uint8_t* data;
  size_t size;
  bool bad = false;
  template <class T>
  T Read(size_t at) {
    T value{};
    if (at > size || sizeof(T) > size - at) bad = true;
    else std::memcpy(&value, data + at, sizeof(T));
    return value;
  }
  size_t Follow(size_t at) { return at + Read<uint32_t>(at); }
  // Position of a table's field, 0 where absent.
  size_t Field(size_t table, int index) {
    const size_t vtable = table - size_t(ptrdiff_t(Read<int32_t>(table)));
    if (vtable > size || Read<uint16_t>(vtable) < 6 + 2 * index) return 0;
    const uint16_t offset = Read<uint16_t>(vtable + 4 + 2 * index);
    return offset ? table + offset : 0;
  }
  template <class T>
  T Scalar(size_t table, int index, T absent) {
    const size_t at = Field(table, index);
    return at ? Read<T>(at) : absent;
  }
  // (position of the first element, count); count is limited so that nothing grows without bound.
  std::pair<size_t, size_t> Vector(size_t table, int index, size_t element) {
    const size_t field = Field(table, index);
    if (!field) return {0, 0};
    const size_t at = Follow(field), count = Read<uint32_t>(at);
    if (bad || at + 4 > size || count > (size - at - 4) / element)
      return bad = true, std::make_pair(size_t(0), size_t(0));
    return {at + 4, count};
  }
  size_t Element(std::pair<size_t, size_t> vector, size_t i) { return Follow(vector.first + 4 * i); }
};

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
  static int64_t Count(const tfl::IntArray* dims) {
    int64_t count = 1;
    for (int i = 0; i < dims->size; ++i) {
      if (dims->data[i] < 0 || dims->data[i] > 4096) return -1;
      count *= dims->data[i];
      if (count > 1 << 15) return -1;  // large shapes only cost time
    }
    return count;
  }

  bool Load(Buffer b) {
    const size_t model = b.Follow(0);
    const auto codes = b.Vector(model, 1, 4), graphs = b.Vector(model, 2, 4), buffers = b.Vector(model, 4, 4);
    if (b.bad || graphs.second < 1 || codes.second > 64) return false;
    const size_t graph = b.Element(graphs, 0);
    const auto ts = b.Vector(graph, 0, 4), ops = b.Vector(graph, 3, 4);
    if (b.bad || ts.second > 64 || ops.second > 32) return false;
    shapes.resize(ts.second);
    tensors.resize(ts.second);
    for (size_t i = 0; i < ts.second; ++i) {
      const size_t t = b.Element(ts, i);
      const auto shape = b.Vector(t, 0, 4);
      if (b.bad || shape.second > 6) return false;
      for (size_t d = 0; d < shape.second; ++d) shapes[i].Push(b.Read<int32_t>(shape.first + 4 * d));
      static const tfl::Type types[] = {tfl::kFloat32, tfl::kNoType, tfl::kInt32,  tfl::kUInt8,  tfl::kInt64,
                                        tfl::kNoType,  tfl::kBool,   tfl::kNoType, tfl::kNoType, tfl::kInt8};
      const uint8_t type = b.Scalar<uint8_t>(t, 1, 0);
      tfl::Tensor& tensor = tensors[i];
      tensor = tfl::Tensor{};
      tensor.type = type < 10 ? types[type] : tfl::kNoType;
      const int64_t count = Count(shapes[i].get());
      if (count < 0) return false;
      const uint32_t index = b.Scalar<uint32_t>(t, 2, 0);
      tensor.bytes = size_t(count) * Bytes(tensor.type);
      if (const size_t q = b.Field(t, 4)) {
        const size_t table = b.Follow(q);
        const auto scale = b.Vector(table, 2, 4), zero = b.Vector(table, 3, 8);
        if (scale.second == 1) tensor.params.scale = b.Read<float>(scale.first);
        if (zero.second == 1) tensor.params.zero_point = int32_t(b.Read<int64_t>(zero.first));
        // TensorFlow Lite refuses zero points outside the type's range.
        if (tensor.params.zero_point < -128 || tensor.params.zero_point > 127) return false;
      }
      memory.emplace_back(new uint8_t[tensor.bytes ? tensor.bytes : 1]());
      tensor.data = memory.back().get();
      if (index < buffers.second) {
        const auto data = b.Vector(b.Element(buffers, index), 0, 1);
        if (b.bad) return false;
        if (data.second) {
          if (data.second != tensor.bytes) return false;  // the interpreter checks this as well
          std::memcpy(tensor.data, b.data + data.first, data.second);
          tensor.allocation_type = tfl::kMmapRo;
        }
      }
    }
    for (size_t i = 0; i < tensors.size(); ++i) tensors[i].dims = shapes[i].get();
    std::vector<bool> produced(tensors.size(), false);
    names.resize(ops.second), options.resize(ops.second), builtin.resize(ops.second), lists.resize(2 * ops.second);
    nodes.resize(ops.second), registrations.resize(ops.second);
    for (size_t i = 0; i < ops.second; ++i) {
      const size_t op = b.Element(ops, i);
      const uint32_t code = b.Scalar<uint32_t>(op, 0, 0);
      if (b.bad || code >= codes.second) return false;
      const size_t entry = b.Element(codes, code);
      for (int k = 0; k < 2; ++k) {
        const auto list = b.Vector(op, 1 + k, 4);
        if (b.bad || list.second > 8) return false;
        for (size_t j = 0; j < list.second; ++j) {
          const int t = b.Read<int32_t>(list.first + 4 * j);
          if (t >= int(tensors.size()) || t < (k ? 0 : -1)) return false;
          // Graphs are in order: nothing is read before it is written, nor written twice or over a constant.
          if (k && (produced[size_t(t)] || tensors[size_t(t)].allocation_type == tfl::kMmapRo)) return false;
          for (size_t e = 0; k && e < i; ++e)
            for (size_t j = 1; j < lists[2 * e].storage.size(); ++j)
              if (lists[2 * e].storage[j] == t) return false;
          if (k)
            for (size_t e = 1; e < lists[2 * i].storage.size(); ++e)
              if (lists[2 * i].storage[e] == t) return false;
          lists[2 * i + size_t(k)].Push(t);
          if (k) produced[size_t(t)] = true;
        }
      }
      tfl::Registration& r = registrations[i];
      r = tfl::Registration{};
      r.builtin_code = b.Scalar<int32_t>(entry, 3, 0);
      const auto name = b.Vector(entry, 1, 1);
      names[i].assign(reinterpret_cast<const char*>(b.data + name.first), name.second);
      r.custom_name = names[i].c_str();
      const auto custom = b.Vector(op, 5, 1);
      options[i].assign(b.data + custom.first, b.data + custom.first + custom.second);
      // Options of builtin operators become plain structs of ints; a byte or int per field is near enough.
      builtin[i].assign(8, 0);
      if (const size_t field = b.Field(op, 4)) {
        const size_t table = b.Follow(field);
        for (int f = 0; f < 8; ++f) builtin[i][size_t(f)] = int(b.Scalar<uint8_t>(table, f, 0)) % 9;
      }
      if (b.bad) return false;
      nodes[i] = tfl::Node{};
      nodes[i].builtin_data = builtin[i].data();
      nodes[i].custom_initial_data = options[i].data();
      nodes[i].custom_initial_data_size = int(options[i].size());
      plan.Push(int(i));
    }
    for (size_t i = 0; i < nodes.size(); ++i)
      nodes[i].inputs = lists[2 * i].get(), nodes[i].outputs = lists[2 * i + 1].get();
    context.tensors = tensors.data();
    context.tensors_size = tensors.size();
    context.impl_ = this;
    context.recommended_num_threads =
        1 + int(tensors.size() % 2);  // so that the input decides, and one alone can be tried again
    context.ReportError = Ignore;
    context.GetExecutionPlan = [](tfl::Context* c, tfl::IntArray** out) { return *out = Of(c)->plan.get(), tfl::kOk; };
    context.GetNodeAndRegistration = [](tfl::Context* c, int i, tfl::Node** n, tfl::Registration** r) {
      return *n = &Of(c)->nodes[size_t(i)], *r = &Of(c)->registrations[size_t(i)], tfl::kOk;
    };
    context.ResizeTensor = [](tfl::Context* c, tfl::Tensor* t, tfl::IntArray* dims) { return Of(c)->Resize(t, dims); };
    context.ReplaceNodeSubsetsWithDelegateKernels = [](tfl::Context* c, tfl::Registration r, const tfl::IntArray* n,
                                                       tfl::Delegate* d) { return Of(c)->Replace(r, n, d); };
    return true;
  }

  tfl::Status Resize(tfl::Tensor* tensor, tfl::IntArray* dims) {
    const size_t i = size_t(tensor - tensors.data());
    shapes[i] = Array();
    for (int d = 0; d < dims->size; ++d) shapes[i].Push(dims->data[d]);
    std::free(dims);
    tensor->dims = shapes[i].get();
    const int64_t count = Count(tensor->dims);
    if (count < 0) return tfl::kError;
    tensor->bytes = size_t(count) * Bytes(tensor->type);
    memory[i].reset(new uint8_t[tensor->bytes ? tensor->bytes : 1]());
    tensor->data = memory[i].get();
    return tfl::kOk;
  }

  // One kernel for each node, or one for all of a run of neighbours, as partitioning would give.
  tfl::Status Replace(tfl::Registration r, const tfl::IntArray* claimed, tfl::Delegate* delegate) {
    auto params = std::make_unique<tfl::DelegateParams>();
    for (int k = 0; k < 3; ++k) arrays.push_back(std::make_unique<Array>());
    Array &all = *arrays[arrays.size() - 3], &in = *arrays[arrays.size() - 2], &out = *arrays[arrays.size() - 1];
    std::vector<bool> made(tensors.size(), false), used(tensors.size(), false);
    int last = -1;
    for (int i = 0; i < claimed->size; ++i) {
      if (last >= 0 && claimed->data[i] != last + 1) break;
      last = claimed->data[i];
      all.Push(last);
      for (int j = 0; j < nodes[size_t(last)].inputs->size; ++j)
        if (const int t = nodes[size_t(last)].inputs->data[j]; t >= 0 && !made[size_t(t)]) in.Push(t);
      for (int j = 0; j < nodes[size_t(last)].outputs->size; ++j)
        made[size_t(nodes[size_t(last)].outputs->data[j])] = true;
    }
    for (int i = 1; i < int(all.storage.size()); ++i) {
      const tfl::Node& n = nodes[size_t(all.storage[size_t(i)])];
      for (int j = 0; j < n.inputs->size; ++j)
        if (n.inputs->data[j] >= 0) used[size_t(n.inputs->data[j])] = true;
    }
    // Results that nobody reads, and now and then one that somebody does, leave the partition.
    for (size_t t = 0; t < made.size(); ++t)
      if (made[t] && (!used[t] || t % 3 == 0)) out.Push(int(t));
    *params = {delegate, all.get(), in.get(), out.get()};
    kernels.emplace_back(r, std::move(params));
    return tfl::kOk;
  }

  void RunAll() {
    for (auto& [r, params] : kernels) {
      tfl::Node node{};
      node.user_data = r.init(&context, reinterpret_cast<const char*>(params.get()), 0);
      if (r.prepare(&context, &node) == tfl::kOk && r.invoke(&context, &node) == tfl::kOk &&
          r.prepare(&context, &node) == tfl::kOk)
        r.invoke(&context, &node);
      r.free(&context, node.user_data);
    }
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 8 || size > 1 << 16) return 0;
  MiniInterpreter interpreter;
  if (!interpreter.Load(Buffer{data, size})) return 0;
  static const char* const kernels[] = {"auto", "portable", "avx2"};
  char* keys[] = {const_cast<char*>("kernels")};
  char* values[] = {const_cast<char*>(kernels[data[size - 1] % 3])};
  tfl::Delegate* delegate = tflite_plugin_create_delegate(keys, values, 1, nullptr);
  if (!delegate) delegate = tflite_plugin_create_delegate(nullptr, nullptr, 0, nullptr);
  if (delegate->Prepare(&interpreter.context, delegate) == tfl::kOk) interpreter.RunAll();
  tflite_plugin_destroy_delegate(delegate);
  return 0;
}

#if defined(R2B_FUZZ_REPLAY)
int main(int argc, char** argv) {
  int ran = 0;
  for (int i = 1; i < argc; ++i) {
    FILE* file = std::fopen(argv[i], "rb");
    if (!file) return 1;
    std::vector<uint8_t> bytes(1 << 16);
    bytes.resize(std::fread(bytes.data(), 1, bytes.size(), file));
    std::fclose(file);
    MiniInterpreter probe;
    ran += probe.Load(Buffer{bytes.data(), bytes.size()});
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%d files read as models\n", ran);
}
#endif
