/* A program in C that runs a model as the example in r2b.h does. Its argument is MODEL, a file. It reads the bytes of
 * the first input from standard input, and writes the bytes of the first output to standard output. */
#include <stdio.h>
#include <stdlib.h>

#include "r2b.h"

static int fail(const char* sentence) {
  fprintf(stderr, "%s\n", sentence);
  return 1;
}

int main(int argc, char** argv) {
  r2b_error error;
  r2b_tensor input, output;
  r2b_model* model;
  r2b_engine* engine;
  void *values, *results;
  if (argc != 2) return fail("usage: host MODEL");
  if (r2b_abi_version() != R2B_ABI_VERSION) return fail("the library and the header have different ABI versions");
  model = r2b_model_open(argv[1], &error);
  if (!model) return fail(error.text);
  engine = r2b_engine_create(model, NULL, &error);
  if (!engine || !r2b_engine_input(engine, 0, &input, &error) || !r2b_engine_output(engine, 0, &output, &error))
    return fail(error.text);
  values = malloc(input.bytes);
  results = malloc(output.bytes);
  if (!values || !results || fread(values, 1, input.bytes, stdin) != input.bytes)
    return fail("out of memory, or standard input has too few bytes");
  if (!r2b_engine_set_input(engine, 0, values, input.bytes, &error) || !r2b_engine_run(engine, &error) ||
      !r2b_engine_get_output(engine, 0, results, output.bytes, &error))
    return fail(error.text);
  fwrite(results, 1, output.bytes, stdout);
  free(values);
  free(results);
  r2b_engine_free(engine);
  r2b_model_free(model);
  return 0;
}
