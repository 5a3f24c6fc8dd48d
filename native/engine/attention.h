// Attention of a step's rows over their sequences' cells, on the CPU. A row's sum has one fixed order,
// whichever rows run beside it.
#pragma once

#include <vector>

#include "batch.h"
#include "kernels.h"
#include "kv-cache.h"
#include "model.h"

namespace nozzle {

class attention {
  public:
    void init(const model_dims * dims, const kv_cache * kv, int n_threads);

    // Before each step: what its tasks read while they run.
    void assign(const batch & rows);

    // Keys and values of a row into its cell: F32 [head_dim * n_head_kv] each, rounded to F16.
    void store(int layer, int row, const float * key, const float * value) const;

    // Tasks of one layer, which may run side by side once every row of the step is stored. Row i reads
    // q + i * q_stride, F32 [head_dim * n_head], and writes as much at out + i * out_stride.
    int  n_tasks() const { return (int) blocks.size() * dims->n_head_kv; }
    void run_task(int layer, int task, int worker, const float * q, int64_t q_stride, float * out, int64_t out_stride);

  private:
    // Up to QUERY_BLOCK_MAX / (heads per KV head) neighbouring rows of one sequence.
    struct block {
        int first_row;
        int n_rows;
    };

    const model_dims * dims    = nullptr;
    const kv_cache   * kv      = nullptr;
    const kernel_set * kernels = nullptr;
    const batch      * rows    = nullptr; // of the running step
    std::vector<block> blocks;            // of the running step
    std::vector<float> scores;            // [n_threads][QUERY_BLOCK_MAX][n_ctx], scratch
};

} // namespace nozzle
