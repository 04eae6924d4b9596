// How many threads the process may run at once.
#pragma once

#include <string>

namespace r2b {

constexpr int kMostThreads = 256;  // the largest team

// The number of cores that this thread may run on, limited by the CPU quota of the process's control group. At least 1.
int UsableCores();

// The size of a team for which `wanted` threads were requested: 1 to kMostThreads, and no more than there are usable
// cores. With more threads than cores, the running threads would wait at every step for threads without a core. An
// inference would then take hundreds of times as long as with one thread. R2B_RUNTIME_OVERSUBSCRIBE=1 in the
// environment allows more threads than usable cores, so that tests can look for races on small machines.
int TeamSize(int wanted);

// The number of cores, rounded up, that the quotas of a control group and of its ancestors allow; 0 if there is no
// quota. `membership` is the text of /proc/self/cgroup, `root` the directory where control groups are mounted.
int QuotaCores(const std::string& membership, const std::string& root);

}  // namespace r2b
