// Compiled once per instruction set, as ../kernels.cpp is.
#include "matrix-kernels.h"
#include "../kernels-simd.h"

#include <algorithm>
#include <cmath>

namespace nozzle {
namespace NOZZLE_SIMD_NAMESPACE {

// ---- rounding activations ---------------------------------------------------------------------------

static void quantise(const float * x, int n_in, int8_t * q, float * d, int32_t * q_sum, float * x_sum) {
    for (int b = 0; b < n_in / MATRIX_BLOCK; ++b) {
        const float * in  = x + b * MATRIX_BLOCK;
        int8_t      * out = q + b * MATRIX_BLOCK;
        vec top_lanes = vec::zero();
        for (int i = 0; i < MATRIX_BLOCK; i += vec::W) {
            top_lanes = vec::max(vec::load(in + i).abs(), top_lanes);
        }
        const float top     = max_lanes(top_lanes);
        const float scale   = top / 127.0f;
        const float inverse = top > 0 ? 127.0f / top : 0.0f;
        int32_t sum = 0;
        for (int i = 0; i < MATRIX_BLOCK; ++i) {
            // 1.5 · 2^23: adding it rounds to the nearest integer and leaves it in the low bits. A NaN
            // gives some number; its scale is NaN too, so the row stays marked.
            const float shifted = in[i] * inverse + 12582912.0f;
            int32_t bits;
            memcpy(&bits, &shifted, sizeof(bits));
            const int8_t value = (int8_t) (bits & 0xff);
            out[i] = value;
            sum += value;
        }
        // max() drops NaN: put it back, so that a broken row cannot look sound.
        vec trace = vec::zero();
        for (int i = 0; i < MATRIX_BLOCK; i += vec::W) {
            trace = vec::fma(vec::load(in + i), vec::zero(), trace);
        }
        d[b]     = scale + sum_lanes(trace);
        q_sum[b] = sum;
        x_sum[b] = d[b] * (float) sum;
    }
}

// ---- integer weights --------------------------------------------------------------------------------

#if defined(NOZZLE_SIMD_AVX512) || defined(NOZZLE_SIMD_AVX2)
static int32_t four_at(const int8_t * q) {
    int32_t x4;
    memcpy(&x4, q, sizeof(x4));
    return x4;
}
#endif

// 16 lanes of I32, one per output of the tile, and the products of one group of four inputs.
#if defined(NOZZLE_SIMD_AVX512)
struct lanes {
    static constexpr int SHIFT = 0; // what dot takes off the unsigned weight
    __m512i v;
    static lanes set(int32_t x) { return { _mm512_set1_epi32(x) }; }
    void dot(__m512i w, int32_t x4) { v = _mm512_dpbusd_epi32(v, w, _mm512_set1_epi32(x4)); }
};
struct weights8 {
    __m512i group[8];
    void load(const uint8_t * q) {
        for (int g = 0; g < 8; ++g) {
            group[g] = _mm512_loadu_si512(q + g * 64);
        }
    }
};
struct weights4 {
    __m512i group[8];
    void load(const uint8_t * q) {
        const __m512i low = _mm512_set1_epi8(0x0f);
        for (int g = 0; g < 4; ++g) {
            const __m512i both = _mm512_loadu_si512(q + g * 64);
            group[g]     = _mm512_and_si512(both, low);
            group[g + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
        }
    }
};
struct sums {
    __m512 v;
    static sums zero() { return { _mm512_setzero_ps() }; }
    static sums load_f16(const uint16_t * p) { return { _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p)) }; }
    // v += x · (a · s)
    void add(lanes x, sums a, float s) {
        v = _mm512_fmadd_ps(_mm512_cvtepi32_ps(x.v), _mm512_mul_ps(a.v, _mm512_set1_ps(s)), v);
    }
    void add(sums a, float s) { v = _mm512_fmadd_ps(a.v, _mm512_set1_ps(s), v); }
    void store(float * p) const { _mm512_storeu_ps(p, v); }
};
#elif defined(NOZZLE_SIMD_AVX2)
struct lanes {
    // Pairs are summed in 16 bits, which a full unsigned byte overflows: 8-bit weights are made signed.
    static constexpr int SHIFT = 128;
    __m256i v[2];
    static lanes set(int32_t x) { return { { _mm256_set1_epi32(x), _mm256_set1_epi32(x) } }; }
};
struct sums {
    __m256 v[2];
    static sums zero() { return { { _mm256_setzero_ps(), _mm256_setzero_ps() } }; }
    static sums load_f16(const uint16_t * p) {
        return { { _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p)),
                   _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) (p + 8))) } };
    }
    void add(lanes x, sums a, float s) {
        for (int h = 0; h < 2; ++h) {
            v[h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(x.v[h]), _mm256_mul_ps(a.v[h], _mm256_set1_ps(s)), v[h]);
        }
    }
    void add(sums a, float s) {
        for (int h = 0; h < 2; ++h) {
            v[h] = _mm256_fmadd_ps(a.v[h], _mm256_set1_ps(s), v[h]);
        }
    }
    void store(float * p) const {
        _mm256_storeu_ps(p, v[0]);
        _mm256_storeu_ps(p + 8, v[1]);
    }
};
#else
struct lanes {
    static constexpr int SHIFT = 0;
    int32_t v[16];
    static lanes set(int32_t x) {
        lanes out;
        std::fill(out.v, out.v + 16, x);
        return out;
    }
};
struct sums {
    float v[16];
    static sums zero() { return { {} }; }
    static sums load_f16(const uint16_t * p) {
        sums out;
        for (int o = 0; o < 16; ++o) {
            out.v[o] = ggml_fp16_to_fp32(p[o]);
        }
        return out;
    }
    void add(const lanes & x, const sums & a, float s) {
        for (int o = 0; o < 16; ++o) {
            v[o] += (float) x.v[o] * (a.v[o] * s);
        }
    }
    void add(const sums & a, float s) {
        for (int o = 0; o < 16; ++o) {
            v[o] += a.v[o] * s;
        }
    }
    void store(float * p) const { std::copy(v, v + 16, p); }
};
#endif

