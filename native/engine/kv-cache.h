// Attention state: one pool of pages of KV_PAGE_CELLS cells, a page table per sequence. Knows pages
// mechanically; who gets which, and which full pages sequences share, is decided above engine.h.
//
// Invariants: cell p of a sequence lies in page pages(s)[p / KV_PAGE_CELLS] and holds position p of its
// present use, for p < length; a page in the tables of two sequences is not writable. Cells past a
// sequence's length hold whatever an earlier use left there (NaN too), or nothing yet: no sum may read
// them, not even with weight 0.
#pragma once

#include <vector>

#include "model.h"
#include "status.h"

namespace nozzle {

// The smallest that the attention kernel takes (CELLS_MIN): the least is lost in the last page of a
// sequence and of a shared prefix.
constexpr int KV_PAGE_CELLS = 16;

class kv_cache {
  public:
    ~kv_cache();
    // `n_cells`: of all sequences together; 0 = n_ctx for each. Host memory that is not cleared is taken
    // by the operating system as cells are written. invalid_argument (not one context), out_of_memory.
    status allocate(const model_dims & dims, int n_sequences, int n_ctx, int64_t n_cells, bool is_cleared,
                    ggml_backend_t backend);
    // Pages that `allocate` would make of these.
    static int64_t pages_needed(int n_sequences, int n_ctx, int64_t n_cells);

    // F16 [n_head_kv * head_dim, KV_PAGE_CELLS * n_pages]; cell c of page p is row p * KV_PAGE_CELLS + c.
    // The CPU's kernels keep the keys of a page the other way round: see paged_cells.
    ggml_tensor * k(int layer) const { return k_layers[layer]; }
    ggml_tensor * v(int layer) const { return v_layers[layer]; }

    int n_ctx()       const { return ctx_length; }
    int n_sequences() const { return (int) lengths.size(); }
    int n_pages()     const { return (int) holders.size(); }
    size_t page_bytes() const;
    // Entries of one sequence's table: enough for n_ctx cells.
    int table_size()  const { return (int) pages_needed(1, ctx_length, 0); }

    // I32 [table_size]; entries past page_count are 0 and mean nothing.
    const int32_t * pages(int sequence) const { return tables.data() + (size_t) sequence * table_size(); }
    int page_count(int sequence) const { return page_counts[sequence]; }
    int length(int sequence) const { return lengths[sequence]; }
    // Row of k and v; the position must lie in a page of the sequence.
    int64_t cell(int sequence, int position) const {
        return (int64_t) pages(sequence)[position / KV_PAGE_CELLS] * KV_PAGE_CELLS + position % KV_PAGE_CELLS;
    }
    // Whether no other sequence has the page in its table.
    bool is_writable(int page) const { return holders[page] == 1; }

    // Replaces a sequence's pages, of whose cells the first `length` are filled. invalid_argument: a page
    // that does not exist or stands there twice, more pages than a context needs, or fewer than `length`.
    status set_pages(int sequence, const std::vector<int32_t> & pages, int length);
    void set_length(int sequence, int length) { lengths[sequence] = length; }

  private:
    ggml_context              * context = nullptr; // tensor headers; owned
    ggml_backend_buffer       * buffer  = nullptr; // cells; owned
    std::vector<ggml_tensor *>  k_layers, v_layers;
    std::vector<int32_t>        tables;      // I32 [table_size, n_sequences]
    std::vector<int>            page_counts; // pages of each sequence
    std::vector<int>            lengths;     // filled cells of each sequence
    std::vector<int>            holders;     // sequences that have each page in their table
    int                         ctx_length = 0;
};

} // namespace nozzle
