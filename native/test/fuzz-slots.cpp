// Coverage-guided fuzzer of pack loading, through the engine's front: module tables and payload sizes
// that nobody vouches for. In the sanitizer build (NOZZLE_SANITIZE) lora-bank.cpp and engine.cpp are
// compiled for it (fuzzing.h).
//
// usage: fuzz-slots <folder of the libraries> <model.gguf> <seed> <CPU seconds>
//        fuzz-slots <folder of the libraries> <model.gguf> --input <hex>
//
// Invariants, beside the sanitizers' own: a load is accepted exactly when an independent check in wide
// integers accepts it; a refused load has the code of its kind and leaves its slot as it was; no load
// changes another slot; a step with rows of an accepted slot runs. Exits 1 on the first finding, after
// a line that replays it.
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine.h"
#include "fuzzing.h"

using namespace nozzle;

// --- an input: header, then one record per module; all little-endian, as they lie in memory ---

struct header { int32_t slot; uint32_t size; };
struct record { int32_t layer, target, n_in, n_out, rank; float scale; int64_t a_offset, b_offset; };
static_assert(sizeof(header) == 8 && sizeof(record) == 40, "no padding");

static const size_t N_MODULES_MAX = 64;

// --- the engine under test ---

struct outcome {
    bool    is_non_finite = false;
    int32_t token         = -1;
    float   logprob       = 0;
    bool operator==(const outcome & o) const {
        return is_non_finite == o.is_non_finite && (is_non_finite || (token == o.token && logprob == o.logprob));
    }
};

struct fuzz_target {
    static const int N_SLOTS  = 3;
    static const int RANK_MAX = 8;
    std::unique_ptr<engine> tested;
    std::map<int, outcome>  held; // what a row of each loaded slot draws
    uint64_t n_runs = 0, n_accepted = 0, n_steps = 0;

    void open(const char * library_dir, const char * model_path) {
        engine_options options;
        options.library_dir = library_dir;
        options.model_path  = model_path;
        options.device      = "cpu";
        options.n_slots     = N_SLOTS;
        options.rank_max    = RANK_MAX;
        options.n_sequences = 1;
        options.n_ctx       = 64;
        options.n_rows_max  = 8;
        options.n_threads   = 1;
        const status result = engine::open(options, tested);
        if (!result.ok()) {
            fprintf(stderr, "fuzz-slots: %s\n", result.message.c_str());
            exit(2);
        }
    }

    bool is_acceptable(const header & head, const std::vector<lora_module> & modules, size_t size) const {
        const model_dims & dims = tested->info().dims;
        std::set<std::pair<int, int>> seen;
        bool ok = head.slot >= 1 && head.slot <= N_SLOTS && size <= tested->info().slot_bytes;
        for (const lora_module & m : modules) {
            ok = ok && m.layer >= 0 && m.layer < dims.n_layer && m.target >= 0 && m.target < TARGET_COUNT &&
                 m.n_in == dims.target_n_in(m.target) && m.n_out == dims.target_n_out(m.target) && m.rank >= 1 &&
                 m.rank <= RANK_MAX && m.a_offset >= 0 && m.b_offset >= 0 && m.a_offset % 64 == 0 &&
                 m.b_offset % 64 == 0 && (__int128) m.a_offset + (__int128) m.rank * m.n_in * 2 <= (__int128) size &&
                 (__int128) m.b_offset + (__int128) m.rank * m.n_out * 2 <= (__int128) size &&
                 seen.insert({ m.layer, m.target }).second;
        }
        return ok;
    }

    outcome draw(int slot) {
        sampling_options greedy;
        greedy.temperature    = 0;
        greedy.n_top_logprobs = 0;
        std::vector<sampled_token> sampled;
        status result = tested->open_sequence(0, greedy, { 0 }, 0);
        if (result.ok()) {
            batch rows;
            rows.tokens    = { 40, 41 };
            rows.positions = { 0, 1 };
            rows.sequences = { 0, 0 };
            rows.slots     = { slot, slot };
            rows.outputs   = { 0, 1 };
            result = tested->step(rows, sampled);
        }
        n_steps++;
        if (!result.ok() || sampled.size() != 1) {
            finding("a step with rows of slot " + std::to_string(slot) + " failed: " + result.message);
        }
        tested->close_sequence(0);
        return { sampled[0].is_non_finite, sampled[0].token, sampled[0].logprob };
    }

