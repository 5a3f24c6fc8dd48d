// The adapter slots on a device, in the shape that ggml_mul_mat_id reads without a host round trip: per
// layer and group of modules one bank of A and one of B over all slots. native/README.md says why.
//
// A pack goes over the bus as it is, in one contiguous copy on a stream of its own; the device lays it
// out. Slot 0 holds zeros, so that a row without an adapter adds exactly 0. Invariant: a slot's part of
// every bank is zero wherever its adapter has nothing.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "device.h"
#include "lora-bank.h"
#include "model.h"

struct ggml_backend_buffer;
struct ggml_context;
struct ggml_gallocr;
struct ggml_tensor;

namespace nozzle {

// Target modules that read the same input and so share one A bank and one B bank.
struct device_group {
    int first;         // target_module
    int count;
    int64_t n_in;
    int64_t n_parts;   // the input's, of equal length: one product by id per part, then their sum
    int64_t width;     // fused ranks, padded: module t has rows t * rank_pad .. of A, columns of B
    int64_t n_out;     // of all modules, one after the other
};

class device_bank : public slot_bank {
  public:
    ~device_bank() override;
    status allocate(const model_dims & dims, int n_slots, int rank_max, const device & on);

    status load(int slot, const std::vector<lora_module> & modules, const uint8_t * payload, size_t size) override;

    bool pin(const void * payload, size_t size) override { return where->pin(payload, size); }
    void unpin(const void * payload) override;

    // F16 [n_in / n_parts, width, (n_slots + 1) * n_parts], part p of slot s at s * n_parts + p, and
    // [width, n_out, n_slots + 1], of one layer; group 0 to GROUP_COUNT - 1.
    ggml_tensor * a(int group, int layer) const { return banks[group].a_layers[layer]; }
    ggml_tensor * b(int group, int layer) const { return banks[group].b_layers[layer]; }

    static constexpr int GROUP_COUNT = 4; // q·k·v, o, gate·up, down
    static device_group group_of(int group, const model_dims & dims, int rank_max);
    device_group group(int index) const { return group_of(index, dims, rank_limit); }
    // Memory that allocate() takes on the device, all slots and the landing place of loads.
    static size_t bytes_needed(const model_dims & dims, int n_slots, int rank_max);
    // invalid_argument where a layer's bank has more values than a device's products by id can count: their
    // kernels reckon places within it in 32 bits, and would read another adapter's, or beyond the bank.
    static status check_sizes(const model_dims & dims, int n_slots, int rank_max);

  private:
    struct bank {
        ggml_tensor * a = nullptr;       // F16 [n_in / n_parts, width, (n_slots + 1) * n_parts, n_layer]
        ggml_tensor * b = nullptr;       // F16 [width, n_out, n_slots + 1, n_layer]
        std::vector<ggml_tensor *> a_layers, b_layers; // views of one layer
    };
    struct piece;

    std::vector<piece> pieces_of(std::vector<lora_module> modules) const;
    void zero(int slot);

    const device             * where = nullptr;
    bank                       banks[GROUP_COUNT];
    ggml_context             * context   = nullptr; // tensor headers; owned
    ggml_backend_buffer      * buffer    = nullptr; // banks and landing; owned
    ggml_tensor              * landing   = nullptr; // I8 [slot_bytes]: where a pack arrives
    ggml_tensor              * scales    = nullptr; // F32 [n_layer * TARGET_COUNT] of the pack in `landing`
    ggml_backend_t             copier    = nullptr; // owned
    ggml_gallocr             * allocator = nullptr; // for the layout graph; owned
    std::mutex                 loading;             // one pack lands at a time
    std::vector<std::vector<int>> held; // [n_slots + 1] ranks [n_layer * TARGET_COUNT] laid out in each slot
};

} // namespace nozzle
