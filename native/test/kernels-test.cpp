// Every instruction set's kernels against a float64 loop, over the popularity shapes and odd lengths.
// Prints one line per failure and exits 1; exits 0 when all agree.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "ggml.h"
#include "kernels.h"

using namespace nozzle;

static int failures = 0;

static void expect_close(const char * what, const char * set, double got, double want, double tolerance) {
    if (!(std::fabs(got - want) <= tolerance * (1.0 + std::fabs(want)))) {
        printf("%s on %s: got %.9g, want %.9g\n", what, set, got, want);
        failures++;
    }
}

struct random_source {
    std::mt19937 engine{ 42 };
    float next() { return std::uniform_real_distribution<float>(-1, 1)(engine); }
    std::vector<float> floats(size_t n) {
        std::vector<float> out(n);
        for (float & x : out) {
            x = next();
        }
        return out;
    }
    std::vector<uint16_t> halves(size_t n) {
        std::vector<uint16_t> out(n);
        for (uint16_t & x : out) {
            x = ggml_fp32_to_fp16(next());
        }
        return out;
    }
};

template <class T> static std::vector<T *> row_pointers(std::vector<T> & data, int n_rows, int width) {
    std::vector<T *> out;
    for (int i = 0; i < n_rows; ++i) {
        out.push_back(data.data() + (size_t) i * width);
    }
    return out;
}

static void test_lora(const kernel_set & set, int n_rows, int n_in, int n_out, int rank) {
    random_source random;
    std::vector<uint16_t> a = random.halves((size_t) rank * n_in), bt = random.halves((size_t) rank * n_out);
    std::vector<float> x = random.floats((size_t) n_rows * n_in), y((size_t) n_rows * n_out);
    std::vector<float> h((size_t) n_rows * rank);
    const float scale = 1.75f;
    auto xs = row_pointers(x, n_rows, n_in);
    auto ys = row_pointers(y, n_rows, n_out);
    auto hs = row_pointers(h, n_rows, rank);
    set.matrix->multiply_float(float_type::f16, a.data(), n_in, rank, xs.data(), hs.data(), n_rows);
    set.expand(bt.data(), n_out, rank, n_out, scale, hs.data(), ys.data(), n_rows);
    for (int i = 0; i < n_rows; ++i) {
        for (int c = 0; c < n_out; ++c) {
            double want = 0;
            for (int r = 0; r < rank; ++r) {
                double dot = 0;
                for (int k = 0; k < n_in; ++k) {
                    dot += (double) ggml_fp16_to_fp32(a[(size_t) r * n_in + k]) * x[(size_t) i * n_in + k];
                }
                want += dot * ggml_fp16_to_fp32(bt[(size_t) r * n_out + c]);
            }
            const size_t at = (size_t) i * n_out + c;
            expect_close("lora", set.name, y[at], scale * want, 2e-5);
        }
    }
}

// K and V of 2 heads as the kernel reads them, from F16 [n_kv][2 * head_dim] each.
struct paged_kv {
    std::vector<uint16_t> k, v;

    paged_kv(const std::vector<uint16_t> & keys, const std::vector<uint16_t> & values, int n_kv, int head_dim,
             const std::vector<int32_t> & pages, int page_cells) {
        const int64_t stride = 2 * head_dim;
        k.assign((*std::max_element(pages.begin(), pages.end()) + 1) * page_cells * stride, 0x7e00); // NaN
        v = k;
        for (int j = 0; j < n_kv; ++j) {
            const int64_t page = pages[j / page_cells] * page_cells * stride;
            for (int64_t d = 0; d < stride; ++d) {
                k[page + d * page_cells + j % page_cells] = keys[j * stride + d];
                v[page + j % page_cells * stride + d]     = values[j * stride + d];
            }
        }
    }
};

