#include "engine.h"

#include "cpu/cpu-runner.h"
#include "device-bank.h"
#include "device.h"
#include "graph.h"
#include "kernels.h"
#include "kv-cache.h"
#include "memory-plan.h"
#include "tokenizer.h"

#include <algorithm>

namespace nozzle {

class engine_impl : public engine {
  public:
    status init(const engine_options & options);

    const engine_info & info() const override { return about; }
    std::vector<int32_t> tokenize(const std::string & text, bool add_special, bool parse_special) const override {
        return words.encode(text, add_special, parse_special);
    }
    std::string decode(int32_t token) const override { return words.decode(token); }
    bool is_end_of_generation(int32_t token) const override { return words.is_end_of_generation(token); }

    status load_slot(int slot, const std::vector<lora_module> & modules, const uint8_t * payload, size_t size) override;
    status clear_slot(int slot) override;
    bool pin(const void * payload, size_t size) override { return bank->pin(payload, size); }
    void unpin(const void * payload) override { bank->unpin(payload); }
    status open_sequence(int sequence, const sampling_options & options, const std::vector<int32_t> & pages,
                         int length) override;
    status set_pages(int sequence, const std::vector<int32_t> & pages, int length) override;
    status close_sequence(int sequence) override;
    status step(const batch & rows, std::vector<sampled_token> & sampled) override;

  private:
    status init_cpu(const engine_options & options);
    status init_portable(const engine_options & options);
    status check(const batch & rows) const;
    status check_slot(int slot) const;
    status check_sequence(int sequence) const;

