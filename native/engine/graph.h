// The compute graph of one step in ggml's own operators, for every device but the CPU (which has an
// executor of its own, cpu/): every row through every layer once, each row with the adapter of its own
// slot. A graph depends only on how many rows, outputs and cells there are, and is kept for the next step
// of that shape; what the rows are is read from its inputs. All graphs share one buffer, since one runs at
// a time: their addresses stay what they are, as the device's own capture of a graph demands.
#pragma once

#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "batch.h"
#include "cpu/thread-team.h"
#include "device-operators.h"
#include "device.h"
#include "kv-cache.h"
#include "model.h"
#include "step-runner.h"

struct ggml_backend_buffer;
struct ggml_cgraph;
struct ggml_gallocr;

namespace nozzle {

class graph_runner : public step_runner {
  public:
    ~graph_runner() override;
    // Fails with unsupported_architecture where the device lacks an operator, and with out_of_memory.
    // The host's threads draw tokens; the device does the rest.
    status init(const model * base, const device_bank * bank, kv_cache * kv, const device & on, int n_threads, int n_rows_max);

    status run(const batch & rows, step_logits & logits) override;
    void for_each(int n, const std::function<void(int)> & task) override { team.for_each(n, task); }

    // Memory for what a step computes on its way, taken at init for the largest step.
    size_t workspace_bytes() const;
    // The same foretold from the model alone, not less.
    static size_t workspace_bytes_max(const model_dims & dims, int n_rows_max, int64_t n_cells, int rank_max);

  private:
    struct graph {
        ~graph();
        ggml_context * context   = nullptr; // owned
        ggml_cgraph  * nodes     = nullptr; // in context
        ggml_tensor  * tokens    = nullptr; // I32 [n_rows]
        ggml_tensor  * positions = nullptr; // I32 [n_rows]
        ggml_tensor  * cells     = nullptr; // I64 [n_rows]
        ggml_tensor  * outputs   = nullptr; // I32 [n_outputs]
        ggml_tensor  * logits    = nullptr; // F32 [n_vocab, n_outputs]
        device_operators::inputs device;
    };
    using shape = std::tuple<int, int, bool, int64_t>; // rows, outputs, any adapter, cells

    graph *       find_graph(const shape & key);
    bool          build(graph & g, const shape & key);
    ggml_tensor * build_layer(graph & g, ggml_tensor * x, int layer, bool has_lora, bool is_last_without_output);
    void          set_inputs(graph & g, const batch & rows);
    float *       logits_memory(size_t n_bytes);

    const model       * base    = nullptr;
    kv_cache          * kv      = nullptr;
    ggml_backend_t      backend = nullptr;
    device_operators    operators;
    ggml_gallocr      * workspace = nullptr; // owned
    const device      * on        = nullptr;
    ggml_backend_buffer * logits_copy = nullptr; // the host's, used where the backend's memory is not; owned
    thread_team         team;
    std::map<shape, std::unique_ptr<graph>> kept;
    std::unique_ptr<graph> passing; // the last graph too large to keep
};

} // namespace nozzle