#if defined(NOZZLE_SIMD_AVX512)
template <class W> struct block_weights : W {
    lanes dot(const int8_t * x, lanes acc) const {
        for (int g = 0; g < 8; ++g) {
            acc.dot(this->group[g], four_at(x + g * 4));
        }
        return acc;
    }
};
using block8 = block_weights<weights8>;
using block4 = block_weights<weights4>;
static constexpr int SHIFT8 = 0, SHIFT4 = 0;
#elif defined(NOZZLE_SIMD_AVX2)
struct block8 {
    const uint8_t * q;
    void load(const uint8_t * p) { q = p; }
    lanes dot(const int8_t * x, lanes acc) const {
        const __m256i sign = _mm256_set1_epi8((char) 0x80), ones = _mm256_set1_epi16(1);
        for (int g = 0; g < 8; ++g) {
            const __m256i x4 = _mm256_set1_epi32(four_at(x + g * 4));
            for (int h = 0; h < 2; ++h) {
                const __m256i w = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *) (q + g * 64 + h * 32)), sign);
                const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x4, w));
                acc.v[h] = _mm256_add_epi32(acc.v[h], _mm256_madd_epi16(pairs, ones));
            }
        }
        return acc;
    }
};
struct block4 {
    const uint8_t * q;
    void load(const uint8_t * p) { q = p; }
    lanes dot(const int8_t * x, lanes acc) const {
        const __m256i low = _mm256_set1_epi8(0x0f), ones = _mm256_set1_epi16(1);
        for (int h = 0; h < 2; ++h) {
            // 8 groups of at most 2 · 15 · 127 fit 16 bits.
            __m256i pairs = _mm256_setzero_si256();
            for (int g = 0; g < 4; ++g) {
                const __m256i both = _mm256_loadu_si256((const __m256i *) (q + g * 64 + h * 32));
                const __m256i w0 = _mm256_and_si256(both, low);
                const __m256i w1 = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
                pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w0, _mm256_set1_epi32(four_at(x + g * 4))));
                pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w1, _mm256_set1_epi32(four_at(x + g * 4 + 16))));
            }
            acc.v[h] = _mm256_add_epi32(acc.v[h], _mm256_madd_epi16(pairs, ones));
        }
        return acc;
    }
};
static constexpr int SHIFT8 = 128, SHIFT4 = 0;
#else
struct block8 {
    const uint8_t * q;
    void load(const uint8_t * p) { q = p; }
    lanes dot(const int8_t * x, lanes acc) const {
        for (int g = 0; g < 8; ++g) {
            for (int o = 0; o < 16; ++o) {
                for (int i = 0; i < 4; ++i) {
                    acc.v[o] += (int32_t) q[g * 64 + o * 4 + i] * x[g * 4 + i];
                }
            }
        }
        return acc;
    }
};
struct block4 {
    const uint8_t * q;
    void load(const uint8_t * p) { q = p; }
    lanes dot(const int8_t * x, lanes acc) const {
        for (int g = 0; g < 4; ++g) {
            for (int o = 0; o < 16; ++o) {
                for (int i = 0; i < 4; ++i) {
                    const uint8_t both = q[g * 64 + o * 4 + i];
                    acc.v[o] += (both & 0x0f) * x[g * 4 + i] + (both >> 4) * x[g * 4 + 16 + i];
                }
            }
        }
        return acc;
    }
};
static constexpr int SHIFT8 = 0, SHIFT4 = 0;
#endif

