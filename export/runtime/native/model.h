// Reads a `.tflite` file into a Graph, without an interpreter. The file's tables are converted to TensorFlow Lite's
// structures. The code that reads an interpreter's structures (import.h) then reads these, so the engine and the
// delegate run the same operators by the same rules.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "flatbuffer.h"
#include "graph.h"

namespace r2b {

constexpr size_t kFileAlign = 16;  // bytes; converters align constants to this within the file

class Model {
 public:
  // Throws Refused for a file that is damaged, or that holds something that the engine cannot run.
  explicit Model(std::vector<uint8_t> file);
  // The same without a copy: the file must outlive the model, which reads the constants in place. Also throws Refused
  // if the file's address is not a multiple of kFileAlign.
  explicit Model(Bytes file);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // The graph's constants point into file(). Its inputs and outputs are in the file's order without repetitions; inputs
  // that no operator reads are left out.
  const Graph& graph() const { return graph_; }
  Bytes file() const { return file_; }
  // The file's own lists of inputs and outputs, as tensors of `graph()`.
  const std::vector<int>& inputs() const { return inputs_; }
  const std::vector<int>& outputs() const { return outputs_; }

 private:
  void Read();

  const std::vector<uint8_t> copy_;  // empty if the caller keeps the file
  const Bytes file_;
  Graph graph_;
  std::vector<int> inputs_, outputs_;
};

}  // namespace r2b
