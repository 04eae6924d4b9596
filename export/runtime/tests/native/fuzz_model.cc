// Coverage-guided fuzzing of everything below the delegate's entry points, with the bytes of model files and with
// random graphs.
//
// The input is read as a `.tflite` FlatBuffer (every offset is checked) or, if it begins with "PLAN", as random numbers
// from which drawn_model.h draws a graph. Such graphs have long chains, large windows and large tensors, which
// mutations of a file rarely produce. mini_interpreter.h replaces the interpreter. The delegate is created, prepared,
// invoked and destroyed. It may refuse any input, but must not crash, hang, or access memory that it does not own.
// Seeds are files written by lce_model.py and random numbers after "PLAN" (fuzz.py).
//
// With -fsanitize=fuzzer this is a libFuzzer target; with -DR2B_FUZZ_REPLAY it runs the files named as arguments.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "drawn_model.h"
#include "mini_interpreter.h"

extern "C" tfl::Delegate* tflite_plugin_create_delegate(char**, char**, size_t, void (*)(const char*));
extern "C" void tflite_plugin_destroy_delegate(tfl::Delegate*);

namespace {

// A checked view of a FlatBuffer. Reads outside the buffer return 0 and set `bad`.
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
  // Returns the position of a table's field, or 0 if it is absent.
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
  // Returns (position of the first element, count). If the vector exceeds the buffer, sets `bad` and returns (0, 0).
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

// A model file's tensors and nodes. Functions that return bool return false for bytes that an interpreter would not
// accept, or for files that are too large for this test.
struct LoadedModel : MiniInterpreter {
  explicit LoadedModel(const Buffer& buffer) : b(buffer) {}

  bool Load() {
    const size_t model = b.Follow(0);
    codes = b.Vector(model, 1, 4), buffers = b.Vector(model, 4, 4);
    const auto graphs = b.Vector(model, 2, 4);
    if (b.bad || graphs.second < 1 || codes.second > 64) return false;
    const size_t graph = b.Element(graphs, 0);
    const auto ts = b.Vector(graph, 0, 4), ops = b.Vector(graph, 3, 4);
    if (b.bad || ts.second > 64 || ops.second > 32) return false;
    if (!LoadTensors(ts) || !LoadNodes(ops)) return false;
    Finish(1 + int(tensors.size() % 2));  // threads: depends on the input alone, so that runs can be repeated
    return true;
  }

 private:
  using Vector = std::pair<size_t, size_t>;

  bool LoadTensors(const Vector& ts) {
    shapes.resize(ts.second);
    tensors.resize(ts.second);
    memory.resize(ts.second);
    for (size_t i = 0; i < ts.second; ++i) {
      const size_t t = b.Element(ts, i);
      if (!LoadType(i, t) || !LoadQuantization(&tensors[i], t) || !LoadConstant(i, b.Scalar<uint32_t>(t, 2, 0)))
        return false;
    }
    return true;
  }

  bool LoadType(size_t i, size_t table) {
    const auto shape = b.Vector(table, 0, 4);
    if (b.bad || shape.second > 6) return false;
    for (size_t d = 0; d < shape.second; ++d) shapes[i].Push(b.Read<int32_t>(shape.first + 4 * d));
    static const tfl::Type types[] = {tfl::kFloat32, tfl::kNoType, tfl::kInt32,  tfl::kUInt8,  tfl::kInt64,
                                      tfl::kNoType,  tfl::kBool,   tfl::kNoType, tfl::kNoType, tfl::kInt8};
    const uint8_t type = b.Scalar<uint8_t>(table, 1, 0);
    tensors[i] = tfl::Tensor{};
    tensors[i].type = type < 10 ? types[type] : tfl::kNoType;
    tensors[i].dims = shapes[i].get();
    return true;
  }

  bool LoadQuantization(tfl::Tensor* tensor, size_t t) {
    const size_t field = b.Field(t, 4);
    if (!field) return true;
    const size_t table = b.Follow(field);
    const auto scale = b.Vector(table, 2, 4), zero = b.Vector(table, 3, 8);
    if (scale.second == 1) tensor->params.scale = b.Read<float>(scale.first);
    if (zero.second == 1) tensor->params.zero_point = int32_t(b.Read<int64_t>(zero.first));
    // TensorFlow Lite refuses zero points outside the type's range.
    const int least = tensor->type == tfl::kUInt8 ? 0 : -128;
    return tensor->params.zero_point >= least && tensor->params.zero_point <= least + 255;
  }

  bool LoadConstant(size_t i, uint32_t index) {
    if (index >= buffers.second) return true;
    const auto data = b.Vector(b.Element(buffers, index), 0, 1);
    if (b.bad) return false;
    if (!data.second) return true;
    if (int64_t(data.second) != Size(tensors[i])) return false;  // the interpreter checks this as well
    Allocate(i);
    std::memcpy(tensors[i].data, b.data + data.first, data.second);
    tensors[i].allocation_type = tfl::kMmapRo;
    return true;
  }

