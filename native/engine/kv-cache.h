// Attention state: a fixed stretch of cells per sequence, one cell per position. Invariant: cell p of
// a sequence holds position p of its present use, and `length` cells are filled.
#pragma once

#include <vector>

#include "model.h"
#include "status.h"

namespace nozzle {

class kv_cache {
  public:
    ~kv_cache();
    // Fails with out_of_memory.
    status allocate(const model_dims & dims, int n_sequences, int n_ctx, ggml_backend_t backend);

    // F16 [n_head_kv * head_dim, n_ctx * n_sequences]; cell p of sequence s is row s * n_ctx + p.
    ggml_tensor * k(int layer) const { return k_layers[layer]; }
    ggml_tensor * v(int layer) const { return v_layers[layer]; }

    // Row of k and v.
    int64_t cell(int sequence, int position) const { return (int64_t) sequence * ctx_length + position; }

    int n_ctx()       const { return ctx_length; }
    int n_sequences() const { return (int) lengths.size(); }
    int length(int sequence) const { return lengths[sequence]; }
    void set_length(int sequence, int length) { lengths[sequence] = length; }

  private:
    ggml_context              * context = nullptr; // tensor headers; owned
    ggml_backend_buffer       * buffer  = nullptr; // cells; owned
    std::vector<ggml_tensor *>  k_layers, v_layers;
    std::vector<int>            lengths; // filled cells per sequence
    int                         ctx_length = 0;
};

} // namespace nozzle