// How far ahead of its use a tile is asked for.
static constexpr int PREFETCH_BYTES = 2048;

// N rows against one tile: every block's weights are unpacked once for all of them.
template <class W, int BYTES, int SHIFT, int N>
static void multiply_tile(const integer_tile & t, const quantised_row * rows, float * const * y) {
    sums acc[N];
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
        acc[i] = sums::zero();
    }
    for (int b = 0; b < t.n_blocks; ++b) {
        // A block is computed about as fast as it arrives; tiles follow each other in memory.
        for (int line = 0; line < BYTES; line += 64) {
            __builtin_prefetch(t.q + (int64_t) b * BYTES + PREFETCH_BYTES + line);
        }
        W w;
        w.load(t.q + (int64_t) b * BYTES);
        const sums d = sums::load_f16(t.d + b * MATRIX_TILE);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) {
            const lanes start = lanes::set((SHIFT - t.offset) * rows[i].q_sum[b]);
            acc[i].add(w.dot(rows[i].q + b * MATRIX_BLOCK, start), d, rows[i].d[b]);
        }
        if (t.m) {
            const sums m = sums::load_f16(t.m + b * MATRIX_TILE);
#pragma GCC unroll 8
            for (int i = 0; i < N; ++i) {
                acc[i].add(m, rows[i].x_sum[b]);
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
        acc[i].store(y[i]);
    }
}

template <class W, int BYTES, int SHIFT>
static void multiply_rows(const integer_tile & t, const quantised_row * rows, float * const * y, int n_rows) {
    int i = 0;
    for (; i + 8 <= n_rows; i += 8) {
        multiply_tile<W, BYTES, SHIFT, 8>(t, rows + i, y + i);
    }
    for (; i + 4 <= n_rows; i += 4) {
        multiply_tile<W, BYTES, SHIFT, 4>(t, rows + i, y + i);
    }
    for (; i + 2 <= n_rows; i += 2) {
        multiply_tile<W, BYTES, SHIFT, 2>(t, rows + i, y + i);
    }
    for (; i < n_rows; ++i) {
        multiply_tile<W, BYTES, SHIFT, 1>(t, rows + i, y + i);
    }
}

static void multiply_8bit(const integer_tile & t, const quantised_row * rows, float * const * y, int n_rows) {
    multiply_rows<block8, 512, SHIFT8>(t, rows, y, n_rows);
}

static void multiply_4bit(const integer_tile & t, const quantised_row * rows, float * const * y, int n_rows) {
    multiply_rows<block4, 256, SHIFT4>(t, rows, y, n_rows);
}

// ---- float weights ----------------------------------------------------------------------------------

struct as_f16 {
    using value = uint16_t;
    static vec load(const value * p) { return vec::load_f16(p); }
};
struct as_bf16 {
    using value = uint16_t;
    static vec load(const value * p) { return vec::load_bf16(p); }
};
struct as_f32 {
    using value = float;
    static vec load(const value * p) { return vec::load(p); }
};

template <class T> static float widen(const typename T::value * p) {
    typename T::value lane[vec::W] = { *p };
    float wide[vec::W];
    T::load(lane).store(wide);
    return wide[0];
}

