// One vector register type for kernels.cpp, chosen by the flags the file is compiled with.
// W lanes of F32; F16 and BF16 are widened as they are read.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "ggml.h"

#if defined(NOZZLE_SIMD_AVX512) || defined(NOZZLE_SIMD_AVX2)
#include <immintrin.h>
#elif defined(NOZZLE_SIMD_NEON)
#include <arm_neon.h>
#endif

namespace nozzle {
namespace NOZZLE_SIMD_NAMESPACE {

#if defined(NOZZLE_SIMD_AVX512)
struct vec {
    static constexpr int W = 16;
    __m512 v;
    static vec zero() { return { _mm512_setzero_ps() }; }
    static vec set(float x) { return { _mm512_set1_ps(x) }; }
    static vec load(const float * p) { return { _mm512_loadu_ps(p) }; }
    static vec load_f16(const uint16_t * p) {
        return { _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p)) };
    }
    static vec load_bf16(const uint16_t * p) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) p));
        return { _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)) };
    }
    void store(float * p) const { _mm512_storeu_ps(p, v); }
    void store_f16(uint16_t * p) const {
        _mm256_storeu_si256((__m256i *) p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
    static vec fma(vec a, vec b, vec c) { return { _mm512_fmadd_ps(a.v, b.v, c.v) }; }
    static vec max(vec a, vec b) { return { _mm512_max_ps(a.v, b.v) }; }
    vec abs() const { return { _mm512_abs_ps(v) }; }
};
#elif defined(NOZZLE_SIMD_AVX2)
struct vec {
    static constexpr int W = 8;
    __m256 v;
    static vec zero() { return { _mm256_setzero_ps() }; }
    static vec set(float x) { return { _mm256_set1_ps(x) }; }
    static vec load(const float * p) { return { _mm256_loadu_ps(p) }; }
    static vec load_f16(const uint16_t * p) { return { _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p)) }; }
    static vec load_bf16(const uint16_t * p) {
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) p));
        return { _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)) };
    }
    void store(float * p) const { _mm256_storeu_ps(p, v); }
    void store_f16(uint16_t * p) const {
        _mm_storeu_si128((__m128i *) p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
    static vec fma(vec a, vec b, vec c) { return { _mm256_fmadd_ps(a.v, b.v, c.v) }; }
    static vec max(vec a, vec b) { return { _mm256_max_ps(a.v, b.v) }; }
    vec abs() const { return { _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v) }; }
};
#elif defined(NOZZLE_SIMD_NEON)
struct vec {
    static constexpr int W = 4;
    float32x4_t v;
    static vec zero() { return { vdupq_n_f32(0) }; }
    static vec set(float x) { return { vdupq_n_f32(x) }; }
    static vec load(const float * p) { return { vld1q_f32(p) }; }
    static vec load_f16(const uint16_t * p) { return { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))) }; }
    static vec load_bf16(const uint16_t * p) {
        return { vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16(p)), 16)) };
    }
    void store(float * p) const { vst1q_f32(p, v); }
    void store_f16(uint16_t * p) const { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
    static vec fma(vec a, vec b, vec c) { return { vfmaq_f32(c.v, a.v, b.v) }; }
    static vec max(vec a, vec b) { return { vmaxq_f32(a.v, b.v) }; }
    vec abs() const { return { vabsq_f32(v) }; }
};
#else
struct vec {
    static constexpr int W = 1;
    float v;
    static vec zero() { return { 0 }; }
    static vec set(float x) { return { x }; }
    static vec load(const float * p) { return { *p }; }
    static vec load_f16(const uint16_t * p) { return { ggml_fp16_to_fp32(*p) }; }
    static vec load_bf16(const uint16_t * p) {
        const uint32_t bits = (uint32_t) *p << 16;
        vec out;
        memcpy(&out.v, &bits, sizeof(bits));
        return out;
    }
    void store(float * p) const { *p = v; }
    void store_f16(uint16_t * p) const { *p = ggml_fp32_to_fp16(v); }
    static vec fma(vec a, vec b, vec c) { return { a.v * b.v + c.v }; }
    static vec max(vec a, vec b) { return { a.v > b.v ? a.v : b.v }; }
    vec abs() const { return { std::fabs(v) }; }
};
#endif

// Sum of the lanes: halves are added to each other until one is left.
inline float sum_lanes(vec a) {
#if defined(NOZZLE_SIMD_AVX512)
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.v),
                                      _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1)));
#elif defined(NOZZLE_SIMD_AVX2)
    const __m256 half = a.v;
#endif
#if defined(NOZZLE_SIMD_AVX512) || defined(NOZZLE_SIMD_AVX2)
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    x = _mm_add_ss(x, _mm_movehdup_ps(x));
    return _mm_cvtss_f32(x);
#else
    float lane[vec::W];
    a.store(lane);
    for (int width = vec::W / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; ++i) {
            lane[i] += lane[i + width];
        }
    }
    return lane[0];
#endif
}

// Largest lane; NaN may or may not win.
inline float max_lanes(vec a) {
    float lane[vec::W];
    a.store(lane);
    float out = lane[0];
    for (int i = 1; i < vec::W; ++i) {
        out = lane[i] > out ? lane[i] : out;
    }
    return out;
}

// e^x for x <= 0 to about 2 ulp: 2^n · p(r), r in [-ln2/2, ln2/2], p the Taylor polynomial of
// degree 7. Branch-free so that the compiler vectorises the loops that call it.
static inline float exp_negative(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float shifted = x * 1.44269504f + 12582912.0f; // 1.5 · 2^23: rounds to an integer
    const float n = shifted - 12582912.0f;
    float r = x - n * 0.693145752f;
    r -= n * 1.42860677e-6f;
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    // n as an integer, from the bits of the rounded sum: a conversion of NaN would be undefined.
    uint32_t exponent;
    memcpy(&exponent, &shifted, sizeof(exponent));
    exponent = (exponent - 0x4b400000u + 127u) << 23;
    float scale;
    memcpy(&scale, &exponent, sizeof(scale));
    return p * scale;
}

} // namespace NOZZLE_SIMD_NAMESPACE
} // namespace nozzle
