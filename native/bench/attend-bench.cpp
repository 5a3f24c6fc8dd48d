// How much do pages cost attention? One thread, one query block (the heads that share a KV head of one
// decode row), the minimum of many runs, contiguous cells beside pages of several sizes in turns. Not
// part of the build: cmake --build native/build --target attend-bench && native/build/attend-bench
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "ggml.h"
#include "kernels.h"

using namespace nozzle;

// SmolLM2-135M: 3 query heads to a KV head, 3 KV heads.
static constexpr int HEAD_DIM = 64, N_HEAD_KV = 3, N_Q = 3;
static constexpr int ROUNDS = 400, POOL_CELLS = 32768;

struct layout {
    int                  page_cells;
    std::vector<int32_t> pages;
    double               best_us = 1e300;
};

int main() {
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    const int64_t stride = (int64_t) HEAD_DIM * N_HEAD_KV;
    std::vector<uint16_t> k(POOL_CELLS * stride), v(POOL_CELLS * stride);
    for (size_t i = 0; i < k.size(); ++i) {
        k[i] = ggml_fp32_to_fp16(uniform(random));
        v[i] = ggml_fp32_to_fp16(uniform(random));
    }
    std::vector<float> q(N_Q * HEAD_DIM), out(N_Q * HEAD_DIM);
    for (float & x : q) {
        x = uniform(random);
    }
    const kernel_set & kernels = kernels_best();
    printf("kernels %s, microseconds of one layer's decode row\n", kernels.name);
    for (const int n_kv : { 32, 128, 512, 2048 }) {
        std::vector<layout> layouts;
        for (const int page_cells : { POOL_CELLS, 16, 32, 64 }) {
            layout l = { page_cells, std::vector<int32_t>(POOL_CELLS / page_cells) };
            std::iota(l.pages.begin(), l.pages.end(), 0);
            std::shuffle(l.pages.begin(), l.pages.end(), random);
            layouts.push_back(l);
        }
        std::vector<float> scores(QUERY_BLOCK_MAX * n_kv);
        const float * qs[N_Q];
        float * outs[N_Q];
        int visible[N_Q];
        for (int i = 0; i < N_Q; ++i) {
            qs[i]      = q.data() + i * HEAD_DIM;
            outs[i]    = out.data() + i * HEAD_DIM;
            visible[i] = n_kv;
        }
        for (int round = 0; round < ROUNDS; ++round) {
            for (layout & l : layouts) {
                const auto begin = std::chrono::steady_clock::now();
                for (int head = 0; head < N_HEAD_KV; ++head) {
                    kernels.attend(qs, N_Q, visible, k.data() + head * HEAD_DIM, v.data() + head * HEAD_DIM,
                                   { l.pages.data(), l.page_cells, stride }, HEAD_DIM, 0.125f, scores.data(), n_kv, outs);
                }
                const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
                l.best_us = std::min(l.best_us, took.count());
            }
        }
        printf("%5d cells: contiguous %8.2f", n_kv, layouts[0].best_us);
        for (size_t i = 1; i < layouts.size(); ++i) {
            printf(", pages of %d %8.2f (%.3f)", layouts[i].page_cells, layouts[i].best_us,
                   layouts[i].best_us / layouts[0].best_us);
        }
        printf("\n");
    }
    return 0;
}
