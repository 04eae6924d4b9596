/* Counts the calls in this program and in the library that allocate or free memory. Its arguments are MODEL KERNELS
 * THREADS. Prints two numbers of calls: those while the model is opened and an engine is created, and those during the
 * next RUNS inferences together. The functions below replace those of the C library in all threads. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "r2b.h"

enum { RUNS = 20 };

static atomic_long count;

/* glibc's own functions, by their internal names. */
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

void* malloc(size_t size) {
  ++count;
  return __libc_malloc(size);
}

void* calloc(size_t number, size_t size) {
  ++count;
  return __libc_calloc(number, size);
}

void* realloc(void* memory, size_t size) {
  ++count;
  return __libc_realloc(memory, size);
}

void* memalign(size_t align, size_t size) {
  ++count;
  return __libc_memalign(align, size);
}

void* aligned_alloc(size_t align, size_t size) { return memalign(align, size); }

int posix_memalign(void** memory, size_t align, size_t size) {
  *memory = memalign(align, size);
  return *memory ? 0 : ENOMEM;
}

void free(void* memory) {
  ++count;
  __libc_free(memory);
}

static int fail(const char* sentence) {
  fprintf(stderr, "%s\n", sentence);
  return 1;
}

int main(int argc, char** argv) {
  r2b_error error;
  r2b_options options;
  r2b_model* model;
  r2b_engine* engine;
  long before, loaded, ran;
  int run;
  if (argc != 4) return fail("usage: allocations_host MODEL KERNELS THREADS");
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.kernels = argv[2];
  options.num_threads = atoi(argv[3]);
  options.profile = 1;
  before = count;
  model = r2b_model_open(argv[1], &error);
  engine = model ? r2b_engine_create(model, &options, &error) : NULL;
  if (!engine) return fail(error.text);
  loaded = count;
  for (run = 0; run < RUNS; ++run)
    if (!r2b_engine_run(engine, &error)) return fail(error.text);
  ran = count;
  printf("%ld %ld\n", loaded - before, ran - loaded);
  r2b_engine_free(engine);
  r2b_model_free(model);
  return 0;
}
