// Shared by the files of the C interface: the objects behind its handles, and how a call reports an error.
#pragma once

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "boundary.h"
#include "limits.h"
#include "metadata.h"
#include "model.h"
#include "plan.h"
#include "r2b.h"

struct r2b_model {
  // `file` is a std::vector, which the model keeps, or r2b::Bytes, which are not copied and must outlive the model.
  template <class File>
  explicit r2b_model(File file) : model(std::move(file)) {
    ReadMetadata();
  }
  const r2b::Model model;
  const std::shared_ptr<r2b::WeightCache> weights = std::make_shared<r2b::WeightCache>();  // shared by its engines
  std::vector<std::string> labels;
  r2b::Preprocessing preprocessing;
  bool has_preprocessing = false;
  // Why the labels or the preprocessing could not be read; empty if they could. A model runs without them.
  std::string labels_error, preprocessing_error;

 private:
  void ReadMetadata();
};

struct r2b_engine {
  std::shared_ptr<const r2b_model> source;
  const r2b::Kernels* kernels = nullptr;
  r2b::Limits limits;
  bool profile = false;
  std::unique_ptr<r2b::ThreadPool> pool;
  std::unique_ptr<r2b::Plan> plan;
  std::vector<std::vector<uint8_t>> inputs, outputs;  // values of Model::inputs() and Model::outputs()
  std::atomic_flag running = ATOMIC_FLAG_INIT;        // set while a thread is using the engine
};

namespace r2b {

// Throws Refused if a caller's pointer is null. `what`, a std::string or a literal, says what the pointer is for.
template <class Text>
void CheckPointer(const void* pointer, const Text& what) {
  if (!pointer) throw Refused(std::string("the pointer for ") + what + " must not be NULL");
}

using Models = Handles<r2b_model>;
using Engines = Handles<r2b_engine>;

// Copies a text and a terminating zero byte to `out`. If `room` bytes are too few, the text is cut, but never within a
// UTF-8 character.
void Copy(const std::string& text, char* out, size_t room);
// Writes the sentence into `*error`, unless `error` is null.
void Tell(r2b_error* error, const std::string& sentence);

// Runs `body` and writes the message of what it throws into `*error`. True if it threw nothing.
template <class Body>
bool Tried(r2b_error* error, const Body& body) noexcept {
  std::string sentence;
  if (Contained(&sentence, body)) return true;
  Tell(error, sentence.empty() ? "out of memory" : sentence);
  return false;
}

// The object behind a handle. Throws Refused if there is none, or it has been freed.
std::shared_ptr<r2b_model> Found(const r2b_model* model);
std::shared_ptr<r2b_engine> Found(const r2b_engine* engine);

// Throws Refused if the model's metadata has no preprocessing, or it could not be read.
const Preprocessing& PreprocessingOf(const r2b_model& model);

}  // namespace r2b