// The cells lie in pages in no order; a page's rest past the last cell is NaN.
static void test_attend(const kernel_set & set, int n_q, int n_kv, int head_dim, int page_cells) {
    random_source random;
    const int64_t stride = 2 * head_dim;
    const std::vector<uint16_t> k = random.halves(n_kv * stride), v = random.halves(n_kv * stride);
    std::vector<int32_t> pages((n_kv + page_cells - 1) / page_cells);
    std::iota(pages.begin(), pages.end(), 1);
    std::shuffle(pages.begin(), pages.end(), random.engine);
    const int one_page = (n_kv + CELLS_MIN - 1) / CELLS_MIN * CELLS_MIN;
    const std::vector<int32_t> first_page = { 0 };
    const paged_kv paged(k, v, n_kv, head_dim, pages, page_cells);
    const paged_kv whole(k, v, n_kv, head_dim, first_page, one_page);
    std::vector<float> q = random.floats((size_t) n_q * head_dim), out((size_t) n_q * head_dim);
    std::vector<float> scores((size_t) QUERY_BLOCK_MAX * one_page);
    std::vector<int> visible;
    for (int i = 0; i < n_q; ++i) {
        visible.push_back(std::max(1, n_kv - i));
    }
    auto qs = row_pointers(q, n_q, head_dim);
    auto outs = row_pointers(out, n_q, head_dim);
    const double qk_scale = 1.0 / std::sqrt((double) head_dim);
    // The second of the two heads.
    const auto attend = [&](const paged_kv & kv, const paged_cells & at) {
        set.attend(qs.data(), n_q, visible.data(), kv.k.data() + head_dim * at.page_cells, kv.v.data() + head_dim, at,
                   head_dim, (float) qk_scale, scores.data(), one_page, outs.data());
    };
    attend(whole, { first_page.data(), one_page, stride });
    const std::vector<float> in_one_piece = out;
    attend(paged, { pages.data(), page_cells, stride });
    if (out != in_one_piece) {
        printf("attend on %s: %d cells in pages of %d differ from one piece\n", set.name, n_kv, page_cells);
        failures++;
    }
    for (int i = 0; i < n_q; ++i) {
        std::vector<double> weight(visible[i]);
        double top = -1e300, sum = 0;
        for (int j = 0; j < visible[i]; ++j) {
            for (int d = 0; d < head_dim; ++d) {
                weight[j] += (double) q[(size_t) i * head_dim + d] * ggml_fp16_to_fp32(k[j * stride + head_dim + d]);
            }
            weight[j] *= qk_scale;
            top = std::max(top, weight[j]);
        }
        for (double & w : weight) {
            sum += w = std::exp(w - top);
        }
        for (int d = 0; d < head_dim; ++d) {
            double want = 0;
            for (int j = 0; j < visible[i]; ++j) {
                want += weight[j] / sum * ggml_fp16_to_fp32(v[j * stride + head_dim + d]);
            }
            expect_close("attend", set.name, out[(size_t) i * head_dim + d], want, 1e-5);
        }
    }
}

int main() {
    int n_sets = 0;
    for (const char * name : { "scalar", "avx2", "avx512", "neon" }) {
        const kernel_set * set = kernels_by_name(name);
        if (!set) {
            continue;
        }
        n_sets++;
        for (const int n_rows : { 1, 2, 3, 4, 7, 16 }) {
            for (const int rank : { 1, 4, 16, 33 }) {
                test_lora(*set, n_rows, 64, 192, rank);
                test_lora(*set, n_rows, 83, 71, rank); // no multiple of any vector width
            }
        }
        for (int n_q = 1; n_q <= QUERY_BLOCK_MAX; ++n_q) {
            for (const int n_kv : { 1, 5, 64, 333 }) {
                test_attend(*set, n_q, n_kv, 16, 16);
                test_attend(*set, n_q, n_kv, 96, 32);
                test_attend(*set, n_q, n_kv, 96, 48);
            }
        }
    }
    printf("%d kernel sets, %d failures\n", n_sets, failures);
    return failures == 0 ? 0 : 1;
}
