// One step on the CPU without a graph: the layers' stages run one after the other on a thread team,
// every row with the adapter of its own slot. Needs the base model mapped into memory.
//
//   per layer   norm · shrink, expand, multiply q,k,v · rope, store · attend · round ·
//               shrink, expand, multiply o (+ residual) · norm ·
//               shrink, expand, multiply gate,up (SwiGLU) · round ·
//               shrink, expand, multiply down (+ residual)
//
// Every number of a row is summed in an order that depends on the row alone.
#pragma once

#include <memory>
#include <vector>

#include "../attention.h"
#include "../batch.h"
#include "../kernels.h"
#include "../lora-bank.h"
#include "../model.h"
#include "../rope.h"
#include "../step-runner.h"
#include "packed-matrix.h"
#include "thread-team.h"

namespace nozzle {

// Rows of one step that use the same slot.
struct lora_segment {
    int              slot;
    std::vector<int> rows;
};

class cpu_runner : public step_runner {
  public:
    // `base` has its tensors' data in memory. Fails with out_of_memory or backend_failed.
    status init(const model * base, const lora_bank * bank, kv_cache * kv, cpu_traits_fn traits, int n_threads,
                int n_rows_max);

    // Bytes of a base's weights as it keeps them, what stays in the mapped file included.
    static size_t weight_bytes(const model & base);

    status run(const batch & rows, step_logits & logits) override;
    void   for_each(int n, const std::function<void(int)> & task) override;

  private:
    // Target modules that read the same rows, so that they share a shrink.
    struct module_group {
        int first; // target_module
        int count;
    };
    static constexpr module_group QKV     = { TARGET_ATTN_Q, 3 };
    static constexpr module_group OUTPUT  = { TARGET_ATTN_OUTPUT, 1 };
    static constexpr module_group GATE_UP = { TARGET_FFN_GATE, 2 };
    static constexpr module_group DOWN    = { TARGET_FFN_DOWN, 1 };

    // logits_summary of one task's outputs.
    struct logits_part {
        float   top;
        int32_t best;
        bool    is_finite;
    };
    struct layer_weights {
        packed_matrix linear[TARGET_COUNT];
    };
    // Outputs [first, first + count) of one target.
    struct columns {
        int target;
        int first;
        int count;
    };

    void allocate(int n_rows_max, cpu_traits_fn traits);
    void plan(const batch & rows);
    void plan_layer(int layer);
    // A task over one module of one adapter: its piece number `index`.
    struct module_piece {
        const lora_segment * segment;
        const lora_view    * view;
        int                  target;
        int                  index;
    };
    using pieces_fn = int (cpu_runner::*)(const lora_view & view, int target) const;
    int  shrink_pieces(const lora_view & view, int target) const;
    int  expand_pieces(const lora_view & view, int target) const;
    int  count_pieces(int layer, module_group group, pieces_fn pieces) const;
    module_piece find_piece(int layer, module_group group, pieces_fn pieces, int task) const;

    bool is_wanted(int layer, int row) const;
    void norm(int row, const ggml_tensor * weight, int index, activation_rows & out) const;
    // y[row] = weights · x (+ bias) + adapters, for a range of outputs of one target.
    void multiply(int layer, const columns & part, const activation_rows & x, float * y, int64_t stride);
    void multiply_into_residual(int layer, const columns & part, const activation_rows & x);
    template <class F> void for_row_blocks(const std::vector<int> & rows, F f);
    void shrink(int layer, int task, module_group group, const activation_rows & x);
    void expand(int layer, int task, module_group group);
    float * h_of(int row, int module);
    float * delta_of(int row, int target);
    int     group_offset(int target) const;
    void rotate(int row, float * head, const ggml_tensor * norm) const;
    columns column_task(module_group group, int task) const;

    // One stage each; see thread_team::task_fn.
    static void embed(void * self, int layer, int row, int worker);
    static void norm_attention(void * self, int layer, int row, int worker);
    static void shrink_qkv(void * self, int layer, int task, int worker);
    static void expand_qkv(void * self, int layer, int task, int worker);
    static void multiply_qkv(void * self, int layer, int task, int worker);
    static void store_cells(void * self, int layer, int task, int worker);
    static void attend(void * self, int layer, int task, int worker);
    static void round_attention(void * self, int layer, int row, int worker);
    static void shrink_output(void * self, int layer, int task, int worker);
    static void expand_output(void * self, int layer, int task, int worker);
    static void multiply_output(void * self, int layer, int task, int worker);
    static void norm_ffn(void * self, int layer, int row, int worker);
    static void shrink_gate_up(void * self, int layer, int task, int worker);
    static void expand_gate_up(void * self, int layer, int task, int worker);
    static void multiply_gate_up(void * self, int layer, int task, int worker);
    static void round_ffn(void * self, int layer, int row, int worker);
    static void shrink_down(void * self, int layer, int task, int worker);
    static void expand_down(void * self, int layer, int task, int worker);
    static void multiply_down(void * self, int layer, int task, int worker);
    static void norm_final(void * self, int layer, int index, int worker);
    static void multiply_logits(void * self, int layer, int task, int worker);
    static void summarise(void * self, int layer, int index, int worker);

    const model      * base    = nullptr;
    const lora_bank  * bank    = nullptr;
    const kernel_set * kernels = nullptr;
    thread_team        team;
    attention          attending;
    host_arena         weights;
    std::vector<layer_weights> layers;
    packed_matrix      output;
    rope_table         rope;
    int width_qkv    = 0; // n_head and n_head_kv twice, times head_dim
    int width_deltas = 0; // outputs of the widest group
    int expand_columns = 0; // of the running step

    // Of the running step; each [n_rows_max * width].
    std::unique_ptr<float[]> x;         // residual stream, width n_embd
    std::unique_ptr<float[]> qkv;       // width_qkv: q, k, v
    std::unique_ptr<float[]> projected; // n_embd: o or down before it joins the residual
    std::unique_ptr<float[]> up;        // n_ff
    std::unique_ptr<float[]> shrunk;    // 3 * rank_max: h of the group's modules
    std::unique_ptr<float[]> deltas;    // width_deltas: what adapters add to the group's outputs
    std::unique_ptr<float[]> angles;    // head_dim: cosines, then sines
    activation_rows normed, attended, gated, final_rows;
    std::vector<float> logits;          // [n_outputs][n_vocab]
    std::vector<logits_part>    logit_parts; // [n_outputs][tasks over the vocabulary]
    std::vector<logits_summary> summaries;   // [n_outputs]
    const batch * rows = nullptr;
    std::vector<int>          output_rows;
    std::vector<uint8_t>      wanted_blocks; // blocks of rows with an output among them
    std::vector<lora_segment> segments;
    std::vector<thread_team::stage> stages;
};

} // namespace nozzle
