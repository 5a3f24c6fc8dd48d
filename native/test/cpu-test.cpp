// The CPU executor's parts without a model: products of every packed weight type on every instruction
// set against float64 sums of what the type decodes to, the row kernels, and the thread team. Prints one
// line per failure and exits 1; exits 0 when all hold.
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "cpu/packed-matrix.h"
#include "cpu/thread-team.h"
#include "ggml.h"
#include "kernels.h"

using namespace nozzle;

static int failures = 0;

static void expect(bool holds, const char * what, const char * set) {
    if (!holds) {
        printf("%s on %s does not hold\n", what, set);
        failures++;
    }
}

static std::vector<float> random_floats(std::mt19937 & engine, size_t n) {
    std::vector<float> out(n);
    std::normal_distribution<float> normal(0, 1);
    for (float & x : out) {
        x = normal(engine);
    }
    return out;
}

// Weights of a type, as a tensor over its own bytes.
struct weights {
    std::vector<uint8_t> bytes;
    std::vector<float>   decoded; // [n_out][n_in]
    ggml_tensor          tensor{};

    weights(ggml_type type, int n_in, int n_out, std::mt19937 & engine) {
        const std::vector<float> wanted = random_floats(engine, (size_t) n_in * n_out);
        bytes.resize(ggml_row_size(type, n_in) * n_out);
        decoded.resize(wanted.size());
        tensor.type  = type;
        tensor.ne[0] = n_in;
        tensor.ne[1] = n_out;
        tensor.nb[1] = ggml_row_size(type, n_in);
        tensor.data  = bytes.data();
        if (type == GGML_TYPE_F32) {
            memcpy(bytes.data(), wanted.data(), bytes.size());
            decoded = wanted;
            return;
        }
        ggml_quantize_chunk(type, wanted.data(), bytes.data(), 0, n_out, n_in, nullptr);
        for (int o = 0; o < n_out; ++o) {
            ggml_get_type_traits(type)->to_float(bytes.data() + o * tensor.nb[1], decoded.data() + (size_t) o * n_in, n_in);
        }
    }
};

// n_out is no multiple of a tile, and the row counts meet every blocking of the kernels.
static void test_products(const kernel_set & set, ggml_type type, int n_in, int n_out, int n_rows) {
    std::mt19937 engine(type * 1000 + n_rows);
    const weights w(type, n_in, n_out, engine);
    host_arena arena;
    packed_matrix matrix;
    expect(matrix.pack(&w.tensor, nullptr, arena), "packing", set.name);
    activation_rows x;
    x.allocate(n_rows, n_in, { matrix.form() }, nullptr);
    for (int row = 0; row < n_rows; ++row) {
        const std::vector<float> values = random_floats(engine, n_in);
        std::copy(values.begin(), values.end(), x.f32(row));
        x.round(row, *set.matrix);
    }
    std::vector<float> y((size_t) n_rows * n_out), alone(n_out);
    std::vector<float *> ys;
    for (int row = 0; row < n_rows; ++row) {
        ys.push_back(y.data() + (size_t) row * n_out);
    }
    matrix.multiply(*set.matrix, x, 0, n_rows, 0, n_out, ys.data());
    float * only[] = { alone.data() };
    matrix.multiply(*set.matrix, x, n_rows - 1, 1, 0, n_out, only);
    expect(memcmp(alone.data(), ys[n_rows - 1], n_out * sizeof(float)) == 0, "a row alone as in company", set.name);
    for (int row = 0; row < n_rows; ++row) {
        std::vector<double> in(n_in);
        for (int i = 0; i < n_in; ++i) {
            in[i] = x.f32(row)[i];
            if (matrix.form().kind == row_form::quantised) {
                const quantised_row q = x.quantised(row);
                in[i] = (double) q.d[i / MATRIX_BLOCK] * q.q[i];
                if (std::fabs(in[i] - x.f32(row)[i]) > 0.501 * q.d[i / MATRIX_BLOCK]) {
                    expect(false, "rounding to the nearest step", set.name);
                }
            }
        }
        for (int o = 0; o < n_out; ++o) {
            double want = 0, scale = 0;
            for (int i = 0; i < n_in; ++i) {
                const double term = in[i] * w.decoded[(size_t) o * n_in + i];
                want += term;
                scale += std::fabs(term);
            }
            // F32 sums; Q4_K and Q5_K also round each block's scale and minimum to F16.
            const double tolerance = type == GGML_TYPE_Q4_K || type == GGML_TYPE_Q5_K ? 1e-3 : 2e-6;
            if (!(std::fabs(ys[row][o] - want) <= tolerance * scale)) {
                printf("%s on %s, %d rows: got %.9g, want %.9g\n", ggml_type_name(type), set.name, n_rows, ys[row][o], want);
                failures++;
                return;
            }
        }
    }
}

