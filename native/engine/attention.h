// Attention of a step's rows over their sequences' cells: a custom operator whose sum has one fixed
// order per row, whichever rows run beside it.
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

    // Before each step: what the operators of its graph read while they run.
    void assign(const batch & rows);

    // F32 [head_dim * n_head, n_rows]. q: F32 [head_dim, n_head, n_rows]; the layer's cells must have
    // taken the rows' keys and values by the time the node runs.
    ggml_tensor * build(ggml_context * context, ggml_tensor * q, int layer);

  private:
    // Up to QUERY_BLOCK_MAX / (heads per KV head) neighbouring rows of one sequence.
    struct block {
        int first_row;
        int n_rows;
    };

    static void op_attend(ggml_tensor * dst, int ith, int nth, void * userdata);

    const model_dims * dims    = nullptr;
    const kv_cache   * kv      = nullptr;
    const kernel_set * kernels = nullptr;
    const batch      * rows    = nullptr; // of the running step
    std::vector<block> blocks;            // of the running step
    std::vector<float> scores;            // [n_threads][QUERY_BLOCK_MAX][n_ctx], scratch
};

} // namespace nozzle
