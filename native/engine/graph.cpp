#include "graph.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

#include <algorithm>

namespace nozzle {

// Decode batches come back every step and are kept; prompts rarely repeat a shape.
static constexpr int    KEPT_ROWS_MAX   = 64;
static constexpr size_t KEPT_GRAPHS_MAX = 128;
static constexpr int    NODES_PER_LAYER = 64;
static constexpr int    NODES_PER_LORA_PART = 80;

graph_runner::graph::~graph() {
    if (context) {
        ggml_free(context);
    }
}

graph_runner::~graph_runner() {
    if (workspace) {
        ggml_gallocr_free(workspace);
    }
    if (logits_copy) {
        ggml_backend_buffer_free(logits_copy);
    }
}

status graph_runner::init(const model * m, const device_bank * bank, kv_cache * cache, const device & where, int n_threads,
                          int n_rows_max) {
    base    = m;
    kv      = cache;
    on      = &where;
    backend = where.backend();
    team.start(n_threads);
    const status result = operators.init(&m->dims, bank, cache, backend);
    if (!result.ok()) {
        return result;
    }
    // The largest step first, so that the buffer never moves again.
    workspace = ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend));
    graph largest;
    if (!workspace || !build(largest, { n_rows_max, n_rows_max, true, operators.cells_max() })) {
        return status::failure(ERR_OUT_OF_MEMORY, "no memory for steps of " + std::to_string(n_rows_max) + " rows");
    }
    return status::success();
}

size_t graph_runner::workspace_bytes() const { return ggml_gallocr_get_buffer_size(workspace, 0); }

size_t graph_runner::workspace_bytes_max(const model_dims & dims, int n_rows_max, int64_t n_cells, int rank_max) {
    int64_t widest = 0, values = dims.n_vocab;
    for (int target = 0; target < TARGET_COUNT; ++target) {
        widest = std::max<int64_t>(widest, dims.target_n_out(target));
        values += 2 * dims.target_n_out(target);
    }
    int64_t widest_lora = 0; // ranks of a group's parts, before and after they are turned for their sum
    for (int i = 0; i < device_bank::GROUP_COUNT; ++i) {
        const device_group g = device_bank::group_of(i, dims, rank_max);
        widest_lora = std::max(widest_lora, 2 * g.width * g.n_parts);
    }
    values += widest + widest_lora + 6 * (int64_t) dims.n_embd + 256;
    return (size_t) n_rows_max * (values * sizeof(float) + n_cells * sizeof(uint16_t)) + (1u << 20);
}

