#include "device-operators.h"

#include "ggml-backend.h"
#include "ggml.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nozzle {

// ggml-cuda's attention kernels take whole blocks of this many cells.
static constexpr int64_t CELLS_STEP = 256;
// Rows of one product by id: with more, ggml-cuda leaves the path that needs no host.
static constexpr int64_t LORA_ROWS_MAX = 128;
static constexpr int     MODULES_MAX   = 3; // of a group
static constexpr float    HALF_MAX  = 65504.0f;
static constexpr uint16_t HALF_NONE = 0xfc00; // -inf

status device_operators::init(const model_dims * d, const device_bank * b, const kv_cache * cache, ggml_backend_t backend) {
    dims = d;
    bank = b;
    kv   = cache;
    const ggml_init_params params = { ggml_tensor_overhead() * 16, nullptr, /*no_alloc*/ true };
    ggml_context * c = ggml_init(params);
    if (!c) {
        return status::failure(ERR_OUT_OF_MEMORY, "no memory for the graph's headers");
    }
    const inputs in = make_inputs(c, 1, cells_max(), false);
    ggml_tensor * q = ggml_new_tensor_3d(c, GGML_TYPE_F32, dims->head_dim, dims->n_head, 1);
    const ggml_tensor * attention = attend(c, in, q, 0)->view_src;
    const bool is_there = ggml_backend_supports_op(backend, attention);
    ggml_free(c);
    return is_there ? status::success()
                    : status::failure(ERR_UNSUPPORTED, "the device has no attention kernel for heads of " +
                                      std::to_string(dims->head_dim) + " values; use the device cpu");
}

int64_t device_operators::lora_parts(int64_t n_rows) { return (n_rows + LORA_ROWS_MAX - 1) / LORA_ROWS_MAX; }

int64_t device_operators::cells_max() const { return kv->k(0)->ne[1]; }

int64_t device_operators::cells_of(const batch & rows) const {
    int64_t needed = 1;
    for (int i = 0; i < rows.n_rows(); ++i) {
        const bool is_last = i + 1 == rows.n_rows() || rows.sequences[i + 1] != rows.sequences[i];
        for (int p = 0; is_last && p <= rows.positions[i]; ++p) {
            needed = std::max(needed, kv->cell(rows.sequences[i], p) + 1);
        }
    }
    // A quarter of the power of two below: at most a quarter too many, four sizes per doubling.
    int64_t step = CELLS_STEP;
    while (step * 8 <= needed) {
        step *= 2;
    }
    return std::min(cells_max(), (needed + step - 1) / step * step);
}

device_operators::inputs device_operators::make_inputs(ggml_context * c, int n_rows, int64_t n_kv, bool has_lora) const {
    inputs in;
    in.mask = ggml_new_tensor_2d(c, GGML_TYPE_F16, n_kv, n_rows);
    ggml_set_input(in.mask);
    if (has_lora) {
        in.slots = ggml_new_tensor_2d(c, GGML_TYPE_I32, 1, n_rows);
        ggml_set_input(in.slots);
        for (int group = 0; group < device_bank::GROUP_COUNT; ++group) {
            in.parts[group] = ggml_new_tensor_2d(c, GGML_TYPE_I32, bank->group(group).n_parts, n_rows);
            ggml_set_input(in.parts[group]);
        }
    }
    return in;
}

void device_operators::set_inputs(const inputs & in, const batch & rows) {
    if (in.slots) {
        ggml_backend_tensor_set(in.slots, rows.slots.data(), 0, ggml_nbytes(in.slots));
    }
    for (ggml_tensor * t : in.parts) {
        if (!t || !t->buffer) {
            continue;
        }
        std::vector<int32_t> ids;
        for (const int32_t slot : rows.slots) {
            for (int64_t part = 0; part < t->ne[0]; ++part) {
                ids.push_back((int32_t) (slot * t->ne[0] + part));
            }
        }
        ggml_backend_tensor_set(t, ids.data(), 0, ggml_nbytes(t));
    }
    if (!in.mask->buffer) {
        return; // a graph of one layer without outputs attends to nothing
    }
    const int64_t n_kv = in.mask->ne[0];
    mask.assign((size_t) n_kv * rows.n_rows(), HALF_NONE);
    for (int i = 0; i < rows.n_rows(); ++i) {
        uint16_t * row = mask.data() + i * n_kv;
        int known = 0;
        if (i > 0 && rows.sequences[i - 1] == rows.sequences[i]) {
            std::memcpy(row, row - n_kv, n_kv * sizeof(uint16_t));
            known = rows.positions[i];
        }
        for (int p = known; p <= rows.positions[i]; ++p) {
            row[kv->cell(rows.sequences[i], p)] = 0;
        }
    }
    ggml_backend_tensor_set(in.mask, mask.data(), 0, ggml_nbytes(in.mask));
}

