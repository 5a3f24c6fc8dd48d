// One vector register type for kernels.cpp, chosen by the flags the file is compiled with.
// W lanes of F32; F16 is read and widened, never stored.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

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
    void store(float * p) const { _mm512_storeu_ps(p, v); }
    static vec fma(vec a, vec b, vec c) { return { _mm512_fmadd_ps(a.v, b.v, c.v) }; }
};
#elif defined(NOZZLE_SIMD_AVX2)
struct vec {
    static constexpr int W = 8;
    __m256 v;
    static vec zero() { return { _mm256_setzero_ps() }; }
    static vec set(float x) { return { _mm256_set1_ps(x) }; }
    static vec load(const float * p) { return { _mm256_loadu_ps(p) }; }
    static vec load_f16(const uint16_t * p) { return { _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p)) }; }
    void store(float * p) const { _mm256_storeu_ps(p, v); }
    static vec fma(vec a, vec b, vec c) { return { _mm256_fmadd_ps(a.v, b.v, c.v) }; }
};
#elif defined(NOZZLE_SIMD_NEON)
struct vec {
    static constexpr int W = 4;
    float32x4_t v;
    static vec zero() { return { vdupq_n_f32(0) }; }
    static vec set(float x) { return { vdupq_n_f32(x) }; }
    static vec load(const float * p) { return { vld1q_f32(p) }; }
    static vec load_f16(const uint16_t * p) { return { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))) }; }
    void store(float * p) const { vst1q_f32(p, v); }
    static vec fma(vec a, vec b, vec c) { return { vfmaq_f32(c.v, a.v, b.v) }; }
};
#else
// IEEE 754 binary16 to binary32, by bits; subnormals through a multiplication.
inline float widen_f16(uint16_t h) {
    const uint32_t sign = (uint32_t) (h & 0x8000) << 16;
    const uint32_t exponent = (h >> 10) & 0x1f;
    uint32_t bits = sign | ((uint32_t) (h & 0x7fff) << 13);
    if (exponent == 0x1f) {
        bits |= 0x7f800000u;
    } else {
        bits += 112u << 23;
    }
    float out;
    if (exponent == 0) {
        out = (float) (h & 0x3ff) * 0x1p-24f;
        return sign ? -out : out;
    }
    memcpy(&out, &bits, sizeof(out));
    return out;
}
struct vec {
    static constexpr int W = 1;
    float v;
    static vec zero() { return { 0 }; }
    static vec set(float x) { return { x }; }
    static vec load(const float * p) { return { *p }; }
    static vec load_f16(const uint16_t * p) { return { widen_f16(*p) }; }
    void store(float * p) const { *p = v; }
    static vec fma(vec a, vec b, vec c) { return { a.v * b.v + c.v }; }
};
#endif

// Sum of the lanes, always in the same pairwise order.
inline float sum_lanes(vec a) {
    float lane[vec::W];
    a.store(lane);
    for (int width = vec::W / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; ++i) {
            lane[i] += lane[i + width];
        }
    }
    return lane[0];
}

} // namespace NOZZLE_SIMD_NAMESPACE
} // namespace nozzle
