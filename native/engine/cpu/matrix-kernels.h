// Inner loops of the base model on the CPU. Integer weights lie in tiles of 16 output rows so that one
// register holds four inputs of each; activations are rounded to 8 bits per block of 32, as ggml does
// for these types. Shrinking a row by an adapter's A is multiply_float. A row's sums have one order, whatever other rows run beside it.
#pragma once

#include <cstdint>

namespace nozzle {

constexpr int MATRIX_BLOCK = 32; // inputs that share a scale
constexpr int MATRIX_TILE  = 16; // outputs of a tile

// One activation row of n_blocks * MATRIX_BLOCK values: x = d · q.
struct quantised_row {
    const int8_t  * q;       // [n_in], -127..127
    const float   * d;       // [n_blocks]
    const int32_t * q_sum;   // [n_blocks], sum of q
    const float   * x_sum;   // [n_blocks], d · q_sum
};

// A tile of 16 outputs: w = d · (q - offset) + m.
struct integer_tile {
    const uint8_t  * q;      // 8 bit: [n_blocks][8 groups of 4 inputs][16 outputs][4 inputs];
                             // 4 bit: [n_blocks][4][16][4], low nibble = group g, high = group g + 4
    const uint16_t * d;      // F16 [n_blocks][16]
    const uint16_t * m;      // F16 [n_blocks][16]; nullptr = 0
    int              n_blocks;
    int              offset;
};

enum class float_type { f16, bf16, f32 };

struct matrix_kernel_set {
    // Rounds F32 [n_in] to a quantised row. n_in is a multiple of MATRIX_BLOCK.
    void (*quantise)(const float * x, int n_in, int8_t * q, float * d, int32_t * q_sum, float * x_sum);

    // y[i][0..15] = tile · row i.
    void (*multiply_8bit)(const integer_tile & tile, const quantised_row * rows, float * const * y, int n_rows);
    void (*multiply_4bit)(const integer_tile & tile, const quantised_row * rows, float * const * y, int n_rows);

    // y[i][0..n_out-1] = w · x[i]; w: n_out rows of n_in values, one after the other.
    void (*multiply_float)(float_type type, const void * w, int n_in, int n_out, const float * const * x,
                           float * const * y, int n_rows);

    // out = x / rms(x) · weight; all F32 [n].
    void (*rms_norm)(const float * x, const float * weight, float epsilon, int n, float * out);

    // False when x holds NaN or Inf; else `best` is the place of the largest of F32 [n], the first of
    // equals.
    bool (*find_best)(const float * x, int n, int * best);

    // gate = silu(gate) · up; all F32 [n].
    void (*swiglu)(float * gate, const float * up, int n);
};

} // namespace nozzle
