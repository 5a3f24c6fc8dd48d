// Attention of a step's rows over their sequences' cells, on the CPU. A row's sum has one fixed order,
// whichever rows run beside it.
#pragma once

#include <vector>

#include "batch.h"
#include "kernels.h"
#include "kv-cache.h"
#include "model.h"

namespace nozzle {

// Neighbouring rows of one sequence.
struct row_group {
    int first_row;
    int n_rows;
};

class attention {
  public:
    void init(const model_dims * dims, const kv_cache * kv, int n_threads);

    // Before each step: what its tasks read while they run.
    void assign(const batch & rows);

    // Keys and values of a row into its cell: F32 [head_dim * n_head_kv] each, rounded to F16. Rows of
    // different groups may be stored side by side.
    const std::vector<row_group> & store_groups() const { return store_rows; }
    void store(int layer, int row, const float * key, const float * value) const;

    // Tasks of one layer, which may run side by side once every row of the step is stored. Row i reads
    // q + i * q_stride, F32 [head_dim * n_head], and writes as much at out + i * out_stride.
    int  n_tasks() const { return (int) blocks.size() * dims->n_head_kv; }
    const row_group & rows_of(int task) const { return blocks[task / dims->n_head_kv]; }
    void run_task(int layer, int task, int worker, const float * q, int64_t q_stride, float * out, int64_t out_stride);

  private:
    void split(int n_rows_max, std::vector<row_group> & out) const;

    const model_dims * dims    = nullptr;
    const kv_cache   * kv      = nullptr;
    const kernel_set * kernels = nullptr;
    const batch      * rows    = nullptr; // of the running step
    // Of the running step: queries that share K and V, at most QUERY_BLOCK_MAX with all heads of a KV
    // head; and rows whose keys share cache lines.
    std::vector<row_group> blocks, store_rows;
    int64_t            score_stride = 0;  // n_ctx rounded up to CELLS_MIN
    std::vector<float> scores;            // [n_threads][QUERY_BLOCK_MAX][score_stride], scratch
};

} // namespace nozzle
