// The engine's narrow front: one resident base model, adapter slots, KV cells and sampler state. Knows
// tokens, rows and slots; nothing of tenants, HTTP or files other than the base GGUF.
//
// Threads: one caller at a time for step, open_sequence, set_pages and close_sequence. load_slot may run beside a
// step on another thread as long as that step has no row of the slot. tokenize, decode and
// is_end_of_generation read only and may be called at any time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "batch.h"
#include "lora-bank.h"
#include "memory-plan.h"
#include "model.h"
#include "sampler.h"
#include "status.h"

namespace nozzle {

struct engine_options {
    std::string model_path;
    std::string library_dir;  // where ggml's backend libraries lie
    std::string cuda_library; // ggml's CUDA library, a file; empty = none
    std::string device = "auto"; // auto | cpu | cuda; auto is a CUDA device where there is one
    std::string graph  = "auto"; // auto | portable: the form of every device but the CPU, also there
    int n_slots     = 16;     // not counting slot 0
    int rank_max    = 16;
    int n_sequences = 16;
    int n_ctx       = 2048;   // tokens of one sequence
    int64_t n_cells = 0;      // KV cells of all sequences together, at least n_ctx; 0 = n_sequences * n_ctx
    int n_rows_max  = 512;    // rows of one step
    int n_threads   = 2;
};

struct engine_info {
    model_dims  dims;
    std::string chat_template; // empty = none
    int32_t     bos = -1;
    int32_t     eos = -1;
    std::string bos_text;      // as chat templates write them; empty = none
    std::string eos_text;
    std::string device;        // e.g. "cpu, 2 threads, kernels avx512"
    memory_plan memory;        // what was taken at open
    size_t      slot_bytes = 0;
    int         n_pages    = 0;
    int         page_cells = 0; // KV_PAGE_CELLS
    size_t      page_bytes = 0; // keys and values of a page, all layers
};

class engine {
  public:
    virtual ~engine() = default;
    static status open(const engine_options & options, std::unique_ptr<engine> & out);

    virtual const engine_info & info() const = 0;
    virtual std::vector<int32_t> tokenize(const std::string & text, bool add_special, bool parse_special) const = 0;
    virtual std::string decode(int32_t token) const = 0;
    virtual bool is_end_of_generation(int32_t token) const = 0;

    // Copies an adapter into slot 1..n_slots. invalid_argument, pack_mismatch.
    virtual status load_slot(int slot, const std::vector<lora_module> & modules, const uint8_t * payload, size_t size) = 0;
    virtual status clear_slot(int slot) = 0;

    // Payloads that will be loaded from again, e.g. of a tier in host memory: a device copies from pinned
    // memory by itself and fastest. Any thread. False: left as it is. The memory must outlive unpin.
    virtual bool pin(const void * payload, size_t size) = 0;
    virtual void unpin(const void * payload) = 0;

    // Starts sequence 0..n_sequences-1 anew with the pages of its KV cells, of which the first `length`
    // cells are filled already (see set_pages). invalid_argument, invalid_grammar.
    virtual status open_sequence(int sequence, const sampling_options & options, const std::vector<int32_t> & pages,
                                 int length) = 0;
    // Gives an open sequence other pages; its sampler goes on as it was. Whoever says that cells are
    // filled vouches that they hold what this sequence's tokens left there under the same adapter, in
    // this sequence or another. Pages may be shared while nothing is written to them. invalid_argument.
    virtual status set_pages(int sequence, const std::vector<int32_t> & pages, int length) = 0;
    virtual status close_sequence(int sequence) = 0;

    // Runs the rows together. Each sequence's rows continue its filled cells without a gap, in pages that
    // are its own alone. One entry in `sampled` per row with outputs 1, in row order. A refused batch
    // changes nothing.
    virtual status step(const batch & rows, std::vector<sampled_token> & sampled) = 0;
};

} // namespace nozzle
