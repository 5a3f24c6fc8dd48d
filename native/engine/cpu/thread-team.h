// The CPU's threads. A step on it is a line of stages, each a number of tasks; a stage begins when every task
// of the one before is done. Tasks are taken, not dealt out, and a stage waits for tasks, not for
// threads: one that its core leaves to a neighbour costs only the task it holds. Who waits spins for
// some microseconds and then sleeps, so that its core can go to whoever holds the task.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace nozzle {

class thread_team {
  public:
    // Runs task `index` of a stage on thread `worker` (0 = the caller of run).
    using task_fn = void (*)(void * context, int layer, int index, int worker);
    struct stage {
        task_fn run;
        int     layer;   // handed to `run`
        int     n_tasks; // 0 = nothing to do
    };

    ~thread_team();
    void start(int n_threads); // n_threads >= 1, the caller of run included
    int  n_threads() const { return (int) threads.size() + 1; }

    // Runs all stages in order; every effect of their tasks is visible when it returns. One at a time.
    void run(const std::vector<stage> & stages, void * context);
    // One stage: task(i) for i in [0, n).
    void for_each(int n, const std::function<void(int)> & task);

  private:
    struct alignas(64) progress {
        std::atomic<uint32_t> next{ 0 };    // tasks taken
        std::atomic<uint32_t> done{ 0 };    // tasks finished; slept on
        std::atomic<uint32_t> sleepers{ 0 };
    };
    // Kept alive by every thread that still looks at it: a late one finds all tasks taken.
    struct job {
        std::vector<stage>          stages;
        std::unique_ptr<progress[]> progresses; // [capacity]
        size_t                      capacity = 0;
        void                      * context  = nullptr;
    };

    static void work(job & j, int worker);
    static void finish_stage(progress & p, uint32_t n_tasks);
    std::shared_ptr<job> idle_job(size_t n_stages);
    void serve(int worker);

    std::vector<std::thread>          threads;
    std::vector<std::shared_ptr<job>> jobs; // for reuse
    std::shared_ptr<job>              current;          // accessed by std::atomic_load and atomic_store alone
    std::atomic<uint32_t>             generation{ 0 };  // grows with every job; slept on
    std::atomic<uint32_t>             idlers{ 0 };      // threads asleep on `generation`
    std::atomic<bool>                 is_stopping{ false };
};

} // namespace nozzle
