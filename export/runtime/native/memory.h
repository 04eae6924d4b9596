// The memory of a program's tensors.
//
// Tensors inside a step are never stored. Most others share one arena (arena.cc). Tensors with disjoint lifetimes may
// use the same part of it, and the sum of a value and a shortcut may overwrite the shortcut. The inputs of padded float
// and binary convolutions get a border ("halo") of zeros, or of zero bits, around each image, so that convolutions need
// not test for edges (padding.cc). Nothing may overwrite the border, so each of these tensors has its own buffer.
//
// Two special layouts are for float images that have no border, are neither inputs nor outputs, and are read and
// written only in whole blocks of 32 channels (blocks.cc). In the first, each pixel starts at the beginning of a cache
// line. It is used for pixels that are longer than a cache line (PixelStride()).
//
// In the second, an image is stored in rows of blocks (see kernels.h). It is used with several threads, if the image
// has several blocks of channels, all of them full. Threads that share a row's channels then work in separate runs of
// memory, and their cores do not prefetch each other's cache lines. (One thread is a little faster with the channels of
// a pixel side by side.)
//
// Memory owns the buffers of all stored tensors except inputs, outputs and constants. (TensorFlow Lite's interpreter
// allocates nothing for tensors inside a delegated partition.)
#pragma once

#include <vector>

#include "aligned_buffer.h"
#include "program.h"

namespace r2b {

// Where a tensor lies in memory. Strides are in bytes. The tensor is contiguous unless it has a border, rows of blocks,
// or pixels that start at the beginning of a cache line.
struct Storage {
  uint8_t* base = nullptr;  // first element of the first image
  ptrdiff_t pixel = 0, row = 0, image = 0;
  ptrdiff_t gap = 0;      // between blocks of channels (see kernels.h)
  bool external = false;  // bound by the caller for each run
  bool written = false;   // by a step
  Border border;
  int padded_for = -1;  // index of an operator that needs the border, for messages
  int alias = -1;       // the tensor whose memory it shares; -1: it has its own
  size_t offset = 0, bytes = 0;
};

class Memory {
 public:
  // Gives every tensor its place. For tensors that cannot have the border that a convolution needs, inserts steps that
  // make padded copies. Throws Refused if the budget does not suffice.
  void Prepare(Graph* graph, Program* program, Budget* budget, int threads);
  // Sets where an input or output lies.
  void Bind(int tensor, void* data) { storage_[tensor].base = static_cast<uint8_t*>(data); }

  const Storage& operator[](int tensor) const { return storage_[tensor]; }
  template <class T>
  T* At(int tensor) const {
    return reinterpret_cast<T*>(storage_[tensor].base);
  }
  // Fills in a stage for row `y` of an image of outputs. Sums sets the pointers to sums.
  void Resolve(const Step& step, const StagePlan& plan, int image, int y, Stage* stage) const;
  // The same for all stages of the step; `stages` must have at least as many elements as step.stages.
  void Resolve(const Step& step, int image, int y, std::vector<Stage>* stages) const;
  // Moves the stages from one row of an image to the next, which is faster than Resolve(). The pointers that Planes and
  // Sums set must then be set again.
  static void NextRow(const Step& step, std::vector<Stage>* stages);

 private:
  void PlaceTensors(const Graph& graph, Budget* budget);
  void PlaceOuter(const Graph& graph, Budget* budget);
  void SetBases(const Graph& graph, size_t arena_bytes);

  std::vector<Storage> storage_;
  AlignedBuffer arena_;
  std::vector<AlignedBuffer> halos_;
};

// Gives inputs of padded convolutions their border: on the tensor itself if its producer and all its readers can work
// with strides, else on a copy that an additional step makes.
void PadInputs(Graph* graph, Program* program, std::vector<Storage>* storage);

// Chooses the layout of tensors that steps read and write only in whole blocks of channels: rows of blocks, or pixels
// that start at the beginning of a cache line.
void LayOutPixels(const Graph& graph, const Program& program, int threads, std::vector<Storage>* storage);

// Gives tensors that exist between steps their offsets in the arena. Returns the arena's size in bytes.
size_t LayOutArena(const Graph& graph, const Program& program, std::vector<Storage>* storage, Budget* budget);

}  // namespace r2b
