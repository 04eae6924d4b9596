// Runs a program's steps in the threads of a team.
//
// Every thread runs every step and computes its share of the output rows (or of the channels, where rows are few). The
// threads meet at a barrier after each step, except between steps so small that one thread does them alone. A thread
// that has finished its share steals rows that another has not begun (work_sharing.h). Results equal those of one
// thread to the last bit, whichever thread computes which rows: sums.h explains how. If a step sums its values and its
// blocks of channels divide evenly among the threads, each thread begins with all rows of its own channels. It can then
// add most rows to the sums at once, and few have to be stored until later. planes.h explains how threads that share a
// row's channels pack bits.
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

// The time that a step has taken so far, in all runs that were profiled.
struct StepProfile {
  std::string description;
  double seconds;  // in thread 0, with its waits at barriers
  int64_t runs;
};

class Executor {
 public:
  // Divides the work among `threads` threads. Graph, program and memory must outlive all runs. Throws Refused if the
  // budget does not suffice.
  void Prepare(const Graph* graph, Program* program, const Memory* memory, const Kernels* kernels, Budget* budget,
               int threads);
  // Runs the program once. With `profile`, adds each step's time to its StepProfile. The pool must not have more
  // threads than were given to Prepare().
  void Run(ThreadPool* pool, bool profile);
  std::vector<StepProfile> Profile() const;

 private:
  // How a step is run.
  struct Task {
    Step* step;
    int splits = 1;      // how many shares a row's channels are cut into
    int turn = -1;       // its index among the steps that compute rows; -1: it computes none
    bool alone = false;  // one thread runs it; two such steps in succession need no barrier between them
    bool meet = false;   // whether a barrier follows it
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
  std::vector<int> turns_;  // indices of the tasks that compute rows
  std::vector<Sums> sums_;
  std::vector<Workspace> workspaces_;  // per thread
  WorkSharing sharing_[2];             // turn t uses sharing_[t % 2]
};

}  // namespace r2b
