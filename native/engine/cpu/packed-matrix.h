// A linear layer's weights as the CPU reads them. Types with blocks of 32 and affine scales are laid out
// anew in tiles, at their own precision; float types stay as the file has them; every other type stays
// too and goes through ggml's dot product for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "host-memory.h"
#include "matrix-kernels.h"

struct ggml_tensor;
struct ggml_type_traits_cpu;

namespace nozzle {

// ggml's CPU functions by type, from the backend library that fits this processor.
using cpu_traits_fn = const ggml_type_traits_cpu * (*)(int type);

// In which form a matrix takes its activations.
struct row_form {
    enum kind_t { f32, quantised, ggml } kind = f32;
    int ggml_type = 0; // kind ggml: the type of the rounded row

    bool operator==(const row_form & o) const { return kind == o.kind && (kind != ggml || ggml_type == o.ggml_type); }
};

// Rows of one width in the forms that the matrices reading them need.
class activation_rows {
  public:
    // Room for n_rows_max rows of n_in values in the given forms.
    void allocate(int n_rows_max, int n_in, const std::vector<row_form> & forms, cpu_traits_fn traits);
    float       * f32(int row) { return values.get() + (size_t) row * n_in; }
    const float * f32(int row) const { return values.get() + (size_t) row * n_in; }
    // Fills every other form of a row from its F32 values.
    void round(int row, const matrix_kernel_set & kernels);

    quantised_row quantised(int row) const;
    const void  * rounded(int row, int ggml_type) const;

  private:
    struct ggml_rows {
        int                        type;
        size_t                     row_bytes;
        std::unique_ptr<uint8_t[]> data; // [n_rows_max * row_bytes]
        void (*from_float)(const float *, void *, int64_t);
    };

    int  n_in = 0;
    bool has_quantised = false;
    std::unique_ptr<float[]>   values; // [n_rows_max * n_in]
    std::unique_ptr<int8_t[]>  q;      // [n_rows_max * n_in]
    std::unique_ptr<float[]>   d, x_sum;  // [n_rows_max * n_in / MATRIX_BLOCK]
    std::unique_ptr<int32_t[]> q_sum;
    std::vector<ggml_rows>     ggml_forms;
};

class packed_matrix {
  public:
    // What `pack` takes of the arena for a tensor; 0 = it stays where it is.
    static size_t bytes_needed(const ggml_tensor * tensor);
    // The tensor's data and the arena must live as long as the matrix. False = out of memory.
    bool pack(const ggml_tensor * tensor, cpu_traits_fn traits, host_arena & arena);

    row_form form() const { return needs; }
    int n_in()  const { return inputs; }
    int n_out() const { return outputs; }

    // y[i][0..n-1] = outputs [first, first + n) of row first_row + i of x, i in [0, n_rows). first is a
    // multiple of MATRIX_TILE, n too unless it ends the matrix. n_rows <= ROWS_MAX.
    static constexpr int ROWS_MAX = 64;
    void multiply(const matrix_kernel_set & kernels, const activation_rows & x, int first_row, int n_rows, int first,
                  int n, float * const * y) const;

  private:
    enum layout_t { four_bit, eight_bit, floats, by_ggml };

    bool pack_tiles(const ggml_tensor * tensor, int bits, bool has_min, host_arena & arena);

    layout_t   layout  = floats;
    row_form   needs;
    int        inputs  = 0;
    int        outputs = 0;
    int        n_blocks = 0;
    int        offset   = 0;
    float_type float_kind = float_type::f32;
    const uint8_t * raw      = nullptr; // floats, by_ggml: the tensor's own data
    size_t          raw_stride = 0;     // bytes of an output's weights there
    void (*vec_dot)(int, float *, size_t, const void *, size_t, const void *, size_t, int) = nullptr;
    uint8_t  * tiles  = nullptr; // see integer_tile, one tile after the other; the arena's
    uint16_t * scales = nullptr; // F16 [n_tiles][n_blocks][16]; the arena's
    uint16_t * mins   = nullptr; // the same; nullptr = 0
};

} // namespace nozzle
