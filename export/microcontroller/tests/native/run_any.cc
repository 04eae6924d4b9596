// Runs a model twice on the same values, which are in the flash (embedded.S). Prints each output as a line of
// hexadecimal words of four bytes. The model must have one input.
#include "board.h"
#include "heap.h"
#include "r2b.h"

extern "C" {

extern const uint8_t r2b_file_begin[], r2b_file_end[], r2b_images[];

}  // extern "C"

namespace {

r2b_error error;
alignas(16) uint8_t values[1 << 20];

void Require(bool done) {
  if (!done) board::Fail(error.text);
}

}  // namespace

int main() {
  r2b_model* const model = r2b_model_borrow(r2b_file_begin, size_t(r2b_file_end - r2b_file_begin), &error);
  Require(model != nullptr);
  r2b_engine* const engine = r2b_engine_create(model, nullptr, &error);
  Require(engine != nullptr);
  r2b_tensor tensor;
  Require(r2b_engine_input(engine, 0, &tensor, &error));
  heap::Forbid(true);
  for (int run = 0; run < 2; ++run) {
    Require(r2b_engine_set_input(engine, 0, r2b_images, tensor.bytes, &error));
    Require(r2b_engine_run(engine, &error));
  }
  for (int32_t i = 0; i < r2b_engine_outputs(engine); ++i) {
    Require(r2b_engine_output(engine, i, &tensor, &error));
    if (tensor.bytes > sizeof values) board::Fail("an output is too large for this program");
    Require(r2b_engine_get_output(engine, i, values, tensor.bytes, &error));
    for (size_t at = 0; at < tensor.bytes; at += sizeof(uint32_t))
      board::PrintHex(*reinterpret_cast<const uint32_t*>(values + at));
    board::Print("\n");
  }
  heap::Forbid(false);
  return 0;
}
