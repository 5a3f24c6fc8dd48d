#include "thread-team.h"

#include <algorithm>
#include <climits>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace nozzle {

// Looks before sleeping. A stage is a few microseconds; between steps JavaScript plans the next one.
static constexpr int STAGE_SPINS = 4000;
static constexpr int IDLE_SPINS  = 20000;

static inline void relax() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

static void sleep_on(std::atomic<uint32_t> & word, uint32_t seen) {
#if defined(__linux__)
    syscall(SYS_futex, (uint32_t *) &word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
#else
    std::this_thread::yield();
#endif
}

static void wake_all(std::atomic<uint32_t> & word) {
#if defined(__linux__)
    syscall(SYS_futex, (uint32_t *) &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
#endif
}

thread_team::~thread_team() {
    is_stopping = true;
    generation.fetch_add(1);
    wake_all(generation);
    for (std::thread & t : threads) {
        t.join();
    }
}

void thread_team::start(int n_threads) {
    for (int worker = 1; worker < n_threads; ++worker) {
        threads.emplace_back([this, worker] { serve(worker); });
    }
}

void thread_team::serve(int worker) {
    uint32_t served = 0;
    while (true) {
        for (int i = 0; i < IDLE_SPINS && generation.load(std::memory_order_acquire) == served; ++i) {
            relax();
        }
        while (generation.load() == served) {
            idlers.fetch_add(1);
            sleep_on(generation, served);
            idlers.fetch_sub(1);
        }
        if (is_stopping) {
            return;
        }
        served = generation.load();
        const std::shared_ptr<job> mine = std::atomic_load(&current);
        if (mine) {
            work(*mine, worker);
        }
    }
}

// A job that no thread looks at any more.
std::shared_ptr<thread_team::job> thread_team::idle_job(size_t n_stages) {
    std::shared_ptr<job> found;
    for (const std::shared_ptr<job> & j : jobs) {
        if (j.use_count() == 1) {
            // Pairs with the release of the reference that another thread has dropped.
            std::atomic_thread_fence(std::memory_order_acquire);
            found = j;
            break;
        }
    }
    if (!found) {
        found = std::make_shared<job>();
        jobs.push_back(found);
    }
    if (found->capacity < n_stages) {
        found->progresses = std::make_unique<progress[]>(n_stages);
        found->capacity   = n_stages;
    }
    for (size_t s = 0; s < n_stages; ++s) {
        found->progresses[s].next.store(0, std::memory_order_relaxed);
        found->progresses[s].done.store(0, std::memory_order_relaxed);
    }
    return found;
}

void thread_team::run(const std::vector<stage> & stages, void * context) {
    const std::shared_ptr<job> mine = idle_job(stages.size());
    mine->stages  = stages;
    mine->context = context;
    if (!threads.empty()) {
        std::atomic_store(&current, mine);
        generation.fetch_add(1);
        if (idlers.load() > 0) {
            wake_all(generation);
        }
    }
    work(*mine, 0);
    if (!threads.empty()) {
        std::atomic_store(&current, std::shared_ptr<job>());
    }
}

void thread_team::work(job & j, int worker) {
    for (size_t s = 0; s < j.stages.size(); ++s) {
        const stage  & stage   = j.stages[s];
        const uint32_t n_tasks = (uint32_t) stage.n_tasks;
        progress     & p       = j.progresses[s];
        uint32_t finished = 0;
        while (p.next.load(std::memory_order_relaxed) < n_tasks) {
            const uint32_t task = p.next.fetch_add(1, std::memory_order_relaxed);
            if (task >= n_tasks) {
                break;
            }
            stage.run(j.context, stage.layer, (int) task, worker);
            finished++;
        }
        // Sequentially consistent against `sleepers`: the last one sees who sleeps, or they see `done`.
        if (finished > 0 && p.done.fetch_add(finished) + finished == n_tasks && p.sleepers.load() > 0) {
            wake_all(p.done);
        }
        finish_stage(p, n_tasks);
    }
}

void thread_team::finish_stage(progress & p, uint32_t n_tasks) {
    for (int i = 0; i < STAGE_SPINS; ++i) {
        if (p.done.load(std::memory_order_acquire) >= n_tasks) {
            return;
        }
        relax();
    }
    p.sleepers.fetch_add(1);
    for (uint32_t seen = p.done.load(); seen < n_tasks; seen = p.done.load()) {
        sleep_on(p.done, seen);
    }
    p.sleepers.fetch_sub(1);
}

void thread_team::for_each(int n, const std::function<void(int)> & task) {
    const auto call = [](void * f, int, int index, int) { (*(const std::function<void(int)> *) f)(index); };
    run({ { call, 0, n } }, (void *) &task);
}

} // namespace nozzle
