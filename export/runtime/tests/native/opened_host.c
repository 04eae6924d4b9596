/* The program of host.c, except that it opens the library with dlopen(), as Python does. Its arguments are LIBRARY
 * MODEL. */
#include <dlfcn.h>
#include <stdio.h>

#include "r2b.h"

static void* library;

/* The function of this name in the library. */
#define R2B_OPENED(name) ((__typeof__(&name))dlsym(library, #name))
#define r2b_abi_version R2B_OPENED(r2b_abi_version)
#define r2b_model_open R2B_OPENED(r2b_model_open)
#define r2b_model_free R2B_OPENED(r2b_model_free)
#define r2b_engine_create R2B_OPENED(r2b_engine_create)
#define r2b_engine_free R2B_OPENED(r2b_engine_free)
#define r2b_engine_input R2B_OPENED(r2b_engine_input)
#define r2b_engine_output R2B_OPENED(r2b_engine_output)
#define r2b_engine_set_input R2B_OPENED(r2b_engine_set_input)
#define r2b_engine_get_output R2B_OPENED(r2b_engine_get_output)
#define r2b_engine_run R2B_OPENED(r2b_engine_run)
#define main run_host
#include "host.c"
#undef main

int main(int argc, char** argv) {
  if (argc < 2) return fail("usage: opened_host LIBRARY MODEL");
  library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) return fail(dlerror());
  return run_host(argc - 1, argv + 1);
}