ggml_tensor * graph_runner::build_layer(graph & g, ggml_tensor * x, int il, bool has_lora, bool is_last_without_output) {
    const model_dims  & dims  = base->dims;
    const model_layer & layer = base->layers[il];
    ggml_context * c = g.context;
    const int64_t n_rows = x->ne[1];

    // y[t] of `count` targets from `first` on.
    const auto linear = [&](int first, int count, ggml_tensor * in, ggml_tensor ** y) {
        for (int t = 0; t < count; ++t) {
            y[t] = ggml_mul_mat(c, layer.linear[first + t], in);
            ggml_build_forward_expand(g.nodes, y[t]);
        }
        if (has_lora) {
            operators.add_lora(c, g.nodes, g.device, il, first, in, y);
        }
        for (int t = 0; t < count; ++t) {
            if (ggml_tensor * bias = layer.bias[first + t]) {
                y[t] = ggml_add(c, y[t], bias);
            }
        }
    };
    // Heads of q or k: normalised where the architecture does, then rotated.
    const auto rotated = [&](ggml_tensor * t, int64_t n_heads, ggml_tensor * norm) {
        const rope_params & r = dims.rope;
        t = ggml_reshape_3d(c, t, dims.head_dim, n_heads, n_rows);
        if (norm) {
            t = ggml_mul(c, ggml_rms_norm(c, t, dims.rms_epsilon), norm);
        }
        return ggml_rope_ext(c, t, g.positions, base->rope_freqs, dims.head_dim, r.mode, r.n_ctx_origin, r.base, r.scale,
                             r.ext_factor, r.attn_factor, r.beta_fast, r.beta_slow);
    };

    ggml_tensor * normed = ggml_mul(c, ggml_rms_norm(c, x, dims.rms_epsilon), layer.attn_norm); // F32 [n_embd, n_rows]
    ggml_tensor * qkv[3];
    linear(TARGET_ATTN_Q, 3, normed, qkv);
    ggml_tensor * q = rotated(qkv[0], dims.n_head, layer.attn_q_norm);    // F32 [head_dim, n_head, n_rows]
    ggml_tensor * k = rotated(qkv[1], dims.n_head_kv, layer.attn_k_norm); // F32 [head_dim, n_head_kv, n_rows]
    k = ggml_reshape_2d(c, k, (int64_t) dims.head_dim * dims.n_head_kv, n_rows);
    k = operators.finite(c, k);
    ggml_tensor * v = operators.finite(c, qkv[2]);
    ggml_build_forward_expand(g.nodes, ggml_set_rows(c, kv->k(il), k, g.cells));
    ggml_build_forward_expand(g.nodes, ggml_set_rows(c, kv->v(il), v, g.cells));
    if (is_last_without_output) {
        return nullptr;
    }
    ggml_tensor * mixed = operators.attend(c, g.device, q, il); // F32 [head_dim * n_head, n_rows]
    ggml_tensor * out[1];
    linear(TARGET_ATTN_OUTPUT, 1, mixed, out);
    x = ggml_add(c, out[0], x); // in this order ggml-cuda adds adapters' part and x in one kernel

    normed = ggml_mul(c, ggml_rms_norm(c, x, dims.rms_epsilon), layer.ffn_norm);
    ggml_tensor * gate_up[2];
    linear(TARGET_FFN_GATE, 2, normed, gate_up);
    ggml_tensor * gated = ggml_swiglu_split(c, gate_up[0], gate_up[1]); // F32 [n_ff, n_rows]
    linear(TARGET_FFN_DOWN, 1, gated, out);
    return ggml_add(c, out[0], x);
}

bool graph_runner::build(graph & g, const shape & key) {
    const auto [n_rows, n_outputs, has_lora, n_kv] = key;
    const model_dims & dims = base->dims;
    const int parts = has_lora ? (int) device_operators::lora_parts(n_rows) : 0;
    const size_t n_nodes = (size_t) (NODES_PER_LAYER + NODES_PER_LORA_PART * parts) * dims.n_layer + 32;
    const ggml_init_params params = {
        ggml_tensor_overhead() * n_nodes + ggml_graph_overhead_custom(n_nodes, false), nullptr, /*no_alloc*/ true,
    };
    g.context = ggml_init(params);
    if (!g.context) {
        return false;
    }
    g.nodes     = ggml_new_graph_custom(g.context, n_nodes, false);
    g.tokens    = ggml_new_tensor_1d(g.context, GGML_TYPE_I32, n_rows);
    g.positions = ggml_new_tensor_1d(g.context, GGML_TYPE_I32, n_rows);
    g.cells     = ggml_new_tensor_1d(g.context, GGML_TYPE_I64, n_rows);
    for (ggml_tensor * input : { g.tokens, g.positions, g.cells }) {
        ggml_set_input(input);
    }
    g.device = operators.make_inputs(g.context, n_rows, n_kv, has_lora);
    ggml_tensor * x = ggml_get_rows(g.context, base->token_embd, g.tokens); // F32 [n_embd, n_rows]
    for (int il = 0; il < dims.n_layer; ++il) {
        x = build_layer(g, x, il, has_lora, n_outputs == 0 && il == dims.n_layer - 1);
    }
    if (n_outputs > 0) {
        g.outputs = ggml_new_tensor_1d(g.context, GGML_TYPE_I32, n_outputs);
        ggml_set_input(g.outputs);
        x = ggml_get_rows(g.context, x, g.outputs);
        x = ggml_mul(g.context, ggml_rms_norm(g.context, x, dims.rms_epsilon), base->output_norm);
        g.logits = ggml_mul_mat(g.context, base->output, x);
        if (base->output_bias) {
            g.logits = ggml_add(g.context, g.logits, base->output_bias);
        }
        ggml_set_output(g.logits);
        ggml_build_forward_expand(g.nodes, g.logits);
    }
    const size_t before = workspace_bytes();
    const bool is_done = ggml_gallocr_alloc_graph(workspace, g.nodes);
    if (workspace_bytes() != before) {
        kept.clear(); // they point into the buffer that was
    }
    return is_done;
}

