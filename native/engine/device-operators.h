// LoRA and attention in ggml's own operators: the form of the graph for every device that is not the
// CPU, and on the CPU where a test asks for it. Nothing in it waits for the host or allocates while it
// runs, so that CUDA can capture a graph of it; native/README.md says what that rests on.
#pragma once

#include <cstdint>
#include <vector>

#include "batch.h"
#include "device-bank.h"
#include "kv-cache.h"
#include "model.h"

struct ggml_cgraph;

namespace nozzle {

class device_operators {
  public:
    // What a graph of this form reads beside the rows' tokens, positions and cells.
    struct inputs {
        ggml_tensor * slots = nullptr; // I32 [1, n_rows]
        // I32 [n_parts, n_rows] per group: where the parts of each row's A stand in the bank.
        ggml_tensor * parts[device_bank::GROUP_COUNT] = {};
        ggml_tensor * mask  = nullptr; // F16 [n_kv, n_rows]: 0 where a row may look, else -inf
    };

    // Fails with unsupported_architecture when the device lacks a kernel for the model's heads.
    status init(const model_dims * dims, const device_bank * bank, const kv_cache * kv, ggml_backend_t backend);

    // Cells that a step must look over, rounded up so that few graphs differ in it; at most cells_max().
    int64_t cells_of(const batch & rows) const;
    int64_t cells_max() const;

    // Products by id that a group's LoRA is cut into.
    static int64_t lora_parts(int64_t n_rows);

    inputs make_inputs(ggml_context * c, int n_rows, int64_t n_kv, bool has_lora) const;
    void   set_inputs(const inputs & in, const batch & rows);

    // y[t] becomes y[t] + B(A x), of every module of the group that begins with target `first`, each row with its own
    // slot. x: F32 [n_in, n_rows]; y[t]: F32 [n_out, n_rows], not yet read by any node of the graph.
    void add_lora(ggml_context * c, ggml_cgraph * graph, const inputs & in, int layer, int first, ggml_tensor * x,
                  ggml_tensor ** y) const;
    // F32 [head_dim * n_head, n_rows]. q: F32 [head_dim, n_head, n_rows].
    ggml_tensor * attend(ggml_context * c, const inputs & in, ggml_tensor * q, int layer) const;
    // A key or value on its way into a cell, never NaN or Inf: rows of other sequences multiply the cell
    // by 0, and that must give 0.
    ggml_tensor * finite(ggml_context * c, ggml_tensor * t) const;

  private:
    const model_dims  * dims = nullptr;
    const device_bank * bank = nullptr;
    const kv_cache    * kv   = nullptr;
    std::vector<uint16_t> mask; // F16, of the running step
};

} // namespace nozzle
