#include "executor.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "sharing.h"

namespace r2b {
namespace {
constexpr int64_t kSmallWork = 16384;  // in float products; see IsAlone()
constexpr double kUneven = 1.04;       // accepted time, relative to perfectly shared work

// True if one thread does the step alone. In a small step, threads would spend more time waiting for each other than
// they save. Finishing a sum is little work, and the rows that were kept apart must be added in their order.
bool IsAlone(const Step& step) {
  if (step.rows) return false;
  return step.finishes_sum() || step.flat->work() <= kSmallWork;
}

// Returns how many shares a row's channels are cut into.
int ChannelSplits(const Step& step, int threads) {
  const int rows = step.out.n * step.out.h, blocks = Blocks(step.out.c);
  if (step.rows->splits() == RowRoot::Splits::kNever) return 1;
  if (step.sums >= 0 && blocks % threads == 0) return threads;  // one thread should add all rows of a channel
  if (step.rows->splits() != RowRoot::Splits::kFreely) return 1;
  // If there are few rows, they may not divide evenly among the threads. Find the smallest number of shares per row
  // with which the work takes at most kUneven times as long as if it were shared perfectly.
  for (int s = 1; s < blocks; ++s)
    if (double((rows * s + threads - 1) / threads) * threads / (double(rows) * s) <= kUneven) return s;
  return std::max(blocks, 1);
}

}  // namespace

void Executor::Prepare(const Graph* graph, Program* program, const Memory* memory, const Kernels* kernels,
                       Budget* budget, int threads) {
  graph_ = graph;
  memory_ = memory;
  kernels_ = kernels;
  sums_ = std::vector<Sums>(size_t(program->sums));
  tasks_.clear();
  turns_.clear();
  WorkspaceSize most;
  size_t stages = 0;
  for (Step& step : program->steps) {
    stages = std::max({stages, step.stages.size(), step.source().stages.size()});
    tasks_.emplace_back();
    tasks_.back().step = &step;
    tasks_.back().alone = IsAlone(step);
    if (step.rows) PrepareRows(&tasks_.back(), budget, threads, &most);
  }
  for (size_t i = 0; i < tasks_.size(); ++i) tasks_[i].meet = Meets(i);
  for (WorkSharing& sharing : sharing_) sharing.Resize(threads);
  budget->TakeMemory(-1, Count(int64_t(most.lines)) * sizeof(void*) * threads, "the rows of windows, for each thread,");
  MakeWorkspaces(most, stages, threads);
}

void Executor::MakeWorkspaces(const WorkspaceSize& size, size_t stages, int threads) {
  workspaces_ = std::vector<Workspace>(size_t(threads));
  for (Workspace& workspace : workspaces_) {
    workspace.scratch.Assign(size.scratch);
    workspace.ring.Assign(size_t(size.ring.value()));
    workspace.lines.assign(size.lines, nullptr);
    workspace.stages.resize(stages);
    workspace.feeder_stages.resize(stages);
  }
}

// `most` is the workspace that the steps so far need; it grows if this step needs more.
void Executor::PrepareRows(Task* task, Budget* budget, int threads, WorkspaceSize* most) {
  Step& step = *task->step;
  task->turn = int(turns_.size());
  turns_.push_back(int(tasks_.size()) - 1);
  task->splits = ChannelSplits(step, threads);
  task->planes.Prepare(step, task->splits, budget);
  const WorkspaceSize size = step.rows->Lay(step, *memory_);
  const size_t more = size.scratch - std::min(size.scratch, most->scratch);
  budget->TakeMemory(step.op(), Count(int64_t(more)) * threads, "scratch memory for each thread");
  most->scratch += more;
  most->lines = std::max(most->lines, size.lines);
  if (size.ring > most->ring) {
    const Count added = size.ring.value() - most->ring.value();
    budget->TakeMemory(step.op(), added * threads, "the rows of its window, for each thread,");
    most->ring = size.ring;
  }
  if (step.sums < 0) return;
  task->sum_stage = step.FindStage(Stage::kSum);
  sums_[size_t(step.sums)].Prepare(step, task->splits, threads, budget);
}

// True if a barrier must follow the step.
bool Executor::Meets(size_t index) const {
  const Task& task = tasks_[index];
  if (index + 1 == tasks_.size()) return false;  // the pool has a barrier at the end
  if (!task.planes.used()) return !(task.alone && tasks_[index + 1].alone);
  // The barrier ensures that the planes are merged. If the next step finishes a sum, the barrier is needed only if that
  // step, or one of the one-thread steps directly after it, reads the merged bits.
  if (!tasks_[index + 1].step->finishes_sum()) return true;
  const int bits = task.planes.target(*task.step);
  for (size_t next = index + 1; next < tasks_.size() && tasks_[next].alone; ++next)
    for (int t : tasks_[next].step->Reads(*graph_))
      if (t == bits) return true;
  return false;
}

void Executor::Run(ThreadPool* pool, bool profile) {
  for (int thread = 0; thread < int(workspaces_.size()); ++thread) {
    // The pool may have fewer threads than workspaces.
    for (WorkSharing& sharing : sharing_) sharing.Assign(thread, 0, 0);
    if (thread < pool->size()) AssignRows(0, thread, pool->size());
  }
  const auto steps = [&](int thread) {
    for (Task& task : tasks_) RunTimed(&task, pool, thread, profile && thread == 0);
  };
  pool->Run(std::cref(steps));  // a copy of the lambda would allocate memory in every run
}

void Executor::RunTimed(Task* task, ThreadPool* pool, int thread, bool timed) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = timed ? Clock::now() : Clock::time_point();
  RunTask(*task, thread, pool->size());
  if (task->planes.used()) {
    pool->Barrier();
    const Step& step = *task->step;
    task->planes.Merge(step, *memory_, ShareOf(step.out.n * step.out.h, thread, pool->size()));
  }
  if (task->meet) pool->Barrier();
  if (!timed) return;
  task->seconds += std::chrono::duration<double>(Clock::now() - start).count();
  ++task->runs;
}