    void run(const bytes & input) {
        header head = { 0, 0 };
        memcpy(&head, input.data(), std::min(sizeof head, input.size()));
        std::vector<lora_module> modules;
        for (size_t at = sizeof head; at + sizeof(record) <= input.size() && modules.size() < N_MODULES_MAX;
             at += sizeof(record)) {
            record r;
            memcpy(&r, input.data() + at, sizeof r);
            modules.push_back({ r.layer, r.target, r.n_in, r.n_out, r.rank, r.a_offset, r.b_offset, r.scale });
        }
        // A block of its own, exactly as long: a read past its end is one past the block's.
        const size_t size = head.size % (tested->info().slot_bytes + 4096);
        std::unique_ptr<uint8_t, decltype(&free)> payload((uint8_t *) malloc(size), free);
        for (size_t i = 0; i < size; ++i) {
            payload.get()[i] = (uint8_t) ((i & 1) ? 0x2c + (i >> 9) % 8 : i * 31 + head.size);
        }
        const status result   = tested->load_slot(head.slot, modules, payload.get(), size);
        const bool   expected = is_acceptable(head, modules, size);
        n_runs++;
        if (result.ok() != expected) {
            finding(expected ? "a sound load was refused: " + result.message : "an unsound load was accepted");
        }
        const bool is_slot = head.slot >= 1 && head.slot <= N_SLOTS;
        if (!result.ok() && strcmp(result.code, is_slot ? ERR_PACK_MISMATCH : ERR_INVALID_ARGUMENT) != 0) {
            finding(std::string("refused with code ") + result.code);
        }
        if (result.ok()) {
            n_accepted++;
            held[head.slot] = draw(head.slot);
        }
        if (n_runs % 61 == 0 || (result.ok() && n_runs % 7 == 0)) {
            for (const auto & [slot, before] : held) {
                if (!(draw(slot) == before)) {
                    finding("slot " + std::to_string(slot) + " no longer draws what it drew");
                }
            }
        }
    }
};

// --- inputs ---

struct input_source {
    std::mt19937_64    random;
    const model_dims & dims;
    int64_t            slot_bytes;

    uint64_t below(uint64_t n) { return random() % n; }

    bytes sound(int rank, int n_layer, int slot) {
        std::vector<record> records;
        int64_t end = 0;
        const auto reserve = [&](int64_t values) {
            const int64_t at = end;
            end += (values * 2 + 63) / 64 * 64;
            return at;
        };
        for (int layer = 0; layer < n_layer; ++layer) {
            for (int target = 0; target < TARGET_COUNT; ++target) {
                const int n_in = dims.target_n_in(target), n_out = dims.target_n_out(target);
                const int64_t a = reserve((int64_t) rank * n_in), b = reserve((int64_t) rank * n_out);
                records.push_back({ layer, target, n_in, n_out, rank, 1.5f, a, b });
            }
        }
        const header head = { slot, (uint32_t) end };
        bytes out(sizeof head + records.size() * sizeof(record));
        memcpy(out.data(), &head, sizeof head);
        memcpy(out.data() + sizeof head, records.data(), records.size() * sizeof(record));
        return out;
    }

    int64_t interesting() {
        const int64_t values[] = { 0, 1, -1, 2, 63, 64, 65, -64, fuzz_target::RANK_MAX, fuzz_target::RANK_MAX + 1, dims.n_embd,
                                   dims.n_ff, dims.n_layer, TARGET_COUNT, slot_bytes, slot_bytes - 64, slot_bytes + 64,
                                   INT32_MAX, INT32_MIN, (int64_t) UINT32_MAX + 1, INT64_MAX, INT64_MAX - 63, INT64_MIN,
                                   INT64_MIN + 64, (int64_t) 1 << 62 };
        return values[below(sizeof values / sizeof values[0])];
    }

