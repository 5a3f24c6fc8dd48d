#include "attention.h"

#include "ggml.h"

#include <algorithm>
#include <cmath>

namespace nozzle {

void attention::init(const model_dims * d, const kv_cache * cache, int n_threads) {
    dims    = d;
    kv      = cache;
    kernels = &kernels_best();
    score_stride = (cache->n_ctx() + CELLS_MIN - 1) / CELLS_MIN * CELLS_MIN;
    scores.resize((size_t) n_threads * QUERY_BLOCK_MAX * score_stride);
}

void attention::assign(const batch & b) {
    const int block_rows_max = std::max(1, QUERY_BLOCK_MAX / (dims->n_head / dims->n_head_kv));
    rows = &b;
    split(block_rows_max, blocks);
    split(KV_PAGE_CELLS, store_rows);
}

// Neighbouring rows of one sequence, at most n_rows_max at a time.
void attention::split(int n_rows_max, std::vector<row_group> & out) const {
    out.clear();
    for (int i = 0; i < rows->n_rows(); ++i) {
        const bool extends = !out.empty() && out.back().n_rows < n_rows_max &&
                             rows->sequences[out.back().first_row] == rows->sequences[i];
        if (extends) {
            out.back().n_rows++;
        } else {
            out.push_back({ i, 1 });
        }
    }
}

void attention::store(int layer, int row, const float * key, const float * value) const {
    const int64_t width = (int64_t) dims->n_head_kv * dims->head_dim;
    const int64_t cell  = kv->cell(rows->sequences[row], rows->positions[row]);
    uint16_t * page = (uint16_t *) kv->k(layer)->data + cell / KV_PAGE_CELLS * KV_PAGE_CELLS * width;
    kernels->to_half(key, (int) width, page + cell % KV_PAGE_CELLS, KV_PAGE_CELLS);
    kernels->to_half(value, (int) width, (uint16_t *) kv->v(layer)->data + cell * width, 1);
}

// One block for one KV head.
void attention::run_task(int layer, int task, int worker, const float * q, int64_t q_stride, float * out,
                         int64_t out_stride) {
    const int     heads     = dims->n_head / dims->n_head_kv;
    const int64_t kv_stride = (int64_t) dims->n_head_kv * dims->head_dim;
    float * scratch = scores.data() + (size_t) worker * QUERY_BLOCK_MAX * score_stride;
    const row_group & part    = blocks[task / dims->n_head_kv];
    const int     kv_head = task % dims->n_head_kv;
    const uint16_t * keys   = (const uint16_t *) kv->k(layer)->data + kv_head * dims->head_dim * KV_PAGE_CELLS;
    const uint16_t * values = (const uint16_t *) kv->v(layer)->data + kv_head * dims->head_dim;
    const paged_cells at = { kv->pages(rows->sequences[part.first_row]), KV_PAGE_CELLS, kv_stride };
    const float * qs[QUERY_BLOCK_MAX];
    float * outs[QUERY_BLOCK_MAX];
    int n_kv[QUERY_BLOCK_MAX];
    int n_q = 0;
    const auto flush = [&] {
        if (n_q > 0) {
            kernels->attend(qs, n_q, n_kv, keys, values, at, dims->head_dim,
                            1.0f / std::sqrt((float) dims->head_dim), scratch, score_stride, outs);
        }
        n_q = 0;
    };
    for (int i = 0; i < part.n_rows; ++i) {
        const int row = part.first_row + i;
        for (int head = kv_head * heads; head < (kv_head + 1) * heads; ++head) {
            qs[n_q]   = q + row * q_stride + (int64_t) head * dims->head_dim;
            outs[n_q] = out + row * out_stride + (int64_t) head * dims->head_dim;
            n_kv[n_q] = rows->positions[row] + 1;
            if (++n_q == QUERY_BLOCK_MAX) {
                flush();
            }
        }
    }
    flush();
}

} // namespace nozzle
