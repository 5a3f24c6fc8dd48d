#include "memory-plan.h"

#include "cpu/cpu-runner.h"
#include "device-bank.h"
#include "device.h"
#include "engine.h"
#include "graph.h"
#include "kv-cache.h"

#include <cstdio>

namespace nozzle {

// A CUDA context, cuBLAS and the captured graphs; on the CPU, Node and everything beside the engine.
static constexpr size_t RESERVE_DEVICE = 1u << 30;
static constexpr size_t RESERVE_CPU    = 256u << 20;

memory_plan plan_memory(const model & base, const engine_options & o, bool is_portable, const device & on) {
    const model_dims & dims = base.dims;
    // The most cells that can be asked for times their bytes do not fit 64 bits: beyond INT32_MAX of them
    // `kv_cache::allocate` refuses whatever the plan says.
    const size_t n_cells = kv_cache::pages_needed(o.n_sequences, o.n_ctx, o.n_cells) * KV_PAGE_CELLS;
    memory_plan plan;
    plan.weights   = is_portable ? base.weight_bytes() : cpu_runner::weight_bytes(base);
    plan.slots     = is_portable ? device_bank::bytes_needed(dims, o.n_slots, o.rank_max)
                                    : slot_payload_bytes(dims, o.rank_max) * o.n_slots;
    plan.kv        = n_cells * dims.n_layer * 2 * dims.n_head_kv * dims.head_dim * sizeof(uint16_t);
    plan.workspace_max = graph_runner::workspace_bytes_max(dims, o.n_rows_max, is_portable ? n_cells : 0, o.rank_max);
    plan.workspace = plan.workspace_max;
    plan.reserve   = on.is_cpu() ? RESERVE_CPU : RESERVE_DEVICE;
    plan.available = on.bytes_available();
    return plan;
}

static std::string mib(size_t bytes) {
    char text[32];
    snprintf(text, sizeof(text), "%.0f MiB", (double) bytes / (1 << 20));
    return text;
}

status memory_plan::check(const device & on) const {
    if (needed() <= available) {
        return status::success();
    }
    return status::failure(ERR_OUT_OF_MEMORY,
        on.name() + " has " + mib(available) + " of memory left, the engine needs " + mib(needed()) + ": weights " +
        mib(weights) + ", adapter slots " + mib(slots) + ", KV cells " + mib(kv) + ", workspace " + mib(workspace) +
        ", reserve " + mib(reserve) + ". Lower the slots or the largest rank, the KV cells, or the "
        "rows of a step, or take a smaller base model");
}

} // namespace nozzle
