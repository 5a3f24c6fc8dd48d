// Compiled once per instruction set (see CMakeLists.txt); kernels-dispatch.cpp picks one at run time.
// Lengths that are not a multiple of the vector width end in a scalar loop of the same order.
#include "kernels.h"
#include "kernels-simd.h"

#include <algorithm>
#include <type_traits>

namespace nozzle {
namespace NOZZLE_SIMD_NAMESPACE {

// One F16 weight as F32, through the vector type's own conversion.
static float widen_one(const uint16_t * p) {
    uint16_t lane[vec::W] = { *p };
    float    wide[vec::W];
    vec::load_f16(lane).store(wide);
    return wide[0];
}

// N rows by V vectors of columns: every weight is widened once for all of them.
template <int N, int V>
static void expand_tile(const uint16_t * bt, int64_t bt_stride, int rank, float scale,
                        const float * const * h, float * const * y, int c) {
    vec acc[N][V];
    for (int i = 0; i < N; ++i) {
        for (int k = 0; k < V; ++k) {
            acc[i][k] = vec::zero();
        }
    }
    for (int r = 0; r < rank; ++r) {
        const uint16_t * row = bt + r * bt_stride + c;
        // The next columns of the row, which the processor does not foresee.
        for (int k = 0; k < V * vec::W; k += 32) {
            __builtin_prefetch(row + V * vec::W + k);
        }
        vec w[V];
        for (int k = 0; k < V; ++k) {
            w[k] = vec::load_f16(row + k * vec::W);
        }
        for (int i = 0; i < N; ++i) {
            const vec hr = vec::set(h[i][r]);
            for (int k = 0; k < V; ++k) {
                acc[i][k] = vec::fma(w[k], hr, acc[i][k]);
            }
        }
    }
    const vec s = vec::set(scale);
    for (int i = 0; i < N; ++i) {
        for (int k = 0; k < V; ++k) {
            vec::fma(s, acc[i][k], vec::zero()).store(y[i] + c + k * vec::W);
        }
    }
}

template <int N>
static void expand_rows(const uint16_t * bt, int64_t bt_stride, int rank, int n_cols, float scale,
                        const float * const * h, float * const * y) {
    int c = 0;
    for (; c + 4 * vec::W <= n_cols; c += 4 * vec::W) {
        expand_tile<N, 4>(bt, bt_stride, rank, scale, h, y, c);
    }
    for (; c + 2 * vec::W <= n_cols; c += 2 * vec::W) {
        expand_tile<N, 2>(bt, bt_stride, rank, scale, h, y, c);
    }
    for (; c + vec::W <= n_cols; c += vec::W) {
        expand_tile<N, 1>(bt, bt_stride, rank, scale, h, y, c);
    }
    for (; c < n_cols; ++c) {
        for (int i = 0; i < N; ++i) {
            float sum = 0;
            for (int r = 0; r < rank; ++r) {
                sum += widen_one(bt + r * bt_stride + c) * h[i][r];
            }
            y[i][c] = scale * sum;
        }
    }
}

static void expand(const uint16_t * bt, int64_t bt_stride, int rank, int n_cols, float scale,
                   const float * const * h, float * const * y, int n_rows) {
    int i = 0;
    for (; i + 4 <= n_rows; i += 4) {
        expand_rows<4>(bt, bt_stride, rank, n_cols, scale, h + i, y + i);
    }
    for (; i + 2 <= n_rows; i += 2) {
        expand_rows<2>(bt, bt_stride, rank, n_cols, scale, h + i, y + i);
    }
    for (; i < n_rows; ++i) {
        expand_rows<1>(bt, bt_stride, rank, n_cols, scale, h + i, y + i);
    }
}

// scores[j] = e^(scores[j] - max); returns 1 / sum. Lanes are summed in vector order.
static float soften(float * scores, int n) {
    vec top_lanes = vec::set(scores[0]);
    int t = 0;
    for (; t + vec::W <= n; t += vec::W) {
        top_lanes = vec::max(vec::load(scores + t), top_lanes);
    }
    float top = max_lanes(top_lanes);
    for (; t < n; ++t) {
        top = std::max(top, scores[t]);
    }
    for (int j = 0; j < n; ++j) {
        scores[j] = exp_negative(scores[j] - top);
    }
    vec acc = vec::zero();
    const vec one = vec::set(1.0f);
    int j = 0;
    for (; j + vec::W <= n; j += vec::W) {
        acc = vec::fma(vec::load(scores + j), one, acc);
    }
    float sum = sum_lanes(acc);
    for (; j < n; ++j) {
        sum += scores[j];
    }
    return 1.0f / sum;
}

// Calls visit(row, ahead, first cell, cells) for each page of cells [0, n_kv): `row` is the page's first
// row, `ahead` the next page's (or `row` again), to be fetched meanwhile: the processor sees a stream of
// rows only within a page.
template <class F> static inline void each_page(const uint16_t * rows, const paged_cells & at, int n_kv, F visit) {
    const int64_t page_stride = at.page_cells * at.kv_stride;
    for (int first = 0, page = 0; first < n_kv; first += at.page_cells, ++page) {
        const bool is_last = first + at.page_cells >= n_kv;
        visit(rows + at.pages[page] * page_stride, rows + at.pages[is_last ? page : page + 1] * page_stride, first,
              std::min(at.page_cells, n_kv - first));
    }
}

// Brings n values to the first cache level.
static inline void prefetch(const uint16_t * values, int n) {
    for (int d = 0; d < n; d += 32) {
        __builtin_prefetch(values + d);
    }
}

// Scores of N queries against cells [0, n_kv), C vectors of cells at a time: K is widened once for all
// queries. Lanes past the last cell come out as whatever lies there and are not read.
template <int N, int C>
static inline void score_cells(const float * const * q, const uint16_t * k, const uint16_t * ahead, int page_cells,
                               int head_dim, float qk_scale, float * scores, int64_t score_stride) {
    vec acc[N][C];
    for (int i = 0; i < N; ++i) {
        for (int c = 0; c < C; ++c) {
            acc[i][c] = vec::zero();
        }
    }
    for (int d = 0; d < head_dim; ++d) {
        __builtin_prefetch(ahead + (int64_t) d * page_cells);
        vec w[C];
        for (int c = 0; c < C; ++c) {
            w[c] = vec::load_f16(k + (int64_t) d * page_cells + c * vec::W);
        }
        for (int i = 0; i < N; ++i) {
            const vec x = vec::set(q[i][d]);
            for (int c = 0; c < C; ++c) {
                acc[i][c] = vec::fma(w[c], x, acc[i][c]);
            }
        }
    }
    const vec scale = vec::set(qk_scale);
    for (int i = 0; i < N; ++i) {
        for (int c = 0; c < C; ++c) {
            vec::fma(acc[i][c], scale, vec::zero()).store(scores + i * score_stride + c * vec::W);
        }
    }
}

template <int N>
static void score_queries(const float * const * q, int n_kv, const uint16_t * k, const paged_cells & at, int head_dim,
                          float qk_scale, float * scores, int64_t score_stride) {
    static constexpr int C = vec::W < 8 ? 1 : CELLS_MIN / vec::W; // vectors at a time
    each_page(k, at, n_kv, [&](const uint16_t * page, const uint16_t * ahead, int first, int n_cells) {
        for (int j = 0; j < n_cells; j += C * vec::W) {
            score_cells<N, C>(q, page + j, ahead + j, at.page_cells, head_dim, qk_scale, scores + first + j, score_stride);
        }
    });
}

// out = sum_j p[j] · V[j] for N queries, V vectors of columns at a time; one sum over all pages.
template <int N, int V>
static void mix_values(const float * scores, int64_t score_stride, int n_kv, const uint16_t * v, const paged_cells & at,
                       const float * inverse, float * const * out, int d) {
    vec acc[N][V];
    for (int i = 0; i < N; ++i) {
        for (int k = 0; k < V; ++k) {
            acc[i][k] = vec::zero();
        }
    }
    each_page(v + d, at, n_kv, [&](const uint16_t * row, const uint16_t * ahead, int first, int n_cells) {
        for (int j = first; j < first + n_cells; ++j, row += at.kv_stride, ahead += at.kv_stride) {
            prefetch(ahead, V * vec::W);
            vec w[V];
            for (int k = 0; k < V; ++k) {
                w[k] = vec::load_f16(row + k * vec::W);
            }
            for (int i = 0; i < N; ++i) {
                const vec p = vec::set(scores[i * score_stride + j]);
                for (int k = 0; k < V; ++k) {
                    acc[i][k] = vec::fma(w[k], p, acc[i][k]);
                }
            }
        }
    });
    for (int i = 0; i < N; ++i) {
        const vec s = vec::set(inverse[i]);
        for (int k = 0; k < V; ++k) {
            vec::fma(acc[i][k], s, vec::zero()).store(out[i] + d + k * vec::W);
        }
    }
}

template <int N>
static void attend_queries(const float * const * q, const int * n_kv, const uint16_t * k, const uint16_t * v,
                           const paged_cells & at, int head_dim, float qk_scale, float * scores, int64_t score_stride,
                           float * const * out) {
    const int n_max = *std::max_element(n_kv, n_kv + N);
    score_queries<N>(q, n_max, k, at, head_dim, qk_scale, scores, score_stride);
    float inverse[N];
    for (int i = 0; i < N; ++i) {
        float * row = scores + i * score_stride;
        inverse[i] = soften(row, n_kv[i]);
        // Cells after a query's own position weigh nothing.
        std::fill(row + n_kv[i], row + n_max, 0.0f);
    }
    int d = 0;
    // As many columns at once as there are registers to sum them in.
    if constexpr (N <= 4 && vec::W == 16) {
        for (; d + 4 * vec::W <= head_dim; d += 4 * vec::W) {
            mix_values<N, 4>(scores, score_stride, n_max, v, at, inverse, out, d);
        }
    }
    for (; d + 2 * vec::W <= head_dim; d += 2 * vec::W) {
        mix_values<N, 2>(scores, score_stride, n_max, v, at, inverse, out, d);
    }
    for (; d < head_dim; d += vec::W) {
        mix_values<N, 1>(scores, score_stride, n_max, v, at, inverse, out, d);
    }
}

static void attend(const float * const * q, int n_q, const int * n_kv, const uint16_t * k, const uint16_t * v,
                   const paged_cells & at, int head_dim, float qk_scale, float * scores, int64_t score_stride,
                   float * const * out) {
    const auto run = [&](auto block) {
        attend_queries<decltype(block)::value>(q, n_kv, k, v, at, head_dim, qk_scale, scores, score_stride, out);
    };
    switch (n_q) {
        case 1: return run(std::integral_constant<int, 1>{});
        case 2: return run(std::integral_constant<int, 2>{});
        case 3: return run(std::integral_constant<int, 3>{});
        case 4: return run(std::integral_constant<int, 4>{});
        case 5: return run(std::integral_constant<int, 5>{});
        case 6: return run(std::integral_constant<int, 6>{});
        case 7: return run(std::integral_constant<int, 7>{});
        default: return run(std::integral_constant<int, 8>{});
    }
}

static void to_half(const float * in, int n, uint16_t * out, int64_t stride) {
    int i = 0;
    for (; i + vec::W <= n && stride == 1; i += vec::W) {
        vec::load(in + i).store_f16(out + i);
    }
    uint16_t half[vec::W];
    for (; i < n; i += vec::W) {
        float lane[vec::W] = {};
        const int count = std::min(vec::W, n - i);
        std::copy(in + i, in + i + count, lane);
        vec::load(lane).store_f16(half);
        for (int j = 0; j < count; ++j) {
            out[(i + j) * stride] = half[j];
        }
    }
}

extern const matrix_kernel_set matrix_kernels;
extern const kernel_set kernels;
const kernel_set kernels = { NOZZLE_SIMD_NAME, expand, attend, to_half, &matrix_kernels };

} // namespace NOZZLE_SIMD_NAMESPACE
} // namespace nozzle