void Executor::RunTask(Task& task, int thread, int threads) {
  if (task.alone && thread != 0) return;
  const Step& step = *task.step;
  if (step.rows) {
    RunRows(task, thread);
    // The rows of the next turn must be assigned before other threads pass the barrier and look for rows to steal.
    AssignRows(size_t(task.turn) + 1, thread, threads);
  } else if (step.flat) {
    const int items = step.flat->items();
    const Range share = task.alone ? Range{0, items} : ShareOf(items, thread, threads);
    step.flat->Run({step, *memory_, kernels_, share.begin, share.end});
  } else {
    sums_[size_t(step.sums)].Finish(kernels_, memory_->At<float>(step.output));
  }
}

// Gives a thread its part of a step: rows, or shares of rows if their channels are split. `turn` is the step's index
// among the steps that compute rows.
void Executor::AssignRows(size_t turn, int thread, int threads) {
  if (turn >= turns_.size()) return;
  const Task& task = tasks_[turns_[turn]];
  const Range share = ShareOf(task.step->out.n * task.step->out.h * task.splits, thread, threads);
  sharing_[turn % 2].Assign(thread, share.begin, share.end);
}

// Computes rows until every row has been begun by some thread.
void Executor::RunRows(Task& task, int thread) {
  const Step& step = *task.step;
  const int rows = step.out.n * step.out.h;
  std::vector<Stage>& stages = workspaces_[thread].stages;
  WorkSharing& sharing = sharing_[task.turn % 2];
  int last = -1;    // the thread's previous item
  int summed = -1;  // the last item whose row the thread has added to a sum
  for (int item = sharing.Take(thread); item >= 0; last = item, item = sharing.Take(thread)) {
    const int row = item % rows, image = row / step.out.h, y = row % step.out.h, split = item / rows;
    const Range blocks = SplitBlocks(step.out.c, task.splits, split), channels = ChannelsOf(blocks, step.out.c);
    const bool follows = y > 0 && item == last + 1;
    if (follows) Memory::NextRow(step, &stages);
    else memory_->Resolve(step, image, y, &stages);
    if (task.planes.used()) task.planes.Point(step, blocks, row, &stages);
    if (step.sums >= 0 && (y == 0 || item == summed + 1)) {
      sums_[step.sums].Add(image, y, split, &stages[task.sum_stage]);
      summed = item;
    } else if (step.sums >= 0) {
      sums_[step.sums].KeepApart(image, y, &stages[task.sum_stage]);
    }
    step.rows->Run({step, *memory_, kernels_, &workspaces_[thread], image, y, channels.begin, channels.end, follows},
                   Epilogue(stages.data(), int(step.stages.size())));
  }
}

std::string Executor::Describe(const Task& task) const {
  const Step& step = *task.step;
  std::string text = step.name();
  text += " " + std::to_string(step.out.n) + "x" + std::to_string(step.out.h) + "x" + std::to_string(step.out.w) + "x" +
          std::to_string(step.out.c) + ":";
  if (step.feeder)
    for (int op : step.feeder->ops) text += std::string(" ") + OpName(graph_->ops[op].kind);
  for (int op : step.ops) text += std::string(" ") + OpName(graph_->ops[op].kind);
  if (task.alone && workspaces_.size() > 1) text += " (one thread)";
  return text;
}

std::vector<StepProfile> Executor::Profile() const {
  std::vector<StepProfile> profile;
  for (const Task& task : tasks_) profile.push_back({Describe(task), task.seconds, task.runs});
  return profile;
}

}  // namespace r2b
