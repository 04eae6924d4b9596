#include "cores.h"

#if defined(R2B_SINGLE_THREAD)

namespace r2b {
int UsableCores() { return 1; }
int TeamSize(int) { return 1; }
}  // namespace r2b

#else

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace r2b {
namespace {

std::string FileText(const std::string& path) {
  std::string text;
  if (FILE* file = std::fopen(path.c_str(), "r")) {
    char part[256];
    while (const size_t count = std::fread(part, 1, sizeof part, file)) text.append(part, count);
    std::fclose(file);
  }
  return text;
}

// The number of cores, rounded up, that a CPU quota allows. Quota and period are in microseconds. The quotas "max" and
// "-1" limit nothing; the number is then 0.
int WholeCores(const char* quota, const char* period) {
  const double most = std::strtod(quota, nullptr), of = std::strtod(period, nullptr);
  return most > 0 && of > 0 ? int(std::min(std::ceil(most / of), 1e6)) : 0;
}

// The smaller of two limits, where 0 means no limit.
int Fewer(int a, int b) { return a && b ? std::min(a, b) : std::max(a, b); }

#if defined(__linux__)
int AffinityCores() {
  // The set must be at least as large as the operating system's, whose size is not known in advance.
  for (int most = 1024; most <= 1 << 20; most *= 4) {
    cpu_set_t* set = CPU_ALLOC(size_t(most));
    if (!set) return 0;
    const size_t bytes = CPU_ALLOC_SIZE(size_t(most));
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    const int count = known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (known) return count;
  }
  return 0;
}
int GroupCores() {
  static const int cores = QuotaCores(FileText("/proc/self/cgroup"), "/sys/fs/cgroup");
  return cores;
}
#else
int AffinityCores() { return 0; }
int GroupCores() { return 0; }
#endif

}  // namespace

int QuotaCores(const std::string& membership, const std::string& root) {
  // Version 1 of control groups: a container's own group is mounted at the root.
  int cores =
      WholeCores(FileText(root + "/cpu/cpu.cfs_quota_us").c_str(), FileText(root + "/cpu/cpu.cfs_period_us").c_str());
  // Version 2: `membership` has the line "0::/group". The group and each of its ancestors may have a quota.
  const size_t at = membership.find("0::/");
  if (at != 0 && (at == std::string::npos || membership[at - 1] != '\n')) return cores;
  std::string group = membership.substr(at + 3, membership.find('\n', at) - at - 3);
  for (;;) {
    while (!group.empty() && group.back() == '/') group.pop_back();
    const std::string text = FileText(root + group + "/cpu.max");
    const size_t space = text.find(' ');
    if (space != std::string::npos) cores = Fewer(cores, WholeCores(text.c_str(), text.c_str() + space));
    if (group.empty()) return cores;
    group.erase(group.rfind('/'));
  }
}

int UsableCores() {
  int cores = AffinityCores();
  if (cores < 1) cores = int(std::thread::hardware_concurrency());
  return std::max(Fewer(cores, GroupCores()), 1);
}

int TeamSize(int wanted) {
  wanted = std::clamp(wanted, 1, kMostThreads);
  const char* oversubscribe = std::getenv("R2B_RUNTIME_OVERSUBSCRIBE");
  if (wanted == 1 || (oversubscribe && !std::strcmp(oversubscribe, "1"))) return wanted;
  return std::min(wanted, UsableCores());
}

}  // namespace r2b

#endif