  bool LoadNodes(const Vector& ops) {
    names.resize(ops.second), options.resize(ops.second), builtin.resize(ops.second), lists.resize(2 * ops.second);
    nodes.resize(ops.second), registrations.resize(ops.second);
    produced.assign(tensors.size(), false);
    read.assign(tensors.size(), false);
    for (size_t i = 0; i < ops.second; ++i) {
      const size_t op = b.Element(ops, i);
      const uint32_t code = b.Scalar<uint32_t>(op, 0, 0);
      if (b.bad || code >= codes.second || !LoadInputs(i, op) || !LoadOutputs(i, op)) return false;
      LoadRegistration(i, b.Element(codes, code));
      LoadOptions(i, op);
      if (b.bad) return false;
      plan.Push(int(i));
    }
    return true;
  }

  // Reads a node's list of tensors, whose indices must be at least `least`.
  bool LoadList(size_t op, int field, int least, std::vector<int>* list) {
    const auto vector = b.Vector(op, field, 4);
    if (b.bad || vector.second > 8) return false;
    for (size_t j = 0; j < vector.second; ++j) {
      list->push_back(b.Read<int32_t>(vector.first + 4 * j));
      if (list->back() >= int(tensors.size()) || list->back() < least) return false;
    }
    return true;
  }

  bool LoadInputs(size_t i, size_t op) {
    std::vector<int> list;
    if (!LoadList(op, 1, -1, &list)) return false;
    for (int t : list) {
      lists[2 * i].Push(t);
      if (t >= 0) read[size_t(t)] = true;
    }
    return true;
  }

  // Returns false if the node writes a constant, or a tensor that an earlier node or the node itself reads or writes.
  bool LoadOutputs(size_t i, size_t op) {
    std::vector<int> list;
    if (!LoadList(op, 2, 0, &list)) return false;
    for (int t : list) {
      if (produced[size_t(t)] || read[size_t(t)] || tensors[size_t(t)].allocation_type == tfl::kMmapRo) return false;
      lists[2 * i + 1].Push(t);
      produced[size_t(t)] = true;
    }
    return true;
  }

  void LoadRegistration(size_t i, size_t entry) {
    registrations[i] = tfl::Registration{};
    registrations[i].builtin_code = b.Scalar<int32_t>(entry, 3, 0);
    const auto name = b.Vector(entry, 1, 1);
    names[i].assign(reinterpret_cast<const char*>(b.data + name.first), name.second);
    registrations[i].custom_name = names[i].c_str();
  }

  void LoadOptions(size_t i, size_t op) {
    const auto custom = b.Vector(op, 5, 1);
    options[i].assign(b.data + custom.first, b.data + custom.first + custom.second);
    // An interpreter turns the options of builtin operators into structs; eight small ints are similar enough.
    builtin[i].assign(8, 0);
    if (const size_t field = b.Field(op, 4)) {
      const size_t table = b.Follow(field);
      for (int f = 0; f < 8; ++f) builtin[i][size_t(f)] = int(b.Scalar<uint8_t>(table, f, 0)) % 9;
    }
    nodes[i] = tfl::Node{};
    nodes[i].builtin_data = builtin[i].data();
    nodes[i].custom_initial_data = options[i].data();
    nodes[i].custom_initial_data_size = int(options[i].size());
  }

  Buffer b;
  Vector codes, buffers;
  std::vector<bool> produced, read;  // by the nodes so far
};

int Run(MiniInterpreter* model, const char* kernels) {
  std::string memory = std::to_string(kMemory);
  char* keys[] = {const_cast<char*>("max_memory"), const_cast<char*>("max_work"), const_cast<char*>("kernels")};
  char* values[] = {memory.data(), const_cast<char*>("1"), const_cast<char*>(kernels)};
  tfl::Delegate* delegate = tflite_plugin_create_delegate(keys, values, 3, nullptr);
  if (!delegate) delegate = tflite_plugin_create_delegate(keys, values, 2, nullptr);
  int ran = 0;
  if (delegate->Prepare(&model->context, delegate) == tfl::kOk) ran = model->RunAll();
  tflite_plugin_destroy_delegate(delegate);
  return ran;
}

// Returns how many of the delegate's kernels ran, or -1 if the bytes cannot be loaded as a model.
int Test(const uint8_t* data, size_t size) {
  if (size < 8 || size > 1 << 16) return -1;
  static const bool oversubscribed = !setenv("R2B_RUNTIME_OVERSUBSCRIBE", "1", 1);  // more threads than cores
  static const char* const kernels[] = {"auto", "portable", "avx2"};
  const char* const chosen = kernels[oversubscribed ? data[size - 1] % 3 : 0];
  if (!std::memcmp(data, "PLAN", 4)) {
    DrawnModel model;
    model.Draw(data + 4, size - 4);
    return Run(&model, chosen);
  }
  LoadedModel model(Buffer{data, size});
  return model.Load() ? Run(&model, chosen) : -1;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Test(data, size);
  return 0;
}

#if defined(R2B_FUZZ_REPLAY)
int main(int argc, char** argv) {
  int models = 0, ran = 0;
  for (int i = 1; i < argc; ++i) {
    FILE* file = std::fopen(argv[i], "rb");
    if (!file) return 1;
    std::vector<uint8_t> bytes(1 << 16);
    bytes.resize(std::fread(bytes.data(), 1, bytes.size(), file));
    std::fclose(file);
    std::printf("%s\n", argv[i]);
    std::fflush(stdout);  // the last line then names the file that crashed the process
    const int kernels = Test(bytes.data(), bytes.size());
    models += kernels >= 0;
    ran += kernels > 0;
  }
  std::printf("%d files read as models, %d of them ran\n", models, ran);
}
#endif
