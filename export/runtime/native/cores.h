// How many threads the process may run at once.
#pragma once

#include <string>

namespace r2b {

constexpr int kMostThreads = 256;  // of a team

// The cores that this thread may run on, and no more than the quota of the process' control group pays for. At least 1.
int UsableCores();

// The threads of a team for which `wanted` were asked: at most kMostThreads, and no more than there are cores to run
// them. Threads beyond wait for each other's cores at every step, which takes hundreds of times one thread's time.
// With R2B_RUNTIME_OVERSUBSCRIBE=1 in the environment, as many as wanted: tests look for races on small machines.
int TeamSize(int wanted);

// The whole cores, rounded up, that the quotas of a control group and of those above it allow; 0 where none limits.
// `membership` is the text of /proc/self/cgroup, `root` where control groups are mounted.
int QuotaCores(const std::string& membership, const std::string& root);

}  // namespace r2b