// O outputs by N rows, one accumulator each: the sum of an element has the same order in every shape.
template <class T, int O, int N>
static void dot_tile(const typename T::value * w, int n_in, const float * const * x, float * const * y, int o) {
    vec acc[O][N];
    for (int k = 0; k < O; ++k) {
        for (int i = 0; i < N; ++i) {
            acc[k][i] = vec::zero();
        }
    }
    int c = 0;
    for (; c + vec::W <= n_in; c += vec::W) {
        vec in[N];
        for (int i = 0; i < N; ++i) {
            in[i] = vec::load(x[i] + c);
        }
        for (int k = 0; k < O; ++k) {
            // The same place O rows on: the next tile, or the next task's.
            if (O > 1 && c * sizeof(typename T::value) % 64 == 0) {
                __builtin_prefetch(w + (int64_t) (k + O) * n_in + c);
            }
            const vec weight = T::load(w + (int64_t) k * n_in + c);
            for (int i = 0; i < N; ++i) {
                acc[k][i] = vec::fma(weight, in[i], acc[k][i]);
            }
        }
    }
    for (int k = 0; k < O; ++k) {
        for (int i = 0; i < N; ++i) {
            float sum = sum_lanes(acc[k][i]);
            for (int t = c; t < n_in; ++t) {
                sum += widen<T>(w + (int64_t) k * n_in + t) * x[i][t];
            }
            y[i][o + k] = sum;
        }
    }
}

template <class T, int O, int N>
static void dot_rows(const void * weights, int n_in, int n_out, const float * const * x, float * const * y) {
    const auto * w = (const typename T::value *) weights;
    int o = 0;
    for (; o + O <= n_out; o += O) {
        dot_tile<T, O, N>(w + (int64_t) o * n_in, n_in, x, y, o);
    }
    for (; o < n_out; ++o) {
        dot_tile<T, 1, N>(w + (int64_t) o * n_in, n_in, x, y, o);
    }
}

template <class T>
static void multiply_as(const void * w, int n_in, int n_out, const float * const * x, float * const * y, int n_rows) {
    int i = 0;
    for (; i + 4 <= n_rows; i += 4) {
        dot_rows<T, 4, 4>(w, n_in, n_out, x + i, y + i);
    }
    for (; i + 2 <= n_rows; i += 2) {
        dot_rows<T, 4, 2>(w, n_in, n_out, x + i, y + i);
    }
    for (; i < n_rows; ++i) {
        dot_rows<T, 8, 1>(w, n_in, n_out, x + i, y + i);
    }
}

static void multiply_float(float_type type, const void * w, int n_in, int n_out, const float * const * x,
                           float * const * y, int n_rows) {
    switch (type) {
        case float_type::f16:  return multiply_as<as_f16>(w, n_in, n_out, x, y, n_rows);
        case float_type::bf16: return multiply_as<as_bf16>(w, n_in, n_out, x, y, n_rows);
        case float_type::f32:  return multiply_as<as_f32>(w, n_in, n_out, x, y, n_rows);
    }
}

// ---- norms and activations --------------------------------------------------------------------------

static void rms_norm(const float * x, const float * weight, float epsilon, int n, float * out) {
    vec acc = vec::zero();
    int c = 0;
    for (; c + vec::W <= n; c += vec::W) {
        const vec v = vec::load(x + c);
        acc = vec::fma(v, v, acc);
    }
    double sum = sum_lanes(acc);
    for (; c < n; ++c) {
        sum += (double) x[c] * x[c];
    }
    const float scale = 1.0f / std::sqrt((float) (sum / n) + epsilon);
    for (int i = 0; i < n; ++i) {
        out[i] = x[i] * scale * weight[i];
    }
}

static bool find_best(const float * x, int n, int * best) {
    vec tops = vec::set(x[0]), trace = vec::zero();
    int i = 0;
    for (; i + vec::W <= n; i += vec::W) {
        const vec v = vec::load(x + i);
        tops  = vec::max(v, tops);
        trace = vec::fma(v, vec::zero(), trace); // 0, or NaN for good
    }
    float top = max_lanes(tops), rest = sum_lanes(trace);
    for (; i < n; ++i) {
        top = x[i] > top ? x[i] : top;
        rest += x[i] * 0.0f;
    }
    *best = 0;
    if (rest != 0.0f) {
        return false;
    }
    while (x[*best] != top) {
        ++*best;
    }
    return true;
}

static void swiglu(float * gate, const float * up, int n) {
    for (int i = 0; i < n; ++i) {
        const float g = gate[i];
        const float t = exp_negative(-std::fabs(g));
        const float sigmoid = (g >= 0 ? 1.0f : t) / (1.0f + t);
        // NaN passes: a comparison with it is false, the product is not.
        gate[i] = g * sigmoid * up[i];
    }
}

extern const matrix_kernel_set matrix_kernels;
const matrix_kernel_set matrix_kernels = { quantise, multiply_8bit, multiply_4bit, multiply_float, rms_norm,
                                           find_best, swiglu };

} // namespace NOZZLE_SIMD_NAMESPACE
} // namespace nozzle