    // Freed in reverse: what the backend allocated goes before the backend.
    device        on;
    model         base;
    tokenizer     words;
    token_texts   texts;
    grammar_cache grammars;
    std::unique_ptr<slot_bank> bank;
    kv_cache      kv;
    std::unique_ptr<step_runner> runner;
    engine_info   about;
    int           n_rows_max = 0;
    std::vector<std::unique_ptr<sampler>> samplers; // one per open sequence, else nullptr
};

status engine::open(const engine_options & options, std::unique_ptr<engine> & out) {
    auto made = std::make_unique<engine_impl>();
    const status result = made->init(options);
    if (result.ok()) {
        out = std::move(made);
    }
    return result;
}

status engine_impl::init(const engine_options & o) {
    load_backends(o.library_dir, o.cuda_library);
    if (o.graph != "auto" && o.graph != "portable") {
        return status::failure(ERR_INVALID_ARGUMENT, "graph '" + o.graph + "' is none of auto and portable");
    }
    status result = on.open(o.device);
    if (result.ok()) {
        result = base.read_shape(o.model_path, o.n_ctx);
    }
    const bool is_portable = !on.is_cpu() || o.graph == "portable";
    if (result.ok() && is_portable) {
        result = device_bank::check_sizes(base.dims, o.n_slots, o.rank_max);
    }
    if (result.ok()) {
        about.memory = plan_memory(base, o, is_portable, on);
        result = about.memory.check(on);
    }
    if (result.ok()) {
        result = base.load(o.model_path, is_portable ? on.backend() : nullptr);
    }
    if (result.ok()) {
        result = words.load(o.model_path);
    }
    if (result.ok() && words.n_vocab() != base.dims.n_vocab) {
        result = status::failure(ERR_MODEL_INVALID, "the tokenizer has " + std::to_string(words.n_vocab()) +
                                 " tokens, the embeddings " + std::to_string(base.dims.n_vocab));
    }
    if (result.ok()) {
        result = kv.allocate(base.dims, o.n_sequences, o.n_ctx, o.n_cells, is_portable, on.backend());
    }
    if (result.ok()) {
        result = is_portable ? init_portable(o) : init_cpu(o);
    }
    if (!result.ok()) {
        return result;
    }
    texts.load(words);
    n_rows_max = o.n_rows_max;
    samplers.resize(o.n_sequences);
    about.dims          = base.dims;
    about.chat_template = words.chat_template();
    about.bos           = words.bos();
    about.eos           = words.eos();
    about.bos_text      = words.text(about.bos);
    about.eos_text      = words.text(about.eos);
    about.slot_bytes    = bank->slot_bytes();
    about.n_pages       = kv.n_pages();
    about.page_cells    = KV_PAGE_CELLS;
    about.page_bytes    = kv.page_bytes();
    return result;
}

// The CPU's own slots and executor.
status engine_impl::init_cpu(const engine_options & o) {
    auto slots    = std::make_unique<lora_bank>();
    status result = slots->allocate(base.dims, o.n_slots, o.rank_max);
    if (result.ok()) {
        auto made = std::make_unique<cpu_runner>();
        result = made->init(&base, slots.get(), &kv, on.cpu_traits(), o.n_threads, o.n_rows_max);
        runner = std::move(made);
    }
    bank = std::move(slots);
    about.device = on.name() + ", " + std::to_string(o.n_threads) + " threads, kernels " + kernels_best().name;
    return result;
}

// Slots and graph as every other device has them.
status engine_impl::init_portable(const engine_options & o) {
    on.use_threads(o.n_threads);
    auto slots    = std::make_unique<device_bank>();
    status result = slots->allocate(base.dims, o.n_slots, o.rank_max, on);
    if (result.ok()) {
        auto made = std::make_unique<graph_runner>();
        result = made->init(&base, slots.get(), &kv, on, o.n_threads, o.n_rows_max);
        if (result.ok()) {
            about.memory.workspace = made->workspace_bytes();
        }
        runner = std::move(made);
    }
    bank = std::move(slots);
    about.device = on.is_cpu() ? on.name() + ", portable graph" : on.name();
    return result;
}

status engine_impl::check_slot(int slot) const {
    if (slot < 1 || slot > bank->n_slots()) {
        return status::failure(ERR_INVALID_ARGUMENT, "slot must be 1 to " + std::to_string(bank->n_slots()) + ", got " +
                               std::to_string(slot));
    }
    return status::success();
}

status engine_impl::check_sequence(int sequence) const {
    if (sequence < 0 || sequence >= kv.n_sequences()) {
        return status::failure(ERR_INVALID_ARGUMENT, "sequence must be 0 to " + std::to_string(kv.n_sequences() - 1) +
                               ", got " + std::to_string(sequence));
    }
    return status::success();
}

status engine_impl::load_slot(int slot, const std::vector<lora_module> & modules, const uint8_t * payload, size_t size) {
    const status result = check_slot(slot);
    return result.ok() ? bank->load(slot, modules, payload, size) : result;
}

status engine_impl::clear_slot(int slot) {
    const status result = check_slot(slot);
    if (result.ok()) {
        bank->clear(slot);
    }
    return result;
}

status engine_impl::open_sequence(int sequence, const sampling_options & options, const std::vector<int32_t> & pages,
                                  int length) {
    status result = check_sequence(sequence);
    if (!result.ok()) {
        return result;
    }
    std::unique_ptr<grammar_matcher> constraint;
    if (!options.grammar.empty()) {
        std::shared_ptr<grammar_automaton> automaton;
        result = grammars.find(options.grammar, automaton);
        if (!result.ok()) {
            return result;
        }
        constraint = std::make_unique<grammar_matcher>(std::move(automaton), &texts);
        if (!constraint->begin()) {
            return status::failure(ERR_INVALID_GRAMMAR, "grammar: it begins in too many ways");
        }
    }
    auto made = std::make_unique<sampler>();
    result = made->configure(options, std::move(constraint), base.dims.n_vocab);
    if (result.ok()) {
        result = kv.set_pages(sequence, pages, length);
    }
    if (result.ok()) {
        samplers[sequence] = std::move(made);
    }
    return result;
}

status engine_impl::set_pages(int sequence, const std::vector<int32_t> & pages, int length) {
    const status result = check_sequence(sequence);
    if (!result.ok()) {
        return result;
    }
    if (!samplers[sequence]) {
        return status::failure(ERR_INVALID_ARGUMENT, "sequence " + std::to_string(sequence) + " is not open");
    }
    return kv.set_pages(sequence, pages, length);
}

status engine_impl::close_sequence(int sequence) {
    const status result = check_sequence(sequence);
    if (!result.ok()) {
        return result;
    }
    samplers[sequence].reset();
    return kv.set_pages(sequence, {}, 0);
}

status engine_impl::check(const batch & b) const {
    const auto refuse = [](const std::string & why) { return status::failure(ERR_INVALID_ARGUMENT, why); };
    const int n = b.n_rows();
    if (n < 1 || n > n_rows_max) {
        return refuse("a step takes 1 to " + std::to_string(n_rows_max) + " rows, got " + std::to_string(n));
    }
    std::vector<uint8_t> seen(kv.n_sequences(), 0);
    for (int i = 0; i < n; ++i) {
        const std::string row = "row " + std::to_string(i) + ": ";
        const status sequence = check_sequence(b.sequences[i]);
        if (!sequence.ok()) {
            return refuse(row + sequence.message);
        }
        const int s = b.sequences[i];
        const bool continues = i > 0 && b.sequences[i - 1] == s;
        if (!samplers[s]) {
            return refuse(row + "sequence " + std::to_string(s) + " is not open");
        }
        if (!continues && seen[s]++) {
            return refuse(row + "rows of sequence " + std::to_string(s) + " do not stand together");
        }
        const int expected = continues ? b.positions[i - 1] + 1 : kv.length(s);
        if (b.positions[i] != expected) {
            return refuse(row + "position " + std::to_string(b.positions[i]) + ", expected " + std::to_string(expected));
        }
        if (b.positions[i] >= kv.n_ctx()) {
            return refuse(row + "position " + std::to_string(b.positions[i]) + " is past the context of " +
                          std::to_string(kv.n_ctx()));
        }
        if (b.positions[i] / KV_PAGE_CELLS >= kv.page_count(s)) {
            return refuse(row + "position " + std::to_string(b.positions[i]) + " is past the pages of sequence " +
                          std::to_string(s));
        }
        if (const int page = kv.pages(s)[b.positions[i] / KV_PAGE_CELLS]; !kv.is_writable(page)) {
            return refuse(row + "page " + std::to_string(page) + " is shared and cannot be written");
        }
        if (b.tokens[i] < 0 || b.tokens[i] >= base.dims.n_vocab) {
            return refuse(row + "token " + std::to_string(b.tokens[i]) + " is not in the vocabulary");
        }
        if (b.slots[i] < 0 || b.slots[i] > bank->n_slots()) {
            return refuse(row + "slot " + std::to_string(b.slots[i]) + " does not exist");
        }
        if (!bank->is_loaded(b.slots[i])) {
            return status::failure(ERR_SLOT_EMPTY, row + "slot " + std::to_string(b.slots[i]) + " holds no adapter");
        }
        if (continues && b.slots[i - 1] != b.slots[i]) {
            return refuse(row + "one sequence cannot use two slots in a step");
        }
    }
    return status::success();
}

status engine_impl::step(const batch & rows, std::vector<sampled_token> & sampled) {
    status result = check(rows);
    if (!result.ok()) {
        return result;
    }
    step_logits logits;
    result = runner->run(rows, logits);
    if (!result.ok()) {
        return result;
    }
    sampled.clear();
    for (int i = 0; i < rows.n_rows(); ++i) {
        kv.set_length(rows.sequences[i], rows.positions[i] + 1);
        if (rows.outputs[i]) {
            sampled.emplace_back();
            sampled.back().sequence = rows.sequences[i];
        }
    }
    // Beside each other: a draw over a large vocabulary takes as long as a layer.
    runner->for_each((int) sampled.size(), [&](int i) {
        const int sequence = sampled[i].sequence;
        sampled[i] = samplers[sequence]->draw(logits.values + (size_t) i * base.dims.n_vocab,
                                              logits.summaries ? logits.summaries + i : nullptr);
        sampled[i].sequence = sequence;
    });
    return result;
}

} // namespace nozzle