void device_operators::add_lora(ggml_context * c, ggml_cgraph * graph, const inputs & in, int layer, int first,
                                ggml_tensor * x, ggml_tensor ** y) const {
    int group = 0;
    while (bank->group(group).first != first) {
        group++;
    }
    const device_group g = bank->group(group);
    ggml_tensor * whole[MODULES_MAX] = {};
    for (int64_t row = 0; row < x->ne[1]; row += LORA_ROWS_MAX) {
        const int64_t n = std::min(LORA_ROWS_MAX, x->ne[1] - row);
        const auto rows_of = [&](ggml_tensor * t) { return ggml_view_2d(c, t, t->ne[0], n, t->nb[1], row * t->nb[1]); };
        const int64_t length = g.n_in / g.n_parts;
        ggml_tensor * part = ggml_view_3d(c, x, length, g.n_parts, n, length * x->nb[0], x->nb[1], row * x->nb[1]);
        ggml_tensor * h    = ggml_mul_mat_id(c, bank->a(group, layer), part, rows_of(in.parts[group])); // F32 [width, n_parts, n]
        if (g.n_parts > 1) {
            h = ggml_sum_rows(c, ggml_cont(c, ggml_permute(c, h, 1, 0, 2, 3))); // F32 [1, width, n]
            h = ggml_reshape_3d(c, h, g.width, 1, n);
        }
        ggml_tensor * sum  = ggml_mul_mat_id(c, bank->b(group, layer), h, rows_of(in.slots)); // F32 [n_out, 1, n]
        int64_t begin = 0;
        for (int t = 0; t < g.count; ++t) {
            const int64_t n_out = y[t]->ne[0];
            ggml_tensor * own  = ggml_view_2d(c, sum, n_out, n, sum->nb[2], begin * sum->nb[0]);
            ggml_tensor * into = n == x->ne[1] ? y[t] : ggml_view_2d(c, y[t], n_out, n, y[t]->nb[1], row * y[t]->nb[1]);
            // Not ggml_add_inplace: a result that nobody reads keeps y's memory until the graph's end.
            ggml_tensor * both = ggml_add(c, into, own);
            whole[t] = whole[t] ? ggml_concat(c, whole[t], both, 1) : both;
            ggml_build_forward_expand(graph, whole[t]);
            begin += n_out;
        }
    }
    std::copy_n(whole, g.count, y);
}

ggml_tensor * device_operators::attend(ggml_context * c, const inputs & in, ggml_tensor * q, int layer) const {
    const int64_t hd = dims->head_dim, n_rows = q->ne[2], n_kv = in.mask->ne[0];
    const auto cells = [&](ggml_tensor * t) { // F16 [head_dim, n_kv, n_head_kv]
        return ggml_view_3d(c, t, hd, n_kv, dims->n_head_kv, t->nb[1], hd * t->nb[0], 0);
    };
    ggml_tensor * mixed = ggml_flash_attn_ext(c, ggml_permute(c, q, 0, 2, 1, 3), cells(kv->k(layer)), cells(kv->v(layer)),
                                              in.mask, 1.0f / std::sqrt((float) hd), 0.0f, 0.0f);
    ggml_prec_set_acc(mixed, GGML_PREC_F32);
    return ggml_reshape_2d(c, mixed, hd * dims->n_head, n_rows);
}

ggml_tensor * device_operators::finite(ggml_context * c, ggml_tensor * t) const { return ggml_clamp(c, t, -HALF_MAX, HALF_MAX); }

} // namespace nozzle
