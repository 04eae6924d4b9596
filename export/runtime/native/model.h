// A `.tflite` file as a Graph, without an interpreter: the file's tables are laid out as TensorFlow Lite's structures,
// and read by the same code as those of an interpreter (import.h), so that both run the same operators by the same
// rules.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "flatbuffer.h"
#include "graph.h"

namespace r2b {

constexpr size_t kFileAlign = 16;  // as converters align constants within the file

class Model {
 public:
  // Throws Refused for a file that is damaged, or that holds something that the engine cannot run.
  explicit Model(std::vector<uint8_t> file);
  // The file stays where it is, for longer than the model: its constants are read there. It must begin at a multiple
  // of kFileAlign.
  explicit Model(Bytes file);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // Its constants stay in this object. Inputs and outputs are in the file's order, each once, and without inputs that
  // no operator reads.
  const Graph& graph() const { return graph_; }
  Bytes file() const { return file_; }
  // Tensors of `graph()`: the file's inputs and outputs.
  const std::vector<int>& inputs() const { return inputs_; }
  const std::vector<int>& outputs() const { return outputs_; }

 private:
  void Read();

  const std::vector<uint8_t> copy_;  // empty: somebody else has the file
  const Bytes file_;
  Graph graph_;
  std::vector<int> inputs_, outputs_;
};

}  // namespace r2b
