// Runs the tests of checks.h with all kernels that this machine can run, and prints the kernels' names. Kernels named
// as arguments must be among them.
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
