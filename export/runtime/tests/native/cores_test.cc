// Tests QuotaCores, UsableCores and TeamSize.
#include "cores.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "checks.h"

namespace r2b {
namespace {

std::string Folder(const std::string& path) {
  mkdir(path.c_str(), 0700);
  return path;
}
void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

}  // namespace

void TestCores() {
  char name[] = "/tmp/r2b-cores-XXXXXX";
  if (!mkdtemp(name)) return Check(false, "cores: a temporary folder");
  const std::string root = name, outer = Folder(root + "/outer"), inner = Folder(outer + "/inner");
  const std::string member = "12:pids:/outer\n0::/outer/inner\n";
  const auto expect = [&](int cores, const std::string& text, const std::string& what) {
    const int found = QuotaCores(text, root);
    Check(found == cores, "cores: " + what + ": " + std::to_string(found));
  };
  expect(0, member, "no quota");
  Write(inner + "/cpu.max", "max 100000\n");
  expect(0, member, "a quota without a limit");
  Write(outer + "/cpu.max", "150000 100000\n");
  expect(2, member, "one and a half cores, of the group above");
  Write(inner + "/cpu.max", "50000 100000\n");
  expect(1, member, "the group's own quota");
  expect(0, "3:cpu:/outer\n", "no group of cgroup v2");
  Write(inner + "/cpu.max", "nonsense\n");
  expect(2, member, "a malformed cpu.max");
  const std::string cpu = Folder(root + "/cpu");
  Write(cpu + "/cpu.cfs_period_us", "100000\n");
  Write(cpu + "/cpu.cfs_quota_us", "-1\n");
  expect(2, member, "a quota of cgroup v1 without a limit");
  Write(cpu + "/cpu.cfs_quota_us", "100000\n");
  expect(1, member, "a quota of cgroup v1");
  for (const std::string& path : {inner + "/cpu.max", outer + "/cpu.max", cpu + "/cpu.cfs_period_us",
                                  cpu + "/cpu.cfs_quota_us", inner, outer, cpu, root})
    std::remove(path.c_str());

  Check(UsableCores() >= 1, "cores: at least one");
  unsetenv("R2B_RUNTIME_OVERSUBSCRIBE");
  Check(TeamSize(-5) == 1, "cores: a team of less than one");
  Check(TeamSize(1 << 30) == std::min(UsableCores(), kMostThreads), "cores: a team of more than there are");
  setenv("R2B_RUNTIME_OVERSUBSCRIBE", "1", 1);
  Check(TeamSize(7) == 7, "cores: a team as large as wanted");
  Check(TeamSize(1 << 30) == kMostThreads, "cores: the largest team");
  unsetenv("R2B_RUNTIME_OVERSUBSCRIBE");
}

}  // namespace r2b
