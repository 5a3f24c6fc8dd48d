#include "cpu-runner.h"

#include "ggml.h"

#include <algorithm>
#include <cstring>

namespace nozzle {

// Rows whose pointers one kernel call gets.
static constexpr int ROW_BLOCK = 64;
// Rows of A that one shrink task takes.
static constexpr int SHRINK_RANKS = 8;
// Outputs of a task over the vocabulary.
static constexpr int LOGIT_COLUMNS = 256;
static constexpr int STAGES_PER_LAYER = 18;
// Outputs of one expand task.
static constexpr int EXPAND_COLUMNS_MIN = 128;
static constexpr int EXPAND_COLUMNS_MAX = 512;

// Outputs of one multiply task: a multiple of MATRIX_TILE, small enough that the threads of a desktop
// share a narrow layer evenly.
static int task_columns(int n_out) { return n_out >= 2048 ? 64 : 32; }

static int tasks_of(int n_out) { return (n_out + task_columns(n_out) - 1) / task_columns(n_out); }

static const float * data_of(const ggml_tensor * tensor) { return tensor ? (const float *) tensor->data : nullptr; }

static void add(const float * in, int n, float * sum) {
    for (int i = 0; i < n; ++i) {
        sum[i] += in[i];
    }
}

// ---- opening ----------------------------------------------------------------------------------------

status cpu_runner::init(const model * m, const lora_bank * b, kv_cache * kv, cpu_traits_fn traits, int n_threads,
                        int n_rows_max) {
    base    = m;
    bank    = b;
    kernels = &kernels_best();
    attending.init(&m->dims, kv, n_threads);
    const auto no_memory = [] { return status::failure(ERR_OUT_OF_MEMORY, "no memory for the weights"); };
    layers.resize(m->dims.n_layer);
    for (int il = 0; il < m->dims.n_layer; ++il) {
        for (int target = 0; target < TARGET_COUNT; ++target) {
            if (!layers[il].linear[target].pack(m->layers[il].linear[target], traits, weights)) {
                return no_memory();
            }
        }
    }
    if (!output.pack(m->output, traits, weights)) {
        return no_memory();
    }
    rope.init(m->dims, data_of(m->rope_freqs));
    allocate(n_rows_max, traits);
    // Most of it has been laid out anew.
    m->forget_pages();
    team.start(n_threads);
    return status::success();
}

size_t cpu_runner::weight_bytes(const model & base) {
    size_t bytes = base.weight_bytes();
    const auto count = [&](const ggml_tensor * weight) {
        const size_t packed = packed_matrix::bytes_needed(weight);
        // Embeddings are also read as they are.
        bytes += packed == 0 || weight == base.token_embd ? packed : packed - ggml_nbytes(weight);
    };
    count(base.output);
    for (const model_layer & layer : base.layers) {
        for (const ggml_tensor * weight : layer.linear) {
            count(weight);
        }
    }
    return bytes;
}

void cpu_runner::allocate(int n_rows_max, cpu_traits_fn traits) {
    const model_dims & dims = base->dims;
    const auto room  = [&](int width) { return std::make_unique<float[]>((size_t) n_rows_max * width); };
    const auto forms = [&](module_group group) {
        std::vector<row_form> out;
        for (const layer_weights & layer : layers) {
            for (int t = 0; t < group.count; ++t) {
                out.push_back(layer.linear[group.first + t].form());
            }
        }
        return out;
    };
    width_qkv = (dims.n_head + 2 * dims.n_head_kv) * dims.head_dim;
    x         = room(dims.n_embd);
    qkv       = room(width_qkv);
    projected = room(dims.n_embd);
    up        = room(dims.n_ff);
    shrunk    = room(3 * bank->rank_max());
    width_deltas = std::max({ width_qkv, 2 * dims.n_ff, dims.n_embd });
    deltas       = room(width_deltas);
    angles    = room(dims.head_dim);
    std::vector<row_form> normed_forms = forms(QKV);
    for (const row_form & form : forms(GATE_UP)) {
        normed_forms.push_back(form);
    }
    normed.allocate(n_rows_max, dims.n_embd, normed_forms, traits);
    attended.allocate(n_rows_max, dims.n_head * dims.head_dim, forms(OUTPUT), traits);
    gated.allocate(n_rows_max, dims.n_ff, forms(DOWN), traits);
    final_rows.allocate(n_rows_max, dims.n_embd, { output.form() }, traits);
}

// ---- planning a step --------------------------------------------------------------------------------

int cpu_runner::shrink_pieces(const lora_view & view, int) const {
    return (view.rank + SHRINK_RANKS - 1) / SHRINK_RANKS;
}

int cpu_runner::expand_pieces(const lora_view & view, int target) const {
    return view.rank == 0 ? 0 : (base->dims.target_n_out(target) + expand_columns - 1) / expand_columns;
}

int cpu_runner::count_pieces(int layer, module_group group, pieces_fn pieces) const {
    int n = 0;
    for (const lora_segment & s : segments) {
        for (int target = group.first; target < group.first + group.count; ++target) {
            n += (this->*pieces)(bank->view(s.slot, layer, target), target);
        }
    }
    return n;
}

cpu_runner::module_piece cpu_runner::find_piece(int layer, module_group group, pieces_fn pieces, int task) const {
    for (const lora_segment & s : segments) {
        for (int target = group.first; target < group.first + group.count; ++target) {
            const lora_view & view = bank->view(s.slot, layer, target);
            const int n = (this->*pieces)(view, target);
            if (task < n) {
                return { &s, &view, target, task };
            }
            task -= n;
        }
    }
    return {};
}

void cpu_runner::plan_layer(int il) {
    const model_dims & dims = base->dims;
    const int n_rows = rows->n_rows();
    const auto columns_of = [&](module_group group) {
        int n = 0;
        for (int t = 0; t < group.count; ++t) {
            n += tasks_of(dims.target_n_out(group.first + t));
        }
        return n;
    };
    const auto add = [&](thread_team::task_fn run, int n_tasks) {
        if (n_tasks > 0) {
            stages.push_back({ run, il, n_tasks });
        }
    };
    add(norm_attention, n_rows);
    add(shrink_qkv, count_pieces(il, QKV, &cpu_runner::shrink_pieces));
    add(expand_qkv, count_pieces(il, QKV, &cpu_runner::expand_pieces));
    add(multiply_qkv, columns_of(QKV));
    add(store_cells, (int) attending.store_groups().size());
    add(attend, attending.n_tasks());
    add(round_attention, n_rows);
    add(shrink_output, count_pieces(il, OUTPUT, &cpu_runner::shrink_pieces));
    add(expand_output, count_pieces(il, OUTPUT, &cpu_runner::expand_pieces));
    add(multiply_output, columns_of(OUTPUT));
    add(norm_ffn, n_rows);
    add(shrink_gate_up, count_pieces(il, GATE_UP, &cpu_runner::shrink_pieces));
    add(expand_gate_up, count_pieces(il, GATE_UP, &cpu_runner::expand_pieces));
    add(multiply_gate_up, tasks_of(dims.n_ff));
    add(round_ffn, n_rows);
    add(shrink_down, count_pieces(il, DOWN, &cpu_runner::shrink_pieces));
    add(expand_down, count_pieces(il, DOWN, &cpu_runner::expand_pieces));
    add(multiply_down, columns_of(DOWN));
}

void cpu_runner::plan(const batch & b) {
    rows = &b;
    attending.assign(b);
    segments.clear();
    output_rows.clear();
    wanted_blocks.assign(b.n_rows() / ROW_BLOCK + 1, 0);
    for (int i = 0; i < b.n_rows(); ++i) {
        if (b.outputs[i]) {
            output_rows.push_back(i);
            wanted_blocks[i / ROW_BLOCK] = 1;
        }
        if (b.slots[i] == 0) {
            continue;
        }
        auto found = std::find_if(segments.begin(), segments.end(),
                                  [&](const lora_segment & s) { return s.slot == b.slots[i]; });
        if (found == segments.end()) {
            segments.push_back({ b.slots[i], {} });
            found = segments.end() - 1;
        }
        found->rows.push_back(i);
    }
    // Long pieces stream; where few adapters are about, short ones keep every thread busy.
    expand_columns = (int) segments.size() >= 2 * team.n_threads() ? EXPAND_COLUMNS_MAX : EXPAND_COLUMNS_MIN;
    stages.clear();
    stages.reserve((size_t) base->dims.n_layer * STAGES_PER_LAYER + 3);
    stages.push_back({ embed, 0, b.n_rows() });
    for (int il = 0; il < base->dims.n_layer; ++il) {
        plan_layer(il);
    }
    if (!output_rows.empty()) {
        const int n_outputs = (int) output_rows.size();
        const int n_parts   = (base->dims.n_vocab + LOGIT_COLUMNS - 1) / LOGIT_COLUMNS;
        const auto grow = [](auto & buffer, size_t size) { buffer.resize(std::max(buffer.size(), size)); };
        grow(logits, (size_t) n_outputs * base->dims.n_vocab);
        grow(logit_parts, (size_t) n_outputs * n_parts);
        grow(summaries, n_outputs);
        stages.push_back({ norm_final, 0, n_outputs });
        stages.push_back({ multiply_logits, 0, n_parts });
        stages.push_back({ summarise, 0, n_outputs });
    }
}

status cpu_runner::run(const batch & b, step_logits & out) {
    plan(b);
    team.run(stages, this);
    out = {};
    if (!output_rows.empty()) {
        out = { logits.data(), summaries.data() };
    }
    return status::success();
}

void cpu_runner::for_each(int n, const std::function<void(int)> & task) {
    team.for_each(n, task);
}

// ---- what several stages do -------------------------------------------------------------------------

template <class F> void cpu_runner::for_row_blocks(const std::vector<int> & all, F f) {
    for (size_t first = 0; first < all.size(); first += ROW_BLOCK) {
        f(all.data() + first, (int) std::min<size_t>(ROW_BLOCK, all.size() - first));
    }
}

// Of the last layer, most rows of a prompt leave keys and values alone: blocks of rows without an output
// go no further. What is left standing in their places is not read.
bool cpu_runner::is_wanted(int layer, int row) const {
    return layer + 1 < base->dims.n_layer || wanted_blocks[row / ROW_BLOCK];
}

// The residual stream of a row, normalised, as row `index` of `out`.
void cpu_runner::norm(int row, const ggml_tensor * weight, int index, activation_rows & out) const {
    const int n_embd = base->dims.n_embd;
    kernels->matrix->rms_norm(x.get() + (size_t) row * n_embd, data_of(weight), base->dims.rms_epsilon, n_embd,
                              out.f32(index));
    out.round(index, *kernels->matrix);
}

// h of up to SHRINK_RANKS rows of one module's A, for the rows of its segment.
void cpu_runner::shrink(int layer, int task, module_group group, const activation_rows & in) {
    const module_piece piece = find_piece(layer, group, &cpu_runner::shrink_pieces, task);
    const int r0   = piece.index * SHRINK_RANKS;
    const int n_in = base->dims.target_n_in(piece.target);
    for_row_blocks(piece.segment->rows, [&](const int * row, int n) {
        const float * xs[ROW_BLOCK];
        float       * hs[ROW_BLOCK];
        for (int i = 0; i < n; ++i) {
            xs[i] = in.f32(row[i]);
            hs[i] = h_of(row[i], piece.target - group.first) + r0;
        }
        kernels->matrix->multiply_float(float_type::f16, piece.view->a + (int64_t) r0 * n_in, n_in,
                                        std::min(SHRINK_RANKS, piece.view->rank - r0), xs, hs, n);
    });
}

// What one module adds to a range of its outputs, for the rows of its segment. A stage of its own before
// the base's product, so that B is read in long pieces.
void cpu_runner::expand(int layer, int task, module_group group) {
    const module_piece piece = find_piece(layer, group, &cpu_runner::expand_pieces, task);
    const int n_out = base->dims.target_n_out(piece.target);
    const int first = piece.index * expand_columns;
    for_row_blocks(piece.segment->rows, [&](const int * row, int n) {
        const float * hs[ROW_BLOCK];
        float       * ys[ROW_BLOCK];
        for (int i = 0; i < n; ++i) {
            hs[i] = h_of(row[i], piece.target - group.first);
            ys[i] = delta_of(row[i], piece.target) + first;
        }
        kernels->expand(piece.view->bt + first, n_out, piece.view->rank, std::min(expand_columns, n_out - first),
                        piece.view->scale, hs, ys, n);
    });
}

float * cpu_runner::h_of(int row, int module) { return shrunk.get() + ((size_t) row * 3 + module) * bank->rank_max(); }

float * cpu_runner::delta_of(int row, int target) {
    return deltas.get() + (size_t) row * width_deltas + group_offset(target);
}

// Where a target's outputs begin among those of its group.
int cpu_runner::group_offset(int target) const {
    const model_dims & dims = base->dims;
    switch (target) {
        case TARGET_ATTN_K: return dims.n_head * dims.head_dim;
        case TARGET_ATTN_V: return (dims.n_head + dims.n_head_kv) * dims.head_dim;
        case TARGET_FFN_UP: return dims.n_ff;
        default:            return 0;
    }
}

void cpu_runner::multiply(int layer, const columns & part, const activation_rows & in, float * y, int64_t stride) {
    const int n_rows = rows->n_rows();
    // All rows of a block before the next one: the weights of the part stay in the cache.
    for (int begin = 0; begin < n_rows; begin += ROW_BLOCK) {
        if (part.target > TARGET_ATTN_V && !is_wanted(layer, begin)) {
            continue;
        }
        const int n = std::min(ROW_BLOCK, n_rows - begin);
        float * ys[ROW_BLOCK];
        for (int i = 0; i < n; ++i) {
            ys[i] = y + (begin + i) * stride + part.first;
        }
        layers[layer].linear[part.target].multiply(*kernels->matrix, in, begin, n, part.first, part.count, ys);
    }
    const float * bias = data_of(base->layers[layer].bias[part.target]);
    for (int row = 0; row < n_rows; ++row) {
        float * out = y + row * stride + part.first;
        if (bank->view(rows->slots[row], layer, part.target).rank > 0) {
            add(delta_of(row, part.target) + part.first, part.count, out);
        }
        if (bias) {
            add(bias + part.first, part.count, out);
        }
    }
}

cpu_runner::columns cpu_runner::column_task(module_group group, int task) const {
    for (int t = 0; t < group.count; ++t) {
        const int target = group.first + t;
        const int n_out  = base->dims.target_n_out(target);
        const int tasks  = tasks_of(n_out);
        if (task < tasks) {
            const int first = task * task_columns(n_out);
            return { target, first, std::min(task_columns(n_out), n_out - first) };
        }
        task -= tasks;
    }
    return { group.first, 0, 0 };
}

// A head of q or k: normalised where the model does, then turned.
void cpu_runner::rotate(int row, float * head, const ggml_tensor * norm) const {
    const int head_dim = base->dims.head_dim;
    if (norm) {
        kernels->matrix->rms_norm(head, data_of(norm), base->dims.rms_epsilon, head_dim, head);
    }
    rope.rotate(angles.get() + (size_t) row * head_dim, head);
}

// ---- stages -----------------------------------------------------------------------------------------

void cpu_runner::embed(void * context, int, int row, int) {
    cpu_runner & self = *(cpu_runner *) context;
    const ggml_tensor * table = self.base->token_embd;
    const int n_embd = self.base->dims.n_embd;
    const char * in  = (const char *) table->data + self.rows->tokens[row] * table->nb[1];
    float * out = self.x.get() + (size_t) row * n_embd;
    if (table->type == GGML_TYPE_F32) {
        memcpy(out, in, n_embd * sizeof(float));
    } else {
        ggml_get_type_traits(table->type)->to_float(in, out, n_embd);
    }
    self.rope.fill(self.rows->positions[row], self.angles.get() + (size_t) row * self.base->dims.head_dim);
}

void cpu_runner::norm_attention(void * context, int layer, int row, int) {
    cpu_runner & self = *(cpu_runner *) context;
    self.norm(row, self.base->layers[layer].attn_norm, row, self.normed);
}

void cpu_runner::shrink_qkv(void * context, int layer, int task, int) {
    cpu_runner & self = *(cpu_runner *) context;
    self.shrink(layer, task, QKV, self.normed);
}

void cpu_runner::expand_qkv(void * context, int layer, int task, int) {
    ((cpu_runner *) context)->expand(layer, task, QKV);
}

void cpu_runner::multiply_qkv(void * context, int layer, int task, int) {
    cpu_runner & self = *(cpu_runner *) context;
    const columns part = self.column_task(QKV, task);
    self.multiply(layer, part, self.normed, self.qkv.get() + self.group_offset(part.target), self.width_qkv);
}

void cpu_runner::store_cells(void * context, int layer, int task, int) {
    cpu_runner & self = *(cpu_runner *) context;
    const model_dims & dims = self.base->dims;
    const row_group  & group = self.attending.store_groups()[task];
    for (int row = group.first_row; row < group.first_row + group.n_rows; ++row) {
        float * q = self.qkv.get() + (size_t) row * self.width_qkv;
        float * k = q + dims.n_head * dims.head_dim;
        for (int head = 0; head < dims.n_head; ++head) {
            self.rotate(row, q + head * dims.head_dim, self.base->layers[layer].attn_q_norm);
        }
        for (int head = 0; head < dims.n_head_kv; ++head) {
            self.rotate(row, k + head * dims.head_dim, self.base->layers[layer].attn_k_norm);
        }
        self.attending.store(layer, row, k, k + dims.n_head_kv * dims.head_dim);
    }
}

void cpu_runner::attend(void * context, int layer, int task, int worker) {
    cpu_runner & self = *(cpu_runner *) context;
    const row_group & group = self.attending.rows_of(task);
    if (self.is_wanted(layer, group.first_row) || self.is_wanted(layer, group.first_row + group.n_rows - 1)) {
        self.attending.run_task(layer, task, worker, self.qkv.get(), self.width_qkv, self.attended.f32(0),
                                self.base->dims.n_head * self.base->dims.head_dim);
    }
}

void cpu_runner::round_attention(void * context, int, int row, int) {
    cpu_runner & self = *(cpu_runner *) context;
    self.attended.round(row, *self.kernels->matrix);
}

void cpu_runner::shrink_output(void * context, int layer, int task, int) {
    cpu_runner & self = *(cpu_runner *) context;
    self.shrink(layer, task, OUTPUT, self.attended);
}

// A range of outputs that joins the residual stream.
void cpu_runner::multiply_into_residual(int layer, const columns & part, const activation_rows & in) {
    const int n_embd = base->dims.n_embd;
    multiply(layer, part, in, projected.get(), n_embd);
    for (int row = 0; row < rows->n_rows(); ++row) {
        add(projected.get() + (size_t) row * n_embd + part.first, part.count,
            x.get() + (size_t) row * n_embd + part.first);
    }
}

void cpu_runner::expand_output(void * context, int layer, int task, int) {
    ((cpu_runner *) context)->expand(layer, task, OUTPUT);
}

void cpu_runner::multiply_output(void * context, int layer, int task, int) {
    cpu_runner & self = *(cpu_runner *) context;
    self.multiply_into_residual(layer, self.column_task(OUTPUT, task), self.attended);
}

void cpu_runner::norm_ffn(void * context, int layer, int row, int) {
    cpu_runner & self = *(cpu_runner *) context;
    self.norm(row, self.base->layers[layer].ffn_norm, row, self.normed);
}

void cpu_runner::shrink_gate_up(void * context, int layer, int task, int) {
    cpu_runner & self = *(cpu_runner *) context;
    self.shrink(layer, task, GATE_UP, self.normed);
}

void cpu_runner::expand_gate_up(void * context, int layer, int task, int) {
    ((cpu_runner *) context)->expand(layer, task, GATE_UP);
}

void cpu_runner::multiply_gate_up(void * context, int layer, int task, int) {
    cpu_runner & self = *(cpu_runner *) context;
    const int n_ff = self.base->dims.n_ff;
    columns part = self.column_task(GATE_UP, task);
    self.multiply(layer, part, self.normed, self.gated.f32(0), n_ff);
    part.target = TARGET_FFN_UP;
    self.multiply(layer, part, self.normed, self.up.get(), n_ff);
    for (int row = 0; row < self.rows->n_rows(); ++row) {
        self.kernels->matrix->swiglu(self.gated.f32(row) + part.first, self.up.get() + (size_t) row * n_ff + part.first,
                                     part.count);
    }
}

void cpu_runner::round_ffn(void * context, int, int row, int) {
    cpu_runner & self = *(cpu_runner *) context;
    self.gated.round(row, *self.kernels->matrix);
}

void cpu_runner::shrink_down(void * context, int layer, int task, int) {
    cpu_runner & self = *(cpu_runner *) context;
    self.shrink(layer, task, DOWN, self.gated);
}

void cpu_runner::expand_down(void * context, int layer, int task, int) {
    ((cpu_runner *) context)->expand(layer, task, DOWN);
}

void cpu_runner::multiply_down(void * context, int layer, int task, int) {
    cpu_runner & self = *(cpu_runner *) context;
    self.multiply_into_residual(layer, self.column_task(DOWN, task), self.gated);
}

void cpu_runner::norm_final(void * context, int, int index, int) {
    cpu_runner & self = *(cpu_runner *) context;
    self.norm(self.output_rows[index], self.base->output_norm, index, self.final_rows);
}

void cpu_runner::multiply_logits(void * context, int, int task, int) {
    cpu_runner & self = *(cpu_runner *) context;
    const int n_vocab   = self.base->dims.n_vocab;
    const int first     = task * LOGIT_COLUMNS;
    const int count     = std::min(LOGIT_COLUMNS, n_vocab - first);
    const int n_outputs = (int) self.output_rows.size();
    const int n_parts   = (n_vocab + LOGIT_COLUMNS - 1) / LOGIT_COLUMNS;
    const float * bias  = data_of(self.base->output_bias);
    float * ys[ROW_BLOCK];
    for (int begin = 0; begin < n_outputs; begin += ROW_BLOCK) {
        const int n = std::min(ROW_BLOCK, n_outputs - begin);
        for (int i = 0; i < n; ++i) {
            ys[i] = self.logits.data() + (size_t) (begin + i) * n_vocab + first;
        }
        self.output.multiply(*self.kernels->matrix, self.final_rows, begin, n, first, count, ys);
        for (int i = 0; i < n; ++i) {
            if (bias) {
                add(bias + first, count, ys[i]);
            }
            int best;
            const bool is_finite = self.kernels->matrix->find_best(ys[i], count, &best);
            self.logit_parts[(size_t) (begin + i) * n_parts + task] = { ys[i][best], first + best, is_finite };
        }
    }
}

void cpu_runner::summarise(void * context, int, int index, int) {
    cpu_runner & self = *(cpu_runner *) context;
    const int n_parts = (self.base->dims.n_vocab + LOGIT_COLUMNS - 1) / LOGIT_COLUMNS;
    const logits_part * parts = self.logit_parts.data() + (size_t) index * n_parts;
    logits_part total = parts[0];
    for (int i = 1; i < n_parts; ++i) {
        total.is_finite = total.is_finite && parts[i].is_finite;
        if (parts[i].top > total.top) {
            total.top  = parts[i].top;
            total.best = parts[i].best;
        }
    }
    self.summaries[index] = { total.best, total.is_finite };
}

} // namespace nozzle