graph_runner::graph * graph_runner::find_graph(const shape & key) {
    const auto found = kept.find(key);
    if (found != kept.end()) {
        return found->second.get();
    }
    auto built = std::make_unique<graph>();
    if (!build(*built, key)) {
        return nullptr;
    }
    if (std::get<0>(key) > KEPT_ROWS_MAX) {
        passing = std::move(built);
        return passing.get();
    }
    if (kept.size() >= KEPT_GRAPHS_MAX) {
        kept.clear();
    }
    return (kept[key] = std::move(built)).get();
}

void graph_runner::set_inputs(graph & g, const batch & rows) {
    std::vector<int64_t> cells;
    std::vector<int32_t> outputs;
    for (int i = 0; i < rows.n_rows(); ++i) {
        cells.push_back(kv->cell(rows.sequences[i], rows.positions[i]));
        if (rows.outputs[i]) {
            outputs.push_back(i);
        }
    }
    const auto set = [](ggml_tensor * t, const void * data) {
        // An input that no node reads (tokens' rows all feed one, but outputs may be absent) has no buffer.
        if (t && t->buffer) {
            ggml_backend_tensor_set(t, data, 0, ggml_nbytes(t));
        }
    };
    set(g.tokens, rows.tokens.data());
    set(g.positions, rows.positions.data());
    set(g.cells, cells.data());
    set(g.outputs, outputs.data());
    operators.set_inputs(g.device, rows);
}

// Pinned where the device has a way to: the bus then needs no copy in between.
float * graph_runner::logits_memory(size_t n_bytes) {
    if (!logits_copy || ggml_backend_buffer_get_size(logits_copy) < n_bytes) {
        if (logits_copy) {
            ggml_backend_buffer_free(logits_copy);
        }
        logits_copy = on->make_host_buffer(n_bytes);
    }
    return logits_copy ? (float *) ggml_backend_buffer_get_base(logits_copy) : nullptr;
}

status graph_runner::run(const batch & rows, step_logits & logits) {
    const int n_outputs = (int) std::count(rows.outputs.begin(), rows.outputs.end(), 1);
    const bool has_lora = std::any_of(rows.slots.begin(), rows.slots.end(), [](int32_t slot) { return slot > 0; });
    graph * g = find_graph({ rows.n_rows(), n_outputs, has_lora, operators.cells_of(rows) });
    if (!g) {
        return status::failure(ERR_OUT_OF_MEMORY, "no memory for a step of " + std::to_string(rows.n_rows()) + " rows");
    }
    set_inputs(*g, rows);
    if (ggml_backend_graph_compute(backend, g->nodes) != GGML_STATUS_SUCCESS) {
        return status::failure(ERR_BACKEND, "the backend could not compute a step");
    }
    logits = {};
    if (g->logits) {
        if (ggml_backend_buffer_is_host(g->logits->buffer)) {
            logits.values = (const float *) g->logits->data;
        } else {
            float * values = logits_memory(ggml_nbytes(g->logits));
            if (!values) {
                return status::failure(ERR_OUT_OF_MEMORY, "no memory for the logits of a step");
            }
            ggml_backend_tensor_get(g->logits, values, 0, ggml_nbytes(g->logits));
            logits.values = values;
        }
    }
    return status::success();
}

} // namespace nozzle
