/* Loads the Android library into a program that uses another C library, musl; runs a model, provokes errors, and calls
 * the library in a second thread.
 *
 *     host LIBRARY MODEL INPUT KERNELS THREADS
 *
 * The file INPUT holds the values of the model's only input. Prints, a line each: the kernels that run here; the
 * output's bytes for INPUT, in hexadecimal; the output's bytes for an image; the first label; the errors for a damaged
 * file, a missing file and a freed engine.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "r2b.h"

/* Android's C library has this function, and musl lacks it. */
int* __errno(void) { return &errno; }
/* The library has its own function of this name, and must not call that of the system. */
void* __emutls_get_address(void* variable) {
  fprintf(stderr, "the library asks the system for a thread-local variable: %p\n", variable);
  abort();
}

static void* library;

static void* found(const char* name) {
  void* function = dlsym(library, name);
  if (!function) {
    fprintf(stderr, "%s\n", dlerror());
    exit(1);
  }
  return function;
}
/* The library's function `name`, with the type that r2b.h declares. */
#define FUNCTION(name) ((__typeof__(&name))found(#name))

static void* read_file(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  if (!file) {
    perror(path);
    exit(1);
  }
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  void* bytes = malloc(*size + 1);
  if (fread(bytes, 1, *size, file) != *size) exit(1);
  fclose(file);
  return bytes;
}

static void fail(const r2b_error* error) {
  fprintf(stderr, "%s\n", error->text);
  exit(1);
}

/* r2b_kernels() returns a text that belongs to the calling thread. `other` is the first thread's text. Returns a
 * non-NULL pointer if this thread's text has another address and the same words. */
static void* kernels_of_a_thread(void* other) {
  const char* text = FUNCTION(r2b_kernels)();
  return text != other && !strcmp(text, other) ? "another text of the same words" : NULL;
}

static void print_output(r2b_engine* engine) {
  r2b_error error;
  r2b_tensor output;
  if (!FUNCTION(r2b_engine_run)(engine, &error) || !FUNCTION(r2b_engine_output)(engine, 0, &output, &error))
    fail(&error);
  unsigned char* values = malloc(output.bytes);
  if (!FUNCTION(r2b_engine_get_output)(engine, 0, values, output.bytes, &error)) fail(&error);
  for (size_t i = 0; i < output.bytes; ++i) printf("%02x", values[i]);
  printf("\n");
  free(values);
}

/* 30 rows of 20 grey pixels. */
static void set_image(r2b_engine* engine) {
  uint8_t pixels[30 * 20];
  for (int i = 0; i < 30 * 20; ++i) pixels[i] = (uint8_t)(i * i / 7);
  const r2b_image image = {pixels, 30, 20, 1, 0};
  r2b_error error;
  if (!FUNCTION(r2b_engine_set_image)(engine, 0, &image, &error)) fail(&error);
}

static void print_refusals(r2b_engine* freed, const void* file, size_t bytes) {
  r2b_error error = {""};
  if (FUNCTION(r2b_model_load)(file, bytes / 2, &error)) exit(1);
  printf("%s\n", error.text);
  if (FUNCTION(r2b_model_open)("/nowhere", &error)) exit(1);
  printf("%s\n", error.text);
  if (FUNCTION(r2b_engine_run)(freed, &error)) exit(1);
  printf("%s\n", error.text);
}

int main(int count, char** arguments) {
  if (count != 6) return 2;
  library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  const char* kernels = FUNCTION(r2b_kernels)();
  printf("%s\n", kernels);
  pthread_t thread;
  void* same = NULL;
  pthread_create(&thread, NULL, kernels_of_a_thread, (void*)kernels);
  pthread_join(thread, &same);
  if (!same) return 1;

  r2b_error error;
  size_t model_bytes, input_bytes;
  void* file = read_file(arguments[2], &model_bytes);
  void* input = read_file(arguments[3], &input_bytes);
  r2b_model* model = FUNCTION(r2b_model_load)(file, model_bytes, &error);
  if (!model) fail(&error);
  r2b_options options = {sizeof options};
  options.kernels = arguments[4];
  options.num_threads = atoi(arguments[5]);
  r2b_engine* engine = FUNCTION(r2b_engine_create)(model, &options, &error);
  if (!engine || !FUNCTION(r2b_engine_set_input)(engine, 0, input, input_bytes, &error)) fail(&error);
  print_output(engine);
  set_image(engine);
  print_output(engine);
  printf("%s\n", FUNCTION(r2b_model_label)(model, 0, &error));
  FUNCTION(r2b_model_free)(model);
  FUNCTION(r2b_engine_free)(engine);
  print_refusals(engine, file, model_bytes);
  return 0;
}
