// Finds the kernels that run here: those that are built into this library and whose instructions both the processor and
// the operating system support.
#include <cstring>
#include <initializer_list>

#include "kernels.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif
#if defined(__aarch64__) || defined(__arm__)
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

namespace r2b {
namespace {

#if defined(__x86_64__) || defined(__i386__)
// The instruction sets that both the processor and the operating system support. XCR0 tells which wide registers the
// operating system saves. __builtin_cpu_supports is not used, because with zig's runtime library it returns 0 for every
// instruction set.
struct X86 {
  bool avx2 = false, avx512 = false;
  bool starts_much_logic = false;  // can start four logic instructions per cycle; see Adder::kXor (avx512.cc)
  X86() {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    starts_much_logic = IsAmd() && Family(a) >= 0x1a;  // Zen 5 and later
    constexpr unsigned kFma = 1u << 12, kOsxsave = 1u << 27;
    if (!(c & kOsxsave)) return;
    const bool fma = c & kFma;
    unsigned xcr0, high;
    __asm__("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    constexpr unsigned kYmm = 0x06, kZmm = 0xe6;  // SSE and AVX state; the same and three AVX-512 states
    constexpr unsigned kAvx2 = 1u << 5, kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31;
    constexpr unsigned kVnni = 1u << 11, kVpopcntdq = 1u << 14;
    avx2 = (xcr0 & kYmm) == kYmm && (b & kAvx2) && fma;
    avx512 = avx2 && (xcr0 & kZmm) == kZmm && (b & kF) && (b & kDq) && (b & kBw) && (b & kVl) && (c & kVpopcntdq) &&
             (c & kVnni);
  }

 private:
  static bool IsAmd() {
    unsigned most, b, c, d;
    __cpuid(0, most, b, c, d);
    const unsigned vendor[] = {b, d, c};
    return !std::memcmp(vendor, "AuthenticAMD", sizeof vendor);
  }
  static unsigned Family(unsigned signature) {
    const unsigned family = signature >> 8 & 0xf;
    return family == 0xf ? family + (signature >> 20 & 0xff) : family;
  }
};
#endif

bool CpuHas(const Kernels* kernels) {
  if (!kernels) return false;
#if defined(__x86_64__) || defined(__i386__)
  const X86 cpu;
  if (kernels == Avx512Kernels() || kernels == Avx512XorKernels()) return cpu.avx512;
  if (kernels == Avx2Kernels()) return cpu.avx2;
#elif defined(__arm__) && defined(__linux__)
  constexpr unsigned long kHwcapNeon = 1u << 12;
  if (kernels == NeonKernels()) return getauxval(AT_HWCAP) & kHwcapNeon;
#elif defined(__aarch64__) && defined(__linux__)
  constexpr unsigned long kHwcapDotProduct = 1u << 20;
  if (kernels == NeonDotKernels()) return getauxval(AT_HWCAP) & kHwcapDotProduct;
#endif
  return true;
}

// Two tables of kernels have the name "avx512". Returns whether the second (Adder::kXor) is faster on this processor.
bool TakesSecond() {
#if defined(__x86_64__) || defined(__i386__)
  return X86().starts_much_logic;
#else
  return false;
#endif
}
const Kernels* BestAvx512Kernels() { return TakesSecond() ? Avx512XorKernels() : Avx512Kernels(); }

// A WebAssembly build has a single set of kernels, so that the file to download is small. A machine that does not
// support their instructions cannot load the file.
#if defined(R2B_BUILD_WASM)
const std::initializer_list<const Kernels* (*)()> kBuilt = {WasmKernels};
#else
const std::initializer_list<const Kernels* (*)()> kBuilt = {BestAvx512Kernels, Avx2Kernels, NeonDotKernels, NeonKernels,
                                                            PortableKernels};
#endif

struct Registry {
  const Kernels* kernels[6] = {};
  const char* names[6] = {};
  int count = 0;
  Registry() {
    for (const auto& built : kBuilt)
      if (const Kernels* candidate = built(); CpuHas(candidate)) {
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

#if defined(R2B_BUILD_WASM)
const Kernels* OtherKernels() { return nullptr; }
#else
const Kernels* OtherKernels() {
  const Kernels* other = TakesSecond() ? Avx512Kernels() : Avx512XorKernels();
  return CpuHas(other) ? other : nullptr;
}
#endif

const Kernels* SelectKernels(const char* name) {
  const Registry& registry = Available();
  if (!name || !*name || !std::strcmp(name, "auto")) return registry.kernels[0];
  for (int i = 0; i < registry.count; ++i)
    if (!std::strcmp(name, registry.names[i])) return registry.kernels[i];
  return nullptr;
}

}  // namespace r2b
