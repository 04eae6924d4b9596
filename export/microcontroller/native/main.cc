// Classifies images with a model; both are in the flash (embedded.S). Prints a line for each image: its label, the
// label's probability, and the bits of all probabilities. Fails if memory is allocated or freed during an inference, or
// if memory that is allocated to prepare an image is not freed again.
#include "board.h"
#include "heap.h"
#include "r2b.h"

extern "C" {

// From embedded.S: the model's file; the images, one after the other; and their shape (count, height, width, channels).
extern const uint8_t r2b_file_begin[], r2b_file_end[], r2b_images[];
extern const int32_t r2b_images_shape[4];

}  // extern "C"

namespace {

constexpr int kMostClasses = 1000;
float values[kMostClasses];
r2b_error error;

void Show(int image, const r2b_model* model, int classes) {
  int best = 0;
  for (int c = 1; c < classes; ++c)
    if (values[c] > values[best]) best = c;
  board::Print("image ");
  board::Print(image);
  board::Print(": ");
  board::Print(r2b_model_label(model, best, nullptr));
  board::Print(", ");
  board::Print(int64_t(values[best] * 100 + 0.5f));
  board::Print(" %");
  for (int c = 0; c < classes; ++c) {
    uint32_t bits;
    __builtin_memcpy(&bits, &values[c], sizeof bits);
    board::Print(" ");
    board::PrintHex(bits);
  }
  board::Print("\n");
}

void ShowSize(const char* what, size_t bytes) {
  board::Print(what);
  board::Print(int64_t(bytes));
  board::Print(" bytes\n");
}

bool Classify(int image, const r2b_model* model, r2b_engine* engine, int classes) {
  const int32_t height = r2b_images_shape[1], width = r2b_images_shape[2], channels = r2b_images_shape[3];
  const r2b_image given{r2b_images + ptrdiff_t(image) * height * width * channels, height, width, channels, 0};
  if (!r2b_engine_set_image(engine, 0, &given, &error)) return false;
  heap::Forbid(true);
  const bool ran = r2b_engine_run(engine, &error) && r2b_engine_get_values(engine, 0, values, size_t(classes), &error);
  heap::Forbid(false);
  if (ran) Show(image, model, classes);
  return ran;
}

}  // namespace

int main() {
  r2b_model* const model = r2b_model_borrow(r2b_file_begin, size_t(r2b_file_end - r2b_file_begin), &error);
  if (!model) board::Fail(error.text);
  ShowSize("model: ", heap::Bytes());
  r2b_engine* const engine = r2b_engine_create(model, nullptr, &error);
  if (!engine || !r2b_engine_check_classifier(engine, &error)) board::Fail(error.text);
  const int classes = r2b_model_labels(model, &error);
  if (classes > kMostClasses) board::Fail("the model has more classes than main.cc has room for: raise kMostClasses");
  const size_t loaded = heap::Bytes();
  ShowSize("loaded: ", loaded);
  ShowSize("at most while loading: ", heap::MostBytes());
  ShowSize("as the engine counts: ", size_t(r2b_engine_memory(engine, &error)));
  size_t reached = 0;
  for (int image = 0; image < r2b_images_shape[0]; ++image) {
    if (!Classify(image, model, engine, classes)) board::Fail(error.text);
    if (image == 0) reached = board::HeapReached();
    if (board::HeapReached() != reached || heap::Bytes() != loaded) board::Fail("the heap grew from image to image");
  }
  r2b_engine_free(engine);
  r2b_model_free(model);
  ShowSize("heap: ", board::HeapReached());
  ShowSize("stack: ", board::StackReached());
  ShowSize("left behind: ", heap::Bytes());
  return 0;
}
