// Feeds files to the engine's C interface, which must run them or return an error message, whatever they contain.
//
// With -fsanitize=fuzzer this is a libFuzzer target; with -DR2B_FUZZ_REPLAY it runs the files named as arguments.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "r2b.h"

namespace {

constexpr int64_t kMemory = int64_t(64) << 20;
constexpr int64_t kWork = 200000000;

void Require(bool held) {
  if (!held) std::abort();
}

// Reads all metadata. Whatever is read without an error must be valid.
void ReadMetadata(const r2b_model* model) {
  r2b_error error;
  r2b_preprocessing preprocessing;
  const int32_t labels = r2b_model_labels(model, &error);
  for (int32_t i = 0; i < labels; ++i) Require(r2b_model_label(model, i, &error));
  if (r2b_model_preprocessing(model, &preprocessing, &error)) Require(preprocessing.height > 0);
}

// Runs a file's model in `threads` threads. Returns whether the engine accepted it.
bool Run(const uint8_t* data, size_t size, int threads) {
  r2b_error error;
  r2b_model* model = r2b_model_load(data, size, &error);
  if (!model) {
    Require(std::memchr(error.text, 0, sizeof error.text) && error.text[0]);
    return false;
  }
  ReadMetadata(model);
  r2b_options options{};
  options.size = sizeof options;
  options.num_threads = threads;
  options.max_memory = kMemory;
  options.max_work = kWork;
  r2b_engine* engine = r2b_engine_create(model, &options, &error);
  r2b_model_free(model);
  if (!engine) {
    Require(error.text[0]);
    return false;
  }
  for (int32_t i = 0; i < r2b_engine_inputs(engine); ++i) {
    r2b_tensor tensor;
    Require(r2b_engine_input(engine, i, &tensor, &error));
    const std::vector<uint8_t> values(tensor.bytes + 1, 0x3f);
    Require(r2b_engine_set_input(engine, i, values.data(), tensor.bytes, &error));
  }
  const uint8_t pixels[4 * 5 * 3] = {};
  const r2b_image image{pixels, 4, 5, 3, 0};
  r2b_engine_set_image(engine, 0, &image, &error);
  Require(r2b_engine_run(engine, &error));
  for (int32_t i = 0; i < r2b_engine_outputs(engine); ++i) {
    r2b_tensor tensor;
    Require(r2b_engine_output(engine, i, &tensor, &error));
    std::vector<uint8_t> values(tensor.bytes + 1);
    Require(r2b_engine_get_output(engine, i, values.data(), tensor.bytes, &error));
  }
  const int32_t dims[] = {2, 3, 5, 33};
  r2b_engine_resize(engine, 0, dims, 1 + int32_t(size % 4), &error);
  Require(r2b_engine_run(engine, &error));
  r2b_engine_free(engine);
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (Run(data, size, 1)) Run(data, size, 2);
  return 0;
}

#ifdef R2B_FUZZ_REPLAY
int main(int argc, char** argv) {
  int models = 0;
  for (int i = 1; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
    models += Run(data, bytes.size(), 1) && Run(data, bytes.size(), 2);
  }
  std::printf("%d files, %d ran\n", argc - 1, models);
}
#endif
