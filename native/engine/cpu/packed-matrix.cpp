#include "packed-matrix.h"

#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>
#include <cstring>

namespace nozzle {

// ---- activations ------------------------------------------------------------------------------------

void activation_rows::allocate(int n_rows_max, int width, const std::vector<row_form> & forms, cpu_traits_fn traits) {
    n_in   = width;
    values = std::make_unique<float[]>((size_t) n_rows_max * n_in);
    for (const row_form & form : forms) {
        if (form.kind == row_form::quantised && !has_quantised) {
            const size_t blocks = (size_t) n_rows_max * (n_in / MATRIX_BLOCK);
            has_quantised = true;
            q     = std::make_unique<int8_t[]>((size_t) n_rows_max * n_in);
            d     = std::make_unique<float[]>(blocks);
            x_sum = std::make_unique<float[]>(blocks);
            q_sum = std::make_unique<int32_t[]>(blocks);
        }
        const bool is_known = std::any_of(ggml_forms.begin(), ggml_forms.end(),
                                          [&](const ggml_rows & g) { return g.type == form.ggml_type; });
        if (form.kind == row_form::ggml && !is_known) {
            const size_t row_bytes = ggml_row_size((ggml_type) form.ggml_type, n_in);
            ggml_forms.push_back({ form.ggml_type, row_bytes, std::make_unique<uint8_t[]>(n_rows_max * row_bytes),
                                   traits(form.ggml_type)->from_float });
        }
    }
}

void activation_rows::round(int row, const matrix_kernel_set & kernels) {
    if (has_quantised) {
        const size_t block = (size_t) row * (n_in / MATRIX_BLOCK);
        kernels.quantise(f32(row), n_in, q.get() + (size_t) row * n_in, d.get() + block, q_sum.get() + block,
                         x_sum.get() + block);
    }
    for (ggml_rows & form : ggml_forms) {
        uint8_t * out = form.data.get() + row * form.row_bytes;
        if (form.from_float) {
            form.from_float(f32(row), out, n_in);
        } else {
            memcpy(out, f32(row), form.row_bytes); // F32 rows
        }
    }
}

quantised_row activation_rows::quantised(int row) const {
    const size_t block = (size_t) row * (n_in / MATRIX_BLOCK);
    return { q.get() + (size_t) row * n_in, d.get() + block, q_sum.get() + block, x_sum.get() + block };
}

const void * activation_rows::rounded(int row, int type) const {
    for (const ggml_rows & form : ggml_forms) {
        if (form.type == type) {
            return form.data.get() + row * form.row_bytes;
        }
    }
    return nullptr;
}

// ---- weights ----------------------------------------------------------------------------------------

// One block of 32 weights as the tiles hold it: w = d · (q - offset) + m.
struct block_values {
    uint8_t  q[MATRIX_BLOCK];
    uint16_t d; // F16
    uint16_t m; // F16
};

static uint16_t half_at(const uint8_t * p) {
    uint16_t h;
    memcpy(&h, p, sizeof(h));
    return h;
}

static uint16_t half_product(uint16_t half, int factor) {
    return ggml_fp32_to_fp16(ggml_fp16_to_fp32(half) * (float) factor);
}

// Nibbles of ggml's 32-blocks: value i in the low half of byte i, value i + 16 in its high half.
static void unpack_nibbles(const uint8_t * in, uint8_t * out) {
    for (int i = 0; i < 16; ++i) {
        out[i]      = in[i] & 0x0f;
        out[i + 16] = in[i] >> 4;
    }
}

// The fifth bits of ggml's Q5_0 and Q5_1: bit i of a little-endian word belongs to value i.
static void add_fifth_bits(const uint8_t * in, uint8_t * out) {
    uint32_t bits;
    memcpy(&bits, in, sizeof(bits));
    for (int i = 0; i < MATRIX_BLOCK; ++i) {
        out[i] |= ((bits >> i) & 1) << 4;
    }
}

// 6-bit scale and min number `j` of 8 in the 12 bytes of ggml's Q4_K and Q5_K.
static void unpack_scale_min(int j, const uint8_t * packed, int * scale, int * min) {
    if (j < 4) {
        *scale = packed[j] & 63;
        *min   = packed[j + 4] & 63;
    } else {
        *scale = (packed[j + 4] & 0x0f) | ((packed[j - 4] >> 6) << 4);
        *min   = (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4);
    }
}

// Block `index` of an output's weights. Formats: ggml's block_q* structures of the pinned release.
static void read_block(int type, const uint8_t * row, int index, block_values & out) {
    out.m = 0;
    switch (type) {
        case GGML_TYPE_Q4_0: {
            const uint8_t * b = row + index * 18;
            out.d = half_at(b);
            unpack_nibbles(b + 2, out.q);
            return;
        }
        case GGML_TYPE_Q4_1: {
            const uint8_t * b = row + index * 20;
            out.d = half_at(b);
            out.m = half_at(b + 2);
            unpack_nibbles(b + 4, out.q);
            return;
        }
        case GGML_TYPE_Q5_0: {
            const uint8_t * b = row + index * 22;
            out.d = half_at(b);
            unpack_nibbles(b + 6, out.q);
            add_fifth_bits(b + 2, out.q);
            return;
        }
        case GGML_TYPE_Q5_1: {
            const uint8_t * b = row + index * 24;
            out.d = half_at(b);
            out.m = half_at(b + 2);
            unpack_nibbles(b + 8, out.q);
            add_fifth_bits(b + 4, out.q);
            return;
        }
        case GGML_TYPE_Q8_0: {
            const uint8_t * b = row + index * 34;
            out.d = half_at(b);
            for (int i = 0; i < MATRIX_BLOCK; ++i) {
                out.q[i] = b[2 + i] ^ 0x80;
            }
            return;
        }
        default: { // Q4_K, Q5_K: 8 blocks of 32 in 256, pairs of blocks share bytes
            const bool has_fifth = type == GGML_TYPE_Q5_K;
            const uint8_t * b = row + (index / 8) * (has_fifth ? 176 : 144);
            const int part = index % 8;
            int scale, min;
            unpack_scale_min(part, b + 4, &scale, &min);
            out.d = half_product(half_at(b), scale);
            out.m = half_product(half_at(b + 2), -min);
            const uint8_t * fifths  = b + 16;
            const uint8_t * nibbles = b + (has_fifth ? 48 : 16) + (part / 2) * 32;
            for (int i = 0; i < MATRIX_BLOCK; ++i) {
                out.q[i] = part % 2 == 0 ? nibbles[i] & 0x0f : nibbles[i] >> 4;
                if (has_fifth) {
                    out.q[i] |= ((fifths[i] >> part) & 1) << 4;
                }
            }
            return;
        }
    }
}

// What is subtracted from a stored value, by type.
static int offset_of(int type) {
    switch (type) {
        case GGML_TYPE_Q4_0: return 8;
        case GGML_TYPE_Q5_0: return 16;
        case GGML_TYPE_Q8_0: return 128;
        default:             return 0;
    }
}

// How a type is laid out in tiles; bits 0 = it is not.
struct tile_layout {
    int  bits;
    bool has_min;
};

static tile_layout layout_of(int type) {
    switch (type) {
        case GGML_TYPE_Q4_0: return { 4, false };
        case GGML_TYPE_Q4_1:
        case GGML_TYPE_Q4_K: return { 4, true };
        case GGML_TYPE_Q5_0:
        case GGML_TYPE_Q8_0: return { 8, false };
        case GGML_TYPE_Q5_1:
        case GGML_TYPE_Q5_K: return { 8, true };
        default:             return { 0, false };
    }
}

size_t packed_matrix::bytes_needed(const ggml_tensor * tensor) {
    const tile_layout tiles = layout_of(tensor->type);
    const size_t n_tiles  = (size_t) (tensor->ne[1] + MATRIX_TILE - 1) / MATRIX_TILE;
    const size_t n_blocks = n_tiles * (size_t) (tensor->ne[0] / MATRIX_BLOCK);
    const size_t scales   = (tiles.has_min ? 2 : 1) * MATRIX_TILE * sizeof(uint16_t);
    return tiles.bits == 0 ? 0 : n_blocks * (tiles.bits * MATRIX_BLOCK * MATRIX_TILE / 8 + scales);
}

bool packed_matrix::pack(const ggml_tensor * tensor, cpu_traits_fn traits, host_arena & arena) {
    inputs  = (int) tensor->ne[0];
    outputs = (int) tensor->ne[1];
    raw        = (const uint8_t *) tensor->data;
    raw_stride = tensor->nb[1];
    const tile_layout tiles = layout_of(tensor->type);
    if (tiles.bits > 0) {
        return pack_tiles(tensor, tiles.bits, tiles.has_min, arena);
    }
    switch (tensor->type) {
        case GGML_TYPE_F16:  float_kind = float_type::f16;  return true;
        case GGML_TYPE_BF16: float_kind = float_type::bf16; return true;
        case GGML_TYPE_F32:  float_kind = float_type::f32;  return true;
        default: break;
    }
    layout  = by_ggml;
    vec_dot = traits(tensor->type)->vec_dot;
    needs   = { row_form::ggml, (int) traits(tensor->type)->vec_dot_type };
    return vec_dot != nullptr;
}

bool packed_matrix::pack_tiles(const ggml_tensor * tensor, int bits, bool has_min, host_arena & arena) {
    layout   = bits == 4 ? four_bit : eight_bit;
    needs    = { row_form::quantised, 0 };
    n_blocks = inputs / MATRIX_BLOCK;
    offset   = offset_of(tensor->type);
    const int    n_tiles     = (outputs + MATRIX_TILE - 1) / MATRIX_TILE;
    const size_t block_bytes = (size_t) bits * MATRIX_BLOCK * MATRIX_TILE / 8;
    const size_t n_scales    = (size_t) n_tiles * n_blocks * MATRIX_TILE;
    tiles  = (uint8_t *) arena.take(n_tiles * n_blocks * block_bytes);
    scales = (uint16_t *) arena.take(n_scales * sizeof(uint16_t));
    mins   = has_min ? (uint16_t *) arena.take(n_scales * sizeof(uint16_t)) : nullptr;
    if (!tiles || !scales || (has_min && !mins)) {
        return false;
    }
    for (int tile = 0; tile < n_tiles; ++tile) {
        for (int b = 0; b < n_blocks; ++b) {
            uint8_t    * out   = tiles + ((size_t) tile * n_blocks + b) * block_bytes;
            const size_t scale = ((size_t) tile * n_blocks + b) * MATRIX_TILE;
            for (int o = 0; o < MATRIX_TILE; ++o) {
                const int output = tile * MATRIX_TILE + o;
                block_values values = {};
                if (output < outputs) {
                    read_block(tensor->type, raw + output * raw_stride, b, values);
                }
                scales[scale + o] = values.d;
                if (has_min) {
                    mins[scale + o] = values.m;
                }
                for (int i = 0; i < MATRIX_BLOCK; ++i) {
                    const int group = i / 4;
                    if (bits == 8) {
                        out[group * 64 + o * 4 + i % 4] = values.q[i];
                    } else if (group < 4) {
                        out[group * 64 + o * 4 + i % 4] = values.q[i] | (values.q[i + 16] << 4);
                    }
                }
            }
        }
    }
    return true;
}

void packed_matrix::multiply(const matrix_kernel_set & kernels, const activation_rows & x, int first_row, int n_rows,
                             int first, int n, float * const * y) const {
    if (layout == floats) {
        const float * rows[ROWS_MAX];
        for (int i = 0; i < n_rows; ++i) {
            rows[i] = x.f32(first_row + i);
        }
        kernels.multiply_float(float_kind, raw + first * raw_stride, inputs, n, rows, y, n_rows);
        return;
    }
    if (layout == by_ggml) {
        for (int o = 0; o < n; ++o) {
            for (int i = 0; i < n_rows; ++i) {
                vec_dot(inputs, y[i] + o, 0, raw + (first + o) * raw_stride, 0, x.rounded(first_row + i, needs.ggml_type),
                        0, 1);
            }
        }
        return;
    }
    quantised_row rows[ROWS_MAX];
    for (int i = 0; i < n_rows; ++i) {
        rows[i] = x.quantised(first_row + i);
    }
    const auto   multiply    = layout == four_bit ? kernels.multiply_4bit : kernels.multiply_8bit;
    const size_t block_bytes = (layout == four_bit ? 4 : 8) * MATRIX_BLOCK * MATRIX_TILE / 8;
    for (int o = 0; o < n; o += MATRIX_TILE) {
        const size_t block = (size_t) ((first + o) / MATRIX_TILE) * n_blocks;
        const integer_tile tile = { tiles + block * block_bytes, scales + block * MATRIX_TILE,
                                    mins ? mins + block * MATRIX_TILE : nullptr, n_blocks, offset };
        const int width = std::min(MATRIX_TILE, n - o);
        float * targets[ROWS_MAX];
        float   partial[ROWS_MAX][MATRIX_TILE]; // where the matrix ends inside a tile
        for (int i = 0; i < n_rows; ++i) {
            targets[i] = width == MATRIX_TILE ? y[i] + o : partial[i];
        }
        multiply(tile, rows, targets, n_rows);
        for (int i = 0; i < n_rows && width < MATRIX_TILE; ++i) {
            std::copy(partial[i], partial[i] + width, y[i] + o);
        }
    }
}

} // namespace nozzle
