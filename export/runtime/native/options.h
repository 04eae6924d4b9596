// The delegate's options, which load_delegate() of r2b_runtime passes on.
#pragma once

#include <string>

#include "kernels/kernels.h"
#include "limits.h"

namespace r2b {

struct Options {
  std::string kernels_name;  // empty or "auto": the best
  const Kernels* kernels = nullptr;
  int threads = 0;          // 0: as many as the interpreter recommends
  bool claim_float = true;  // false: run only Larq Compute Engine's operators
  bool profile = false;
  Limits limits;
};

// The kernels of that name, or the best if it is empty or "auto". Null, with the reason in `*error`, if they do not run
// here.
const Kernels* FindKernels(const std::string& name, std::string* error);

// Reads `count` names and values; a null pointer stands for an empty text. R2B_RUNTIME_KERNELS in the environment is
// the default of the option `kernels`. False, with the reason in `*error`, if an option is unknown, a value is invalid,
// or the kernels do not run here.
bool ParseOptions(Options* options, char** names, char** values, size_t count, std::string* error);

}  // namespace r2b
