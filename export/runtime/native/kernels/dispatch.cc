// Which kernels run: built into this library AND supported by this processor and operating system.
#include <cstring>
#include <initializer_list>

#include "kernels.h"

#if defined(__aarch64__) || defined(__arm__)
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

namespace r2b {
namespace {

bool CpuHas(const Kernels* kernels) {
  if (!kernels) return false;
#if defined(__x86_64__) || defined(__i386__)
  // These builtins also ask the operating system (XGETBV) whether it saves the wide registers.
  __builtin_cpu_init();
  if (kernels == Avx512Kernels())
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vpopcntdq");
  if (kernels == Avx2Kernels()) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(__arm__) && defined(__linux__)
  constexpr unsigned long kHwcapNeon = 1u << 12;
  if (kernels == NeonKernels()) return getauxval(AT_HWCAP) & kHwcapNeon;
#endif
  return true;
}

struct Registry {
  const Kernels* kernels[5] = {};
  const char* names[5] = {};
  int count = 0;
  Registry() {
    for (const Kernels* candidate : {Avx512Kernels(), Avx2Kernels(), NeonKernels(), PortableKernels()})
      if (CpuHas(candidate)) {
        kernels[count] = candidate;
        names[count++] = candidate->name;
      }
  }
};

const Registry& Available() {
  static const Registry registry;
  return registry;
}

}  // namespace

const char* const* AvailableKernels() { return Available().names; }

const Kernels* SelectKernels(const char* name) {
  const Registry& registry = Available();
  if (!name || !*name || !std::strcmp(name, "auto")) return registry.kernels[0];
  for (int i = 0; i < registry.count; ++i)
    if (!std::strcmp(name, registry.names[i])) return registry.kernels[i];
  return nullptr;
}

}  // namespace r2b
