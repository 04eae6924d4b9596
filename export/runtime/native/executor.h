// Runs a program's steps in the threads of a team.
//
// All threads run all steps, each its share of the output rows (or of the channels, where rows are few), with a barrier
// between steps, except between those so small that one thread does them all. A thread that is done steals rows
// that another has not begun (work_sharing.h). Results are those of one thread to the last bit, whichever thread does
// which rows: sums.h says how. Where the blocks of channels divide among the threads, each thread begins with all rows
// of its own channels, so that little of a sum is kept apart; planes.h says how they pack bits then.
#pragma once

#include <string>
#include <vector>

#include "memory.h"
#include "planes.h"
#include "program.h"
#include "sums.h"
#include "thread_pool.h"
#include "work_sharing.h"

namespace r2b {

// What a step has taken so far.
struct StepProfile {
  std::string description;
  double seconds;
  int64_t runs;
};

class Executor {
 public:
  // Shares the work out among so many threads. Graph, program and memory must outlive the runs. Throws Refused for what
  // the budget does not have.
  void Prepare(const Graph* graph, Program* program, const Memory* memory, const Kernels* kernels, Budget* budget,
               int threads);
  // The pool may have fewer threads than were given to Prepare(), not more.
  void Run(ThreadPool* pool, bool profile);
  std::vector<StepProfile> Profile() const;

 private:
  // How a step is run.
  struct Task {
    Step* step;
    int splits = 1;      // shares of a row's channels
    int turn = -1;       // how many steps of rows come before it; -1: it is none
    bool alone = false;  // one thread does it; neighbours of the kind need no barrier between them
    bool meet = false;   // threads wait for each other after it
    int sum_stage = -1;  // the stage that adds to the step's sums
    Planes planes;
    double seconds = 0;  // accumulated when profiling
    int64_t runs = 0;
  };

  void PrepareRows(Task* task, Budget* budget, int threads, WorkspaceSize* most);
  void MakeWorkspaces(const WorkspaceSize& size, size_t stages, int threads);
  bool Meets(size_t index) const;
  std::string Describe(const Task& task) const;
  void AssignRows(size_t turn, int thread, int threads);
  void RunTask(Task& task, int thread, int threads);
  void RunRows(Task& task, int thread);
  void RunTimed(Task* task, ThreadPool* pool, int thread, bool timed);

  const Graph* graph_ = nullptr;
  const Memory* memory_ = nullptr;
  const Kernels* kernels_ = nullptr;
  std::vector<Task> tasks_;
  std::vector<int> turns_;  // tasks of rows
  std::vector<Sums> sums_;
  std::vector<Workspace> workspaces_;  // per thread
  WorkSharing sharing_[2];             // of this turn, and of the next
};

}  // namespace r2b
