// Answers the CPUID instructions that hide_avx512.py replaced, as a processor without AVX-512, AMX and AVX-VNNI would.
//
// The numbers of the bits are in Intel's Software Developer's Manual, volume 2, CPUID, leaf 7.
#include <cpuid.h>
#include <signal.h>
#include <ucontext.h>

namespace {

constexpr unsigned bits() { return 0; }

template <class... More>
constexpr unsigned bits(int first, More... more) {
  return 1u << first | bits(more...);
}

constexpr unsigned kLeaf = 7;
// Subleaf 0: AVX512-F, DQ, IFMA, PF, ER, CD, BW and VL in EBX; VBMI, VBMI2, VNNI, BITALG and VPOPCNTDQ in ECX; 4VNNIW,
// 4FMAPS, VP2INTERSECT, AMX-BF16, AVX512-FP16, AMX-TILE and AMX-INT8 in EDX.
constexpr unsigned kB0 = bits(16, 17, 21, 26, 27, 28, 30, 31), kC0 = bits(1, 6, 11, 12, 14);
constexpr unsigned kD0 = bits(2, 3, 8, 22, 23, 24, 25);
// Subleaf 1: AVX-VNNI, AVX512-BF16, AMX-FP16 and AVX-IFMA in EAX; AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX,
// AVX-VNNI-INT16 and AVX10 in EDX.
constexpr unsigned kA1 = bits(4, 5, 21, 23), kD1 = bits(4, 5, 8, 10, 19);

void answer(int number, siginfo_t*, void* context) {
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto* instruction = reinterpret_cast<const unsigned char*>(registers[REG_RIP]);
  if (instruction[0] != 0x0f || instruction[1] != 0xff) {
    // Another illegal instruction runs again, and ends the program as it would without this handler.
    signal(number, SIG_DFL);
    return;
  }
  const auto leaf = static_cast<unsigned>(registers[REG_RAX]);
  const auto subleaf = static_cast<unsigned>(registers[REG_RCX]);
  unsigned a, b, c, d;
  __cpuid_count(leaf, subleaf, a, b, c, d);
  if (leaf == kLeaf && subleaf == 0) {
    b &= ~kB0;
    c &= ~kC0;
    d &= ~kD0;
  }
  if (leaf == kLeaf && subleaf == 1) {
    a &= ~kA1;
    d &= ~kD1;
  }
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) void install() {
  struct sigaction action = {};
  action.sa_sigaction = answer;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, nullptr);
}

}  // namespace
