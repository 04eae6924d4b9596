/* Wraps r2b_engine_run() (linker option --wrap) in a function that allocates memory. The program must then fail. */
#include <stdlib.h>

#include "r2b.h"

int __real_r2b_engine_run(r2b_engine* engine, r2b_error* error);

int __wrap_r2b_engine_run(r2b_engine* engine, r2b_error* error) {
  void* volatile memory = malloc(24);
  free(memory);
  return __real_r2b_engine_run(engine, error);
}
