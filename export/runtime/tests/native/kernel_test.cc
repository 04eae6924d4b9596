// Runs the tests of this folder with the kernels of every instruction set of this machine. Prints which kernels ran;
// kernels named as arguments must be among them.
#include <cstdio>
#include <string>

#include "checks.h"

using namespace r2b;

int main(int argc, char** argv) {
  std::string ran;
  TestWorkSharing();
  TestCores();
  for (const char* const* name = AvailableKernels(); *name; ++name) {
    const Kernels* kernels = SelectKernels(*name);
    TestLanes(kernels);
    TestBinaryPlans(kernels);
    TestFloatPlans(kernels);
    TestBytes(kernels);
    TestLayouts(kernels);
    TestConvolvers(kernels);
    TestResampling(kernels);
    ran += std::string(" ") + *name;
  }
  if (const Kernels* other = OtherKernels()) {
    TestBinaryPlans(other);
    ran += std::string(" other-") + other->name;
  }
  for (int i = 1; i < argc; ++i)
    Check(SelectKernels(argv[i]) != nullptr, std::string("these kernels do not run here: ") + argv[i]);
  Check(SelectKernels("no such kernels") == nullptr, "unknown kernels were accepted");
  std::printf("kernels:%s; %d checks, %d failures\n", ran.c_str(), checks, failures);
  return failures != 0;
}
