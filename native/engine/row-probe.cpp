#include "row-probe.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

#include <cstring>
#include <vector>

namespace nozzle {

// ggml's tiled kernels begin at two rows on x86 and four on ARM, and pair rows on some CPUs.
static constexpr int ROWS_FEW_MAX = 5;
static constexpr int ROWS_MANY    = 16;

// First row of weight · x for n equal rows; empty when it could not be computed.
static std::vector<float> first_row(ggml_tensor * weight, ggml_backend_t backend, int n_rows) {
    std::vector<float> out;
    const ggml_init_params params = { ggml_tensor_overhead() * 4 + ggml_graph_overhead(), nullptr, /*no_alloc*/ true };
    ggml_context * context = ggml_init(params);
    if (!context) {
        return out;
    }
    ggml_cgraph * graph = ggml_new_graph(context);
    ggml_tensor * x = ggml_new_tensor_2d(context, GGML_TYPE_F32, weight->ne[0], n_rows);
    ggml_tensor * y = ggml_mul_mat(context, weight, x); // F32 [n_out, n_rows]
    ggml_set_input(x);
    ggml_set_output(y);
    ggml_build_forward_expand(graph, y);
    ggml_gallocr_t allocator = ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend));
    if (allocator && ggml_gallocr_alloc_graph(allocator, graph)) {
        std::vector<float> row(weight->ne[0]);
        for (size_t i = 0; i < row.size(); ++i) {
            row[i] = (float) ((i * 2654435761u) % 2003) / 1001.0f - 1.0f;
        }
        for (int r = 0; r < n_rows; ++r) {
            ggml_backend_tensor_set(x, row.data(), r * x->nb[1], row.size() * sizeof(float));
        }
        if (ggml_backend_graph_compute(backend, graph) == GGML_STATUS_SUCCESS) {
            out.resize(weight->ne[1]);
            ggml_backend_tensor_get(y, out.data(), 0, out.size() * sizeof(float));
        }
    }
    ggml_gallocr_free(allocator);
    ggml_free(context);
    return out;
}

int rows_until_stable(ggml_tensor * weight, ggml_backend_t backend) {
    const std::vector<float> many = first_row(weight, backend, ROWS_MANY);
    int stable = ROWS_FEW_MAX + 1;
    for (int n_rows = ROWS_FEW_MAX; n_rows >= 1; --n_rows) {
        const std::vector<float> few = first_row(weight, backend, n_rows);
        if (few.empty() || few.size() != many.size() ||
            std::memcmp(few.data(), many.data(), few.size() * sizeof(float)) != 0) {
            break;
        }
        stable = n_rows;
    }
    return stable;
}

} // namespace nozzle
