// The adapter slots: one arena of F16 weights, one fixed stretch per slot, and a table per slot that
// says where each module's A and Bt lie in it. Invariant: a slot's table and bytes change only while
// no running step uses the slot (the caller's promise, checked by the addon).
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/host-memory.h"
#include "model.h"
#include "status.h"

namespace nozzle {

constexpr size_t LORA_BLOCK_ALIGN = 64; // bytes; PACK_BLOCK_ALIGN in adapter-pack.ts

// Where one module of an adapter lies in its pack's payload. See adapter-pack.ts for the layout.
struct lora_module {
    int32_t layer    = 0;
    int32_t target   = 0;
    int32_t n_in     = 0;
    int32_t n_out    = 0;
    int32_t rank     = 0;
    int64_t a_offset = 0; // bytes
    int64_t b_offset = 0; // bytes
    float   scale    = 0;
};

// A module as the kernels read it. rank 0 = the adapter leaves this module alone.
struct lora_view {
    const uint16_t * a  = nullptr; // F16 [n_in] x rank rows
    const uint16_t * bt = nullptr; // F16 [n_out] x rank rows
    int   rank  = 0;
    float scale = 0;
};

// What the engine needs of the slots, wherever their bytes lie.
class slot_bank {
  public:
    virtual ~slot_bank() = default;

    // Copies a pack's payload into slot 1..n_slots. Fails with pack_mismatch, leaving the slot as it was.
    virtual status load(int slot, const std::vector<lora_module> & modules, const uint8_t * payload, size_t size) = 0;
    virtual void   clear(int slot) { loaded[slot] = 0; }

    // Payloads that will be loaded from again: see device::pin. unpin waits for a load that is under way.
    virtual bool   pin(const void * payload, size_t size) { return false; }
    virtual void   unpin(const void * payload) {}

    bool   is_loaded(int slot) const { return loaded[slot] != 0; }
    int    n_slots()    const { return slot_count; }
    int    rank_max()   const { return rank_limit; }
    size_t slot_bytes() const { return bytes_per_slot; } // payload that a slot takes at most

  protected:
    void   size_slots(const model_dims & dims, int n_slots, int rank_max);
    status check(const std::vector<lora_module> & modules, size_t size) const;

    model_dims           dims;
    int                  slot_count     = 0;
    int                  rank_limit     = 0;
    size_t               bytes_per_slot = 0;
    std::vector<uint8_t> loaded;        // [n_slots + 1]; slot 0 always
};

// Bytes of a pack with rank_max on every target of every layer.
size_t slot_payload_bytes(const model_dims & dims, int rank_max);

// The slots in host memory, as the CPU's kernels read them. Every slot has addresses for rank_max, but
// holds memory for what its adapters had alone: a large rank costs where it is used.
class lora_bank : public slot_bank {
  public:
    // Room for n_slots adapters of at most rank_max on every target. Fails with out_of_memory.
    status allocate(const model_dims & dims, int n_slots, int rank_max);
    // One contiguous copy of the payload.
    status load(int slot, const std::vector<lora_module> & modules, const uint8_t * payload, size_t size) override;
    void   clear(int slot) override;

    const lora_view & view(int slot, int layer, int target) const {
        return views[((size_t) slot * dims.n_layer + layer) * TARGET_COUNT + target];
    }

  private:
    host_region            arena;           // n_slots stretches of `stride` bytes
    size_t                 stride = 0;      // bytes from slot to slot
    size_t                 common = 0;      // bytes that every slot holds from the start
    std::vector<size_t>    touched;         // [n_slots + 1] bytes of a slot that hold memory of the machine
    std::vector<lora_view> views;           // [(n_slots + 1) * n_layer * TARGET_COUNT]; slot 0 stays empty
};

} // namespace nozzle