static void test_row_kernels(const kernel_set & set) {
    std::mt19937 engine(7);
    for (const int n : { 1, 15, 32, 83, 256 }) {
        std::vector<float> x = random_floats(engine, n), weight = random_floats(engine, n), out(n);
        set.matrix->rms_norm(x.data(), weight.data(), 1e-5f, n, out.data());
        double squares = 0;
        for (const float v : x) {
            squares += (double) v * v;
        }
        std::vector<float> gate = random_floats(engine, n);
        const std::vector<float> before = gate;
        set.matrix->swiglu(gate.data(), x.data(), n);
        for (int i = 0; i < n; ++i) {
            const double norm = x[i] / std::sqrt(squares / n + 1e-5) * weight[i];
            const double silu = before[i] / (1 + std::exp(-(double) before[i])) * x[i];
            expect(std::fabs(out[i] - norm) <= 1e-5 * (1 + std::fabs(norm)), "rms_norm", set.name);
            expect(std::fabs(gate[i] - silu) <= 1e-5 * (1 + std::fabs(silu)), "swiglu", set.name);
        }
        int best = -1;
        x[n / 2] = 100;
        x[n - 1] = 100;
        expect(set.matrix->find_best(x.data(), n, &best) && best == n / 2, "the first of equals is best", set.name);
        for (const float broken : { std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity() }) {
            x[n / 3] = broken;
            expect(!set.matrix->find_best(x.data(), n, &best), "NaN and Inf are found", set.name);
        }
    }
    // A broken value marks its block and no other.
    std::vector<float> x = random_floats(engine, 64);
    x[40] = std::numeric_limits<float>::quiet_NaN();
    int8_t q[64];
    float d[2], x_sum[2];
    int32_t q_sum[2];
    set.matrix->quantise(x.data(), 64, q, d, q_sum, x_sum);
    expect(std::isfinite(d[0]) && std::isnan(d[1]), "NaN stays in its block", set.name);
}

// Every task of a stage once, and only after all of the stage before.
struct stage_log {
    std::vector<std::atomic<int>> done;
    std::atomic<int>              early{ 0 };
    std::vector<int>              n_tasks;

    explicit stage_log(int n_stages) : done(n_stages), n_tasks(n_stages) {}
};

static void log_task(void * context, int stage, int, int) {
    stage_log & log = *(stage_log *) context;
    if (stage > 0 && log.done[stage - 1] != log.n_tasks[stage - 1]) {
        log.early++;
    }
    log.done[stage]++;
}

static void test_thread_team(int n_threads, int n_jobs) {
    std::mt19937 engine(n_threads);
    thread_team team;
    team.start(n_threads);
    for (int job = 0; job < n_jobs; ++job) {
        const int n_stages = 1 + engine() % 20;
        stage_log log(n_stages);
        std::vector<thread_team::stage> stages;
        for (int s = 0; s < n_stages; ++s) {
            log.n_tasks[s] = engine() % 9;
            stages.push_back({ log_task, s, log.n_tasks[s] });
        }
        team.run(stages, &log);
        bool is_whole = log.early == 0;
        for (int s = 0; s < n_stages; ++s) {
            is_whole = is_whole && log.done[s] == log.n_tasks[s];
        }
        if (!is_whole) {
            printf("job %d on %d threads lost, doubled or misplaced a task\n", job, n_threads);
            failures++;
            return;
        }
        if (job % 997 == 0) { // long enough for the others to fall asleep
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
    }
}

int main() {
    for (const char * name : { "scalar", "avx2", "avx512", "neon" }) {
        const kernel_set * set = kernels_by_name(name);
        if (!set) {
            continue;
        }
        test_row_kernels(*set);
        for (const ggml_type type : { GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q8_0,
                                      GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_F32 }) {
            for (const int n_rows : { 1, 2, 3, 4, 7, 8, 15, 64 }) {
                test_products(*set, type, 256, 37, n_rows);
            }
        }
    }
    for (const int n_threads : { 1, 2, 3, 8 }) {
        test_thread_team(n_threads, 20000 / n_threads);
    }
    printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