    void mutate(bytes & input, const std::vector<bytes> & corpus) {
        const size_t n_records = (input.size() - sizeof(header)) / sizeof(record);
        const auto record_at = [](size_t i) { return sizeof(header) + i * sizeof(record); };
        const int64_t value = below(2) ? interesting() : (int64_t) (below(slot_bytes / 64 + 2) * 64);
        switch (below(9)) {
            case 0: input[below(input.size())] ^= (uint8_t) (1u << below(8)); break;
            case 1: input[below(input.size())] = (uint8_t) random(); break;
            case 2: memcpy(input.data() + below(input.size() / 4) * 4, &value, 4); break;
            case 3: // an offset
                if (n_records) {
                    memcpy(input.data() + record_at(below(n_records)) + 24 + 8 * below(2), &value, 8);
                }
                break;
            case 4: // a rank
                if (n_records) {
                    const int32_t rank = (int32_t) below(fuzz_target::RANK_MAX + 2);
                    memcpy(input.data() + record_at(below(n_records)) + 16, &rank, 4);
                }
                break;
            case 5: { // a record once more
                if (n_records && n_records < N_MODULES_MAX) {
                    const size_t at = record_at(below(n_records));
                    const bytes copy(input.begin() + at, input.begin() + at + sizeof(record));
                    input.insert(input.begin() + record_at(below(n_records)), copy.begin(), copy.end());
                }
                break;
            }
            case 6: // one less
                if (n_records) {
                    const size_t at = record_at(below(n_records));
                    input.erase(input.begin() + at, input.begin() + at + sizeof(record));
                }
                break;
            case 7: { // the end of another
                const bytes & other = corpus[below(corpus.size())];
                const size_t cut = sizeof(header) + below(std::min(input.size(), other.size()) - sizeof(header) + 1);
                input.resize(cut);
                input.insert(input.end(), other.begin() + cut, other.end());
                break;
            }
            case 8: { // slot or size
                const int32_t slot = (int32_t) below(fuzz_target::N_SLOTS + 2);
                const uint32_t size = (uint32_t) (below(2) ? value : (int64_t) below(slot_bytes + 65));
                below(2) ? memcpy(input.data(), &slot, 4) : memcpy(input.data() + 4, &size, 4);
                break;
            }
        }
    }
};

int main(int argc, char ** argv) {
    if (argc != 5) {
        return 2;
    }
    fuzz_target target;
    target.open(argv[1], argv[2]);
    begin_fuzzing("fuzz-slots", std::string(argv[0]) + " " + argv[1] + " " + argv[2]);
    if (strcmp(argv[3], "--input") == 0) {
        current = from_hex(argv[4]);
        target.run(current);
        printf("fuzz-slots: the input holds\n");
        return 0;
    }
    const uint64_t seed = strtoull(argv[3], nullptr, 10);
    input_source source{ std::mt19937_64(seed), target.tested->info().dims, (int64_t) target.tested->info().slot_bytes };
    std::vector<bytes> corpus;
    for (const int rank : { 1, 3, fuzz_target::RANK_MAX }) {
        for (int slot = 1; slot <= fuzz_target::N_SLOTS; ++slot) {
            corpus.push_back(source.sound(rank, slot == 2 ? 1 : source.dims.n_layer, slot));
            current = corpus.back();
            target.run(current);
        }
    }
    const double begin = cpu_seconds();
    fuzz_for(atof(argv[4]), corpus, source, target);
    printf("{\"seed\":\"%llu\",\"executions\":%llu,\"accepted\":%llu,\"steps\":%llu,\"corpus\":%zu,\"edges\":%zu,"
           "\"cpu_s\":%.1f}\n", (unsigned long long) seed, (unsigned long long) target.n_runs,
           (unsigned long long) target.n_accepted, (unsigned long long) target.n_steps, corpus.size(), n_edges,
           cpu_seconds() - begin);
    return 0;
}
