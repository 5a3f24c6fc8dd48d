#include "attention.h"

#include "ggml.h"

#include <algorithm>
#include <cmath>

namespace nozzle {

void attention::init(const model_dims * d, const kv_cache * cache, int n_threads) {
    dims    = d;
    kv      = cache;
    kernels = &kernels_best();
    scores.resize((size_t) n_threads * QUERY_BLOCK_MAX * cache->n_ctx());
}

void attention::assign(const batch & b) {
    const int block_rows_max = std::max(1, QUERY_BLOCK_MAX / (dims->n_head / dims->n_head_kv));
    rows = &b;
    blocks.clear();
    for (int i = 0; i < b.n_rows(); ++i) {
        const bool extends = !blocks.empty() && blocks.back().n_rows < block_rows_max &&
                             b.sequences[blocks.back().first_row] == b.sequences[i];
        if (extends) {
            blocks.back().n_rows++;
        } else {
            blocks.push_back({ i, 1 });
        }
    }
}

ggml_tensor * attention::build(ggml_context * context, ggml_tensor * q, int layer) {
    ggml_tensor * args[] = { q, kv->k(layer), kv->v(layer) };
    return ggml_custom_4d(context, GGML_TYPE_F32, (int64_t) dims->head_dim * dims->n_head, q->ne[2], 1, 1, args, 3,
                          op_attend, GGML_N_TASKS_MAX, this);
}

// On ggml's threads, thread `ith` of `nth`. dst: F32 [head_dim * n_head, n_rows]; src0: q F32
// [head_dim, n_head, n_rows]; src1, src2: k and v F16 [n_head_kv * head_dim, cells]. One task is one
// block for one KV head.
void attention::op_attend(ggml_tensor * dst, int ith, int nth, void * userdata) {
    attention        & self = *(attention *) userdata;
    const model_dims & dims = *self.dims;
    const batch      & rows = *self.rows;
    const ggml_tensor * q = dst->src[0];
    const ggml_tensor * k = dst->src[1];
    const ggml_tensor * v = dst->src[2];
    const int     heads     = dims.n_head / dims.n_head_kv;
    const int64_t kv_stride = (int64_t) dims.n_head_kv * dims.head_dim;
    const int64_t n_ctx     = self.kv->n_ctx();
    float * scratch = self.scores.data() + (size_t) ith * QUERY_BLOCK_MAX * n_ctx;

    const int n_tasks = (int) self.blocks.size() * dims.n_head_kv;
    for (int task = ith; task < n_tasks; task += nth) {
        const block & part    = self.blocks[task / dims.n_head_kv];
        const int     kv_head = task % dims.n_head_kv;
        const int64_t begin   = rows.sequences[part.first_row] * n_ctx * kv_stride + kv_head * dims.head_dim;
        const uint16_t * keys   = (const uint16_t *) k->data + begin;
        const uint16_t * values = (const uint16_t *) v->data + begin;
        const float * qs[QUERY_BLOCK_MAX];
        float * outs[QUERY_BLOCK_MAX];
        int n_kv[QUERY_BLOCK_MAX];
        int n_q = 0;
        const auto flush = [&] {
            if (n_q > 0) {
                self.kernels->attend(qs, n_q, n_kv, keys, values, kv_stride, dims.head_dim,
                                     1.0f / std::sqrt((float) dims.head_dim), scratch, n_ctx, outs);
            }
            n_q = 0;
        };
        for (int i = 0; i < part.n_rows; ++i) {
            const int row = part.first_row + i;
            for (int head = kv_head * heads; head < (kv_head + 1) * heads; ++head) {
                qs[n_q]   = (const float *) ((const char *) q->data + row * q->nb[2] + head * q->nb[1]);
                outs[n_q] = (float *) ((char *) dst->data + row * dst->nb[1]) + (int64_t) head * dims.head_dim;
                n_kv[n_q] = rows.positions[row] + 1;
                if (++n_q == QUERY_BLOCK_MAX) {
                    flush();
                }
            }
        }
        flush();
    }
}

} // namespace nozzle
