// The inner loops of a mixed-adapter step on the CPU, those of the base model apart:
//   expand   y[c] = scale · sum_r h[r] · Bt[r][c] one adapter's B against its own rows
//   attend   one query block of one sequence against that sequence's own KV cells
// Weights and KV are F16, everything else F32. The order of each sum depends on the row alone, never
// on its neighbours or on the number of threads, so a request's numbers do not change with company.
#pragma once

#include <cstdint>

#include "cpu/matrix-kernels.h"

namespace nozzle {

// Query rows that one attend call shares K and V loads between.
constexpr int QUERY_BLOCK_MAX = 8;

// Where a sequence's cells lie: cell j is cell j % page_cells of page pages[j / page_cells]. A page holds
// page_cells * kv_stride values of K and as many of V: V cell by cell, kv_stride values each; K head by
// head, [head_dim][page_cells], so that one register holds a value of many cells and no score needs a
// sum across lanes. page_cells is a multiple of CELLS_MIN.
constexpr int CELLS_MIN = 16;
struct paged_cells {
    const int32_t * pages;
    int             page_cells;
    int64_t         kv_stride;
};

struct kernel_set {
    const char * name;

    // bt: F16, rank rows with stride bt_stride values, columns [0, n_cols) of each;
    // h: n_rows pointers to F32 [rank]; y: n_rows pointers to F32 [n_cols].
    void (*expand)(const uint16_t * bt, int64_t bt_stride, int rank, int n_cols, float scale,
                   const float * const * h, float * const * y, int n_rows);

    // q: n_q pointers to F32 [head_dim]; n_kv[i]: cells that query i may see (>= 1); k, v: F16, the
    // head's first value in page 0; scores: n_q rows of score_stride floats (scratch), at least n_kv
    // rounded up to CELLS_MIN; out: n_q pointers to F32 [head_dim]. n_q <= QUERY_BLOCK_MAX. The bits do not depend on where the cells lie.
    void (*attend)(const float * const * q, int n_q, const int * n_kv, const uint16_t * k, const uint16_t * v,
                   const paged_cells & at, int head_dim, float qk_scale, float * scores, int64_t score_stride,
                   float * const * out);

    // F32 [n] to F16, to the nearest, `stride` values from one to the next.
    void (*to_half)(const float * in, int n, uint16_t * out, int64_t stride);

    const matrix_kernel_set * matrix;
};

// The best set this processor runs: avx512, avx2, neon or scalar.
const kernel_set & kernels_best();

// A set by name, nullptr when this build or processor does not have it (tests compare them all).
const kernel_set * kernels_by_name(const char * name);

} // namespace nozzle
