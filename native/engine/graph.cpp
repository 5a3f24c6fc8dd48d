#include "graph.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "row-probe.h"

#include <algorithm>

namespace nozzle {

// Decode batches come back every step and are kept; prompts rarely repeat a shape.
static constexpr int    KEPT_ROWS_MAX   = 64;
static constexpr size_t KEPT_GRAPHS_MAX = 128;
static constexpr int    NODES_PER_LAYER = 64;
// Rows whose pointers one kernel call gets.
static constexpr int    ROW_BLOCK = 64;

void step_rows::assign(const batch & b) {
    segments.clear();
    for (int i = 0; i < b.n_rows(); ++i) {
        if (b.slots[i] > 0) {
            auto found = std::find_if(segments.begin(), segments.end(),
                                      [&](const lora_segment & s) { return s.slot == b.slots[i]; });
            if (found == segments.end()) {
                segments.push_back({ b.slots[i], {} });
                found = segments.end() - 1;
            }
            found->rows.push_back(i);
        }
    }
}

graph_runner::graph::~graph() {
    if (allocator) {
        ggml_gallocr_free(allocator);
    }
    if (context) {
        ggml_free(context);
    }
}

graph_runner::~graph_runner() = default;

status graph_runner::init(const model * m, const lora_bank * b, kv_cache * cache, ggml_backend_t be, int n_threads) {
    base    = m;
    bank    = b;
    kv      = cache;
    backend = be;
    kernels = &kernels_best();
    attend.init(&m->dims, cache, n_threads);
    for (const model_layer & layer : m->layers) {
        for (ggml_tensor * weight : layer.linear) {
            probe_rows(weight);
        }
    }
    probe_rows(m->output);
    return status::success();
}

static std::tuple<int, int64_t, int64_t> kind_of(const ggml_tensor * weight) {
    return { weight->type, weight->ne[0], weight->ne[1] };
}

void graph_runner::probe_rows(ggml_tensor * weight) {
    const auto kind = kind_of(weight);
    if (rows_min.count(kind) == 0) {
        rows_min[kind] = rows_until_stable(weight, backend);
    }
}

// ---- custom operators: run on ggml's threads, thread `ith` of `nth` -------------------------------

// dst: F32 [group.count * rank_max, n_rows]; src0: x F32 [n_in, n_rows]. The (segment, module, r)
// units are dealt out evenly; each is one dot product per row of the segment.
void graph_runner::op_shrink(ggml_tensor * dst, int ith, int nth, void * userdata) {
    const op_context   & op   = *(const op_context *) userdata;
    const graph_runner & self = *op.runner;
    const ggml_tensor  * x    = dst->src[0];
    const int rank_max = self.bank->rank_max();
    const int n_in     = (int) x->ne[0];

    int64_t units = 0;
    for (const lora_segment & s : self.current.segments) {
        for (int t = 0; t < op.group.count; ++t) {
            units += self.bank->view(s.slot, op.layer, op.group.first + t).rank;
        }
    }
    const int64_t begin = units * ith / nth, end = units * (ith + 1) / nth;
    int64_t unit = 0;
    for (const lora_segment & s : self.current.segments) {
        for (int t = 0; t < op.group.count; ++t) {
            const lora_view & view = self.bank->view(s.slot, op.layer, op.group.first + t);
            const int r0 = (int) std::clamp<int64_t>(begin - unit, 0, view.rank);
            const int r1 = (int) std::clamp<int64_t>(end - unit, 0, view.rank);
            unit += view.rank;
            for (size_t first = 0; first < s.rows.size() && r0 < r1; first += ROW_BLOCK) {
                const int n = (int) std::min<size_t>(ROW_BLOCK, s.rows.size() - first);
                const float * xs[ROW_BLOCK];
                float * hs[ROW_BLOCK];
                for (int i = 0; i < n; ++i) {
                    const int row = s.rows[first + i];
                    xs[i] = (const float *) ((const char *) x->data + row * x->nb[1]);
                    hs[i] = (float *) ((char *) dst->data + row * dst->nb[1]) + t * rank_max + r0;
                }
                self.kernels->matrix->multiply_float(float_type::f16, view.a + (int64_t) r0 * n_in, n_in, r1 - r0, xs, hs, n);
            }
        }
    }
}

// dst: view of src0. src0: y of the group's first module F32 [n_out, n_rows]; src1: h from
// op_shrink; src2, src3: y of its other modules, written too (all are read only after this node).
void graph_runner::op_expand(ggml_tensor * dst, int ith, int nth, void * userdata) {
    const op_context   & op   = *(const op_context *) userdata;
    const graph_runner & self = *op.runner;
    const ggml_tensor  * h    = dst->src[1];
    const int rank_max = self.bank->rank_max();

    for (int t = 0; t < op.group.count; ++t) {
        ggml_tensor * y = t == 0 ? dst->src[0] : dst->src[1 + t];
        const int n_out = (int) y->ne[0];
        const int tiles = (n_out + 63) / 64;
        const int c0 = std::min(n_out, tiles * ith / nth * 64);
        const int c1 = std::min(n_out, tiles * (ith + 1) / nth * 64);
        if (c0 >= c1) {
            continue;
        }
        for (const lora_segment & s : self.current.segments) {
            const lora_view & view = self.bank->view(s.slot, op.layer, op.group.first + t);
            for (size_t first = 0; first < s.rows.size() && view.rank > 0; first += ROW_BLOCK) {
                const int n = (int) std::min<size_t>(ROW_BLOCK, s.rows.size() - first);
                const float * hs[ROW_BLOCK];
                float * ys[ROW_BLOCK];
                for (int i = 0; i < n; ++i) {
                    const int row = s.rows[first + i];
                    hs[i] = (const float *) ((const char *) h->data + row * h->nb[1]) + t * rank_max;
                    ys[i] = (float *) ((char *) y->data + row * y->nb[1]) + c0;
                }
                self.kernels->expand(view.bt + c0, n_out, view.rank, c1 - c0, view.scale, hs, ys, n);
            }
        }
    }
}

// ---- building ------------------------------------------------------------------------------------

// y[t] += scale · B(A x) for every module of the group, each row with its own slot's A and B.
void graph_runner::add_lora(graph & g, int layer, lora_group group, ggml_tensor * x, ggml_tensor ** y) {
    g.ops.push_back({ this, layer, group });
    void * op = &g.ops.back();
    ggml_tensor * shrink_args[] = { x };
    ggml_tensor * h = ggml_custom_4d(g.context, GGML_TYPE_F32, (int64_t) group.count * bank->rank_max(), x->ne[1], 1, 1,
                                     shrink_args, 1, op_shrink, GGML_N_TASKS_MAX, op);
    ggml_tensor * expand_args[3] = { h };
    for (int t = 1; t < group.count; ++t) {
        expand_args[t] = y[t];
    }
    y[0] = ggml_custom_inplace(g.context, y[0], expand_args, group.count, op_expand, GGML_N_TASKS_MAX, op);
    // Now, so that it stands before every reader of y[1] and y[2].
    ggml_build_forward_expand(g.nodes, y[0]);
}

// weight · x, F32 [n_out, n_rows], its bits independent of n_rows.
ggml_tensor * graph_runner::multiply(graph & g, ggml_tensor * weight, ggml_tensor * x) {
    ggml_context * c = g.context;
    const int64_t missing = rows_min.at(kind_of(weight)) - x->ne[1];
    if (missing <= 0) {
        return ggml_mul_mat(c, weight, x);
    }
    ggml_tensor * y = ggml_mul_mat(c, weight, ggml_pad(c, x, 0, (int) missing, 0, 0));
    return ggml_view_2d(c, y, y->ne[0], x->ne[1], y->nb[1], 0);
}

ggml_tensor * graph_runner::build_layer(graph & g, ggml_tensor * x, int il, bool has_lora, bool is_last_without_output) {
    const model_dims  & dims  = base->dims;
    const model_layer & layer = base->layers[il];
    ggml_context * c = g.context;
    const int64_t n_rows = x->ne[1];

    const auto linear = [&](lora_group group, ggml_tensor * in, ggml_tensor ** y) {
        for (int t = 0; t < group.count; ++t) {
            y[t] = multiply(g, layer.linear[group.first + t], in);
            ggml_build_forward_expand(g.nodes, y[t]);
        }
        if (has_lora) {
            add_lora(g, il, group, in, y);
        }
    };
    const auto rope = [&](ggml_tensor * t, int64_t n_heads) {
        return ggml_rope_ext(c, ggml_reshape_3d(c, t, dims.head_dim, n_heads, n_rows), g.positions, base->rope_freqs,
                             dims.rope_dim, GGML_ROPE_TYPE_NORMAL, dims.n_ctx_train, dims.rope_base, dims.rope_scale,
                             0.0f, 1.0f, 32.0f, 1.0f);
    };

    ggml_tensor * normed = ggml_mul(c, ggml_rms_norm(c, x, dims.rms_epsilon), layer.attn_norm); // F32 [n_embd, n_rows]
    ggml_tensor * qkv[3];
    linear({ TARGET_ATTN_Q, 3 }, normed, qkv);
    ggml_tensor * q = rope(qkv[0], dims.n_head);    // F32 [head_dim, n_head, n_rows]
    ggml_tensor * k = rope(qkv[1], dims.n_head_kv); // F32 [head_dim, n_head_kv, n_rows]
    k = ggml_reshape_2d(c, k, (int64_t) dims.head_dim * dims.n_head_kv, n_rows);
    ggml_build_forward_expand(g.nodes, ggml_set_rows(c, kv->k(il), k, g.cells));
    ggml_build_forward_expand(g.nodes, ggml_set_rows(c, kv->v(il), qkv[2], g.cells));
    if (is_last_without_output) {
        return nullptr;
    }
    ggml_tensor * mixed = attend.build(c, q, il); // F32 [head_dim * n_head, n_rows]
    ggml_tensor * out[1];
    linear({ TARGET_ATTN_OUTPUT, 1 }, mixed, out);
    x = ggml_add(c, x, out[0]);

    normed = ggml_mul(c, ggml_rms_norm(c, x, dims.rms_epsilon), layer.ffn_norm);
    ggml_tensor * gate_up[2];
    linear({ TARGET_FFN_GATE, 2 }, normed, gate_up);
    ggml_tensor * gated = ggml_swiglu_split(c, gate_up[0], gate_up[1]); // F32 [n_ff, n_rows]
    linear({ TARGET_FFN_DOWN, 1 }, gated, out);
    return ggml_add(c, x, out[0]);
}

bool graph_runner::build(graph & g, const shape & key) {
    const auto [n_rows, n_outputs, has_lora] = key;
    const model_dims & dims = base->dims;
    const size_t n_nodes = (size_t) NODES_PER_LAYER * dims.n_layer + 32;
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
    ggml_tensor * x = ggml_get_rows(g.context, base->token_embd, g.tokens); // F32 [n_embd, n_rows]
    for (int il = 0; il < dims.n_layer; ++il) {
        x = build_layer(g, x, il, has_lora, n_outputs == 0 && il == dims.n_layer - 1);
    }
    if (n_outputs > 0) {
        g.outputs = ggml_new_tensor_1d(g.context, GGML_TYPE_I32, n_outputs);
        ggml_set_input(g.outputs);
        x = ggml_get_rows(g.context, x, g.outputs);
        x = ggml_mul(g.context, ggml_rms_norm(g.context, x, dims.rms_epsilon), base->output_norm);
        g.logits = multiply(g, base->output, x);
        ggml_set_output(g.logits);
        ggml_build_forward_expand(g.nodes, g.logits);
    }
    g.allocator = ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend));
    return g.allocator && ggml_gallocr_alloc_graph(g.allocator, g.nodes);
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
        cells.push_back((int64_t) rows.sequences[i] * kv->n_ctx() + rows.positions[i]);
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
}

status graph_runner::run(const batch & rows, const float ** logits) {
    current.assign(rows);
    attend.assign(rows);
    const int n_outputs = (int) std::count(rows.outputs.begin(), rows.outputs.end(), 1);
    graph * g = find_graph({ rows.n_rows(), n_outputs, !current.segments.empty() });
    if (!g) {
        return status::failure(ERR_OUT_OF_MEMORY, "no memory for a step of " + std::to_string(rows.n_rows()) + " rows");
    }
    set_inputs(*g, rows);
    if (ggml_backend_graph_compute(backend, g->nodes) != GGML_STATUS_SUCCESS) {
        return status::failure(ERR_BACKEND, "the backend could not compute a step");
    }
    *logits = nullptr;
    if (g->logits) {
        if (ggml_backend_buffer_is_host(g->logits->buffer)) {
            *logits = (const float *) g->logits->data;
        } else {
            logits_copy.resize(ggml_nelements(g->logits));
            ggml_backend_tensor_get(g->logits, logits_copy.data(), 0, ggml_nbytes(g->logits));
            *logits = logits_copy.data();
        }
    }
    return status::success();
}

} // namespace nozzle
