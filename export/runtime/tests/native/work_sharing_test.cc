// Tests work stealing: threads take over each other's items.
#include "work_sharing.h"

#include <atomic>

#include "checks.h"
#include "thread_pool.h"

namespace r2b {

// First calls Take() for two threads in a fixed order. Then real threads must do every item exactly once.
void TestWorkSharing() {
  WorkSharing sharing;
  sharing.Resize(2);
  sharing.Assign(0, 0, 10);
  sharing.Assign(1, 10, 12);
  std::vector<int> order;
  const auto take = [&](int thread) { order.push_back(sharing.Take(thread)); };
  take(0);
  for (int i = 0; i < 8; ++i) take(1);  // its own 10 and 11, 5 to 9 (upper half of 1 to 9), 3 (first of 3 to 4)
  take(0), take(0), take(0);
  Check(order == std::vector<int>{0, 10, 11, 5, 6, 7, 8, 9, 3, 1, 2, 4},
        "a thread without items takes the upper half of another's");
  take(0), take(1);
  Check(order[12] == -1 && order[13] == -1, "no items are left");

  for (int threads : {1, 3, 4})
    for (int round = 0; round < 20; ++round) {
      const int items = 1000;
      std::vector<std::atomic<int>> done(items);
      sharing.Resize(threads);
      for (int t = 0; t < threads; ++t)
        sharing.Assign(t, t == 0 ? 0 : items - 10 * (threads - t), items - 10 * (threads - 1 - t));
      ThreadPool(threads).Run([&](int thread) {
        for (int item = sharing.Take(thread); item >= 0; item = sharing.Take(thread)) ++done[item];
      });
      bool once = true;
      for (const auto& times : done) once &= times == 1;
      Check(once, "every item is done once");
    }
}

}  // namespace r2b
