// Threads that take over each other's items.
#include "work_sharing.h"

#include <atomic>

#include "checks.h"
#include "thread_pool.h"

namespace r2b {

// Every item is done once, whatever the order; of its own, a thread does the first ones.
void TestWorkSharing() {
  WorkSharing sharing;
  sharing.Resize(2);
  sharing.Assign(0, 0, 10);
  sharing.Assign(1, 10, 12);
  std::vector<int> order;
  std::vector<bool> own;
  const auto take = [&](int thread) {
    const WorkSharing::Item item = sharing.Take(thread);
    order.push_back(item.index);
    own.push_back(item.own);
  };
  take(0);
  for (int i = 0; i < 8; ++i) take(1);  // its two; of 1 to 9, the upper half; of 1 to 4, again
  take(0), take(0), take(0);
  Check(order == std::vector<int>{0, 10, 11, 5, 6, 7, 8, 9, 3, 1, 2, 4}, "who is done takes the upper half");
  Check(own == std::vector<bool>{true, true, true, false, false, false, false, false, false, true, true, false},
        "whose items they were");
  take(0), take(1);
  Check(order[12] == -1 && order[13] == -1, "no items are left");
  Check(sharing.Kept(0) == 3 && sharing.Kept(1) == 12, "the first ones of their own are kept");

  for (int threads : {1, 3, 4})
    for (int round = 0; round < 20; ++round) {
      const int items = 1000;
      std::vector<std::atomic<int>> done(items);
      std::vector<int> last(threads, -1);
      sharing.Resize(threads);
      for (int t = 0; t < threads; ++t)
        sharing.Assign(t, t == 0 ? 0 : items - 10 * (threads - t), items - 10 * (threads - 1 - t));
      ThreadPool(threads).Run([&](int thread) {
        for (WorkSharing::Item item = sharing.Take(thread); item.index >= 0; item = sharing.Take(thread)) {
          ++done[item.index];
          if (item.own) last[thread] = item.index;
        }
      });
      bool once = true;
      for (const auto& times : done) once &= times == 1;
      Check(once, "every item is done once");
      for (int t = 0; t < threads; ++t)
        Check(last[t] < 0 || last[t] + 1 == sharing.Kept(t), "what was kept has no gap");
    }
}

}  // namespace r2b
