// The memory of a program's tensors.
//
// Tensors inside a step never exist. The others share one arena by lifetime; a sum may overwrite its shortcut
// (arena.cc). Inputs of padded convolutions get a border ("halo") of zero bits or zeros around each image, so that
// convolutions never test for edges; since nothing may overwrite the border such tensors do not share memory
// (padding.cc).
//
// For several threads, a tensor of several blocks of channels lies in rows of blocks where nobody outside sees it and
// all who use it can: threads that share a row's channels then work in separate runs of memory, and their cores do not
// fetch each other's lines ahead. (One thread finds the pixels' channels side by side a little faster.) The memory owns
// all of it: an interpreter allocates nothing for tensors inside a delegated partition.
#pragma once

#include <vector>

#include "program.h"

namespace r2b {

constexpr size_t kAlign = 64;   // a cache line
constexpr size_t kSlack = 256;  // vectors may be read whole at the end of a buffer

inline uint8_t* Aligned(std::vector<uint8_t>& buffer) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(buffer.data());
  return buffer.data() + (kAlign - at % kAlign) % kAlign;
}

// Where a tensor lives. Strides are in bytes; contiguous unless the tensor has a border or rows of blocks.
struct Storage {
  uint8_t* base = nullptr;  // first element of the first image
  ptrdiff_t pixel = 0, row = 0, image = 0;
  ptrdiff_t gap = 0;      // between blocks of channels (see kernels.h)
  bool external = false;  // bound by the caller for each run
  bool written = false;   // by a step
  Border border;
  int padded_for = -1;  // an operator that wants the border
  int alias = -1;       // lives in this tensor's memory
  size_t offset = 0, bytes = 0;
};

class Memory {
 public:
  // Inserts steps that pad, where tensors cannot have the borders that convolutions want, and gives every tensor its
  // place. Throws Refused for what the budget does not have.
  void Prepare(Graph* graph, Program* program, Budget* budget, int threads);
  // Sets where an input or output lies.
  void Bind(int tensor, void* data) { storage_[tensor].base = static_cast<uint8_t*>(data); }

  const Storage& operator[](int tensor) const { return storage_[tensor]; }
  template <class T>
  T* At(int tensor) const {
    return reinterpret_cast<T*>(storage_[tensor].base);
  }
  // Fills in a stage's pointers for one row of outputs, but for those to sums, which are the executor's.
  void Resolve(const Step& step, const StagePlan& plan, int image, int y, Stage* stage) const;
  // The same for all stages of the step; `stages` has room for those of every step.
  Epilogue Resolve(const Step& step, int image, int y, std::vector<Stage>* stages) const;

 private:
  void PlaceTensors(const Graph& graph, Budget* budget);
  void PlaceOuter(const Graph& graph, Budget* budget);
  void SetBases(const Graph& graph, size_t arena_bytes);

  std::vector<Storage> storage_;
  std::vector<uint8_t> arena_;
  std::vector<std::vector<uint8_t>> halos_;
};

// Gives inputs of padded convolutions their border: on the tensor itself where its producer and all its readers can
// work with strides, else on a copy made by a step of its own.
void PadInputs(Graph* graph, Program* program, std::vector<Storage>* storage);

// Finds the tensors that steps read and write only in whole blocks of channels, and puts the blocks apart.
void LayInBlocks(const Graph& graph, const Program& program, std::vector<Storage>* storage);

// Gives tensors that exist between steps their offsets in one arena; returns its size.
size_t LayOutArena(const Graph& graph, const Program& program, std::vector<Storage>* storage, Budget* budget);

}  // namespace r2b
