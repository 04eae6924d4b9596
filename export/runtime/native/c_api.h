// What the files of the C interface have in common: the objects behind its handles, and how a call reports an error.
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
  // Of the file's own bytes (std::vector), or of those that stay where they are (r2b::Bytes).
  template <class File>
  explicit r2b_model(File file) : model(std::move(file)) {
    ReadMetadata();
  }
  const r2b::Model model;
  const std::shared_ptr<r2b::WeightCache> weights = std::make_shared<r2b::WeightCache>();  // shared by its engines
  std::vector<std::string> labels;
  r2b::Preprocessing preprocessing;
  bool has_preprocessing = false;
  // Why they could not be read; empty: they could. A model runs without them.
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
  std::vector<std::vector<uint8_t>> inputs, outputs;  // values, by the model's lists
  std::atomic_flag running = ATOMIC_FLAG_INIT;        // by some thread
};

namespace r2b {

using Models = Handles<r2b_model>;
using Engines = Handles<r2b_engine>;

// Copies a text and a zero byte, as far as there is room. The copy never ends within a character.
void Copy(const std::string& text, char* out, size_t room);
void Tell(r2b_error* error, const std::string& sentence);

// Runs `body` and reports what it throws. Returns whether it threw nothing.
template <class Body>
bool Tried(r2b_error* error, const Body& body) noexcept {
  std::string sentence;
  if (Contained(&sentence, body)) return true;
  Tell(error, sentence.empty() ? "out of memory" : sentence);
  return false;
}

// The object behind a handle. Throws Refused where there is none, or no more.
std::shared_ptr<r2b_model> Found(const r2b_model* model);
std::shared_ptr<r2b_engine> Found(const r2b_engine* engine);

// Throws Refused where the model says nothing of it, or it could not be read.
const Preprocessing& PreprocessingOf(const r2b_model& model);

}  // namespace r2b
