// The compute graph of one step: every row through every layer once, each row with the adapter of its
// own slot. A graph depends only on how many rows and outputs there are, and is kept for the next
// step of that shape; what the rows are is read from `step_rows` while it runs.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "attention.h"
#include "batch.h"
#include "cpu/cpu-runner.h"
#include "kernels.h"
#include "kv-cache.h"
#include "lora-bank.h"
#include "model.h"
#include "step-runner.h"

struct ggml_cgraph;
struct ggml_gallocr;

namespace nozzle {

// What the custom operators read while a graph runs; rebuilt for every step.
struct step_rows {
    std::vector<lora_segment> segments;

    void assign(const batch & rows);
};

class graph_runner : public step_runner {
  public:
    ~graph_runner() override;
    status init(const model * base, const lora_bank * bank, kv_cache * kv, ggml_backend_t backend, int n_threads);

    status run(const batch & rows, const float ** logits) override;

  private:
    // Target modules that read the same input and so share one shrink.
    struct lora_group {
        int first;  // target_module
        int count;
    };
    // Where a custom operator finds its layer and group; lives as long as its graph.
    struct op_context {
        graph_runner * runner;
        int            layer;
        lora_group     group;
    };
    struct graph {
        ~graph();
        ggml_context * context   = nullptr; // owned
        ggml_gallocr * allocator = nullptr; // owned
        ggml_cgraph  * nodes     = nullptr; // in context
        ggml_tensor  * tokens    = nullptr; // I32 [n_rows]
        ggml_tensor  * positions = nullptr; // I32 [n_rows]
        ggml_tensor  * cells     = nullptr; // I64 [n_rows]
        ggml_tensor  * outputs   = nullptr; // I32 [n_outputs]
        ggml_tensor  * logits    = nullptr; // F32 [n_vocab, n_outputs]
        std::deque<op_context> ops;
    };
    using shape = std::tuple<int, int, bool>; // rows, outputs, any adapter

    graph *       find_graph(const shape & key);
    bool          build(graph & g, const shape & key);
    void          probe_rows(ggml_tensor * weight);
    ggml_tensor * multiply(graph & g, ggml_tensor * weight, ggml_tensor * x);
    ggml_tensor * build_layer(graph & g, ggml_tensor * x, int layer, bool has_lora, bool is_last_without_output);
    void          add_lora(graph & g, int layer, lora_group group, ggml_tensor * x, ggml_tensor ** y);
    void          set_inputs(graph & g, const batch & rows);

    static void op_shrink(ggml_tensor * dst, int ith, int nth, void * userdata);
    static void op_expand(ggml_tensor * dst, int ith, int nth, void * userdata);

    const model       * base    = nullptr;
    const lora_bank   * bank    = nullptr;
    kv_cache          * kv      = nullptr;
    ggml_backend_t      backend = nullptr;
    const kernel_set  * kernels = nullptr;
    std::map<std::tuple<int, int64_t, int64_t>, int> rows_min; // type, n_in, n_out -> rows it takes to be stable
    step_rows           current;
    attention           attend;
    std::vector<float>  logits_copy; // used where the backend's memory is not the host's
    std::map<shape, std::unique_ptr<graph>> kept;
    std::unique_ptr<graph> passing; // the last graph too large to keep
};

} // namespace nozzle
