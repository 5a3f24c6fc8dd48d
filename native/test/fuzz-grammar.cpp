// Coverage-guided fuzzer of grammars, from a text that nobody vouches for to the tokens that it allows. In
// the sanitizer build grammar.cpp, grammar-automaton.cpp and grammar-matcher.cpp are compiled for it
// (fuzzing.h).
//
// usage: fuzz-grammar <model.gguf with a tokenizer> <seed> <CPU seconds>
//        fuzz-grammar <model.gguf with a tokenizer> --input <hex>
//
// Invariants, beside the sanitizers' own: a text is refused with `invalid_grammar`, or compiled; both take
// less than COMPILE_S_MAX. A token that is drawn from the allowed ones is allowed when it is asked about
// alone. A draw takes less than DRAW_S_MAX, an automaton less than AUTOMATON_BYTES_MAX, and the cache of
// all that were compiled less than CACHE_BYTES_MAX. Classes hold what their text says, looked at slowly.
#include <algorithm>
#include <cstring>
#include <memory>

#include "fuzzing.h"
#include "grammar-matcher.h"
#include "llama.h"
#include "tokenizer.h"

using namespace nozzle;

// CPU seconds, of a process that may be built with sanitizers and share its core.
static const double COMPILE_S_MAX       = 1.0;
static const double DRAW_S_MAX          = 2.0;
static const size_t AUTOMATON_BYTES_MAX = 48u << 20;
static const size_t CACHE_BYTES_MAX     = 64u << 20; // as grammars come in; they grow while they run
static const size_t ROOM_BYTES_MAX      = 256u << 20;
static const int    DRAWS               = 6;

struct fuzz_target {
    tokenizer     words;
    token_texts   texts;
    grammar_cache cache;
    uint64_t      n_runs = 0, n_accepted = 0, n_draws = 0;
    double        compile_s = 0, draw_s = 0; // the longest
    size_t        automaton_bytes = 0, cache_bytes = 0;

    void run(const bytes & input) {
        n_runs++;
        const std::string text(input.begin(), input.end());
        std::shared_ptr<grammar_automaton> states;
        double begin = cpu_seconds();
        const status result = cache.find(text, states);
        compile_s   = std::max(compile_s, cpu_seconds() - begin);
        cache_bytes = std::max(cache_bytes, cache.bytes());
        if (cache_bytes > CACHE_BYTES_MAX && cache.size() > 1) {
            finding(std::to_string(cache_bytes) + " bytes of grammars are kept");
        }
        if (compile_s > COMPILE_S_MAX) {
            finding("compiling took " + std::to_string(compile_s) + " s");
        }
        if (!result.ok()) {
            if (strcmp(result.code, ERR_INVALID_GRAMMAR) != 0 || result.message.empty()) {
                finding(std::string("refused with code ") + result.code);
            }
            return;
        }
        n_accepted++;
        check_classes(*states->source);
        begin = cpu_seconds();
        grammar_matcher matcher(states, &texts);
        if (matcher.begin()) {
            draw_some(matcher);
        }
        draw_s = std::max(draw_s, (cpu_seconds() - begin) / DRAWS);
        if (draw_s > DRAW_S_MAX) {
            finding("a draw took " + std::to_string(draw_s) + " s");
        }
        automaton_bytes = std::max(automaton_bytes, states->bytes());
        if (automaton_bytes > AUTOMATON_BYTES_MAX) {
            finding(std::to_string(automaton_bytes) + " bytes of an automaton");
        }
    }

    // Grammars as large as they may be, more of them than are kept: their bytes are bounded, too.
    void fill_cache() {
        for (int i = 0; i < 24; ++i) {
            std::string text = "root ::= " + std::string(i, ' ');
            for (int k = 0; k < 60000; ++k) {
                text += "[ab]";
            }
            std::shared_ptr<grammar_automaton> states;
            if (!cache.find(text, states).ok()) {
                finding("a grammar of 60,000 classes was refused");
            }
            cache_bytes = std::max(cache_bytes, cache.bytes());
        }
        if (cache_bytes > CACHE_BYTES_MAX || cache.size() < 4) {
            finding(std::to_string(cache.size()) + " grammars are kept, of " + std::to_string(cache_bytes) + " bytes");
        }
    }

    // Hostile ones in use by as many sequences as a host may have: all of them together are bounded.
    void fill_room() {
        std::vector<std::unique_ptr<grammar_matcher>> in_use;
        size_t n_refused = 0;
        for (int i = 0; i < 100; ++i) {
            std::string text = "root ::= " + std::string(i, ' ');
            for (int k = 0; k < 60000; ++k) {
                text += "[ab]";
            }
            std::shared_ptr<grammar_automaton> states;
            const status result = cache.find(text, states);
            n_refused += !result.ok();
            if (result.ok()) {
                in_use.push_back(std::make_unique<grammar_matcher>(states, &texts));
                in_use.back()->begin();
            } else if (strcmp(result.code, ERR_GRAMMARS_FULL) != 0) {
                finding(std::string("refused with code ") + result.code);
            }
            if (cache.bytes_of_all() > ROOM_BYTES_MAX) {
                finding(std::to_string(cache.bytes_of_all()) + " bytes of grammars in use");
            }
        }
        if (n_refused == 0 || in_use.size() < 30) {
            finding(std::to_string(n_refused) + " of 100 grammars were refused");
        }
        in_use.clear();
        std::shared_ptr<grammar_automaton> states;
        if (!cache.find("root ::= \"ok\"", states).ok() || cache.bytes_of_all() > CACHE_BYTES_MAX) {
            finding("what is in use no more is not given back");
        }
    }

    void draw_some(grammar_matcher & matcher) {
        for (int draw = 0; draw < DRAWS; ++draw) {
            matcher.refill();
            const std::vector<uint64_t> * allowed = matcher.allowed();
            std::vector<int32_t> choices;
            for (const token_texts::entry & entry : texts.order) {
                if (allowed && ((*allowed)[entry.token / 64] >> (entry.token % 64) & 1)) {
                    choices.push_back(entry.token);
                }
            }
            if (choices.empty()) {
                return;
            }
            n_draws++;
            const int32_t token = choices[(n_runs * 31 + (uint64_t) draw * 7) % choices.size()];
            if (matcher.allows(token) == grammar_matcher::verdict::NO) {
                finding("token " + std::to_string(token) + " is allowed among others and not alone");
            }
            matcher.accept(token);
        }
    }

    void check_classes(const grammar & g) const {
        const size_t n = std::min<size_t>(g.classes.size(), 32);
        for (size_t i = 0; i < n; ++i) {
            const character_class & c = g.classes[i];
            for (size_t k = 0; k + 1 < c.ranges.size(); ++k) {
                if (c.ranges[k].second + 1 >= c.ranges[k + 1].first) {
                    finding("ranges touch, or are out of order");
                }
            }
            for (const uint32_t point : { 0u, 0x41u, 0x7fu, 0xe9u, 0x4e00u, 0xd800u, 0x10ffffu }) {
                bool is_in = false;
                for (const auto & range : c.ranges) {
                    is_in = is_in || (point >= range.first && point <= range.second);
                }
                if (c.contains(point) != (is_in != c.is_negated) || c.meets(point, point) != c.contains(point)) {
                    finding("a class is wrong about " + std::to_string(point));
                }
            }
        }
    }
};

struct input_source {
    std::mt19937_64 random;
    uint64_t below(uint64_t n) { return random() % n; }

    void mutate(bytes & input, const std::vector<bytes> & corpus) {
        static const char * const words[] = { "root", " ::= ", "\n", "\"a\"", "[a-z]", "[^a]", ".", "(", ")", "|", "*", "+", "?",
                                              "{2}", "{0,}", "{1,1000}", "\\x41", "\\U0010ffff", "é", "日", "\xf0\x9f\x98\x80",
                                              "\"", "[", "]", "-", "r1", "r1 ::= ", "#", "\xff", "{1000000}", "\"\"" };
        const size_t at = input.empty() ? 0 : below(input.size() + 1);
        switch (below(6)) {
            case 0:
                if (at < input.size()) {
                    input[at] ^= (uint8_t) (1u << below(8));
                }
                break;
            case 1: { // a word of the notation
                const char * word = words[below(sizeof words / sizeof words[0])];
                input.insert(input.begin() + at, word, word + strlen(word));
                break;
            }
            case 2: { // less
                const size_t n = std::min<size_t>(1 + below(8), input.size() - at);
                input.erase(input.begin() + at, input.begin() + at + n);
                break;
            }
            case 3: { // a piece of itself, again and again
                const size_t n = std::min<size_t>(1 + below(12), input.size() - at);
                const bytes piece(input.begin() + at, input.begin() + at + n);
                for (uint64_t times = below(8) == 0 ? 2000 : below(8); times > 0 && input.size() < 64 * 1024; --times) {
                    input.insert(input.begin() + at, piece.begin(), piece.end());
                }
                break;
            }
            case 4: { // the end of another
                const bytes & other = corpus[below(corpus.size())];
                const size_t cut = std::min(at, other.size());
                input.resize(at);
                input.insert(input.end(), other.begin() + cut, other.end());
                break;
            }
            case 5: { // another rule
                const bytes & other = corpus[below(corpus.size())];
                input.push_back('\n');
                input.insert(input.end(), other.begin(), other.end());
                break;
            }
        }
        if (input.size() > 256 * 1024 + 16) {
            input.resize(256 * 1024 + 16);
        }
    }
};

static const char * const SEEDS[] = {
    "root ::= \"a\"",
    "root ::= [a-z]+ (\",\" [a-z]+)*",
    "root ::= \"{\" pair (\",\" pair)* \"}\"\npair ::= string \":\" value\nstring ::= \"\\\"\" [^\"\\\\]* \"\\\"\"\nvalue ::= string | root",
    "root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"a\"",
    "root ::= ((\"a\"{2,5}){3}){0,9} .* [^\\x00-\\x1f\\u00e9]",
    "root ::= r1 | r1 \"x\"\nr1 ::= r2 | r2 \"y\"\nr2 ::= \"\" | \"z\"{1000}",
    "root ::= [\\U0001f600-\\U0001f64f日é]{1,4} # comment\n",
};

int main(int argc, char ** argv) {
    if (argc != 4) {
        return 2;
    }
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    fuzz_target target;
    if (!target.words.load(argv[1]).ok()) {
        return 3;
    }
    target.texts.load(target.words);
    begin_fuzzing("fuzz-grammar", std::string(argv[0]) + " " + argv[1]);
    if (strcmp(argv[2], "--input") == 0) {
        current = from_hex(argv[3]);
        target.run(current);
        printf("fuzz-grammar: the input holds\n");
        return 0;
    }
    target.fill_cache();
    target.fill_room();
    const uint64_t seed = strtoull(argv[2], nullptr, 10);
    input_source source{ std::mt19937_64(seed) };
    std::vector<bytes> corpus;
    for (const char * text : SEEDS) {
        corpus.emplace_back(text, text + strlen(text));
        current = corpus.back();
        target.run(current);
    }
    const double begin = cpu_seconds();
    fuzz_for(atof(argv[3]), corpus, source, target);
    printf("{\"seed\":\"%llu\",\"executions\":%llu,\"accepted\":%llu,\"draws\":%llu,\"corpus\":%zu,\"edges\":%zu,"
           "\"compile_ms_max\":%.1f,\"draw_ms_max\":%.1f,\"automaton_bytes_max\":%zu,\"cache_bytes_max\":%zu,\"cpu_s\":%.1f}\n",
           (unsigned long long) seed, (unsigned long long) target.n_runs, (unsigned long long) target.n_accepted,
           (unsigned long long) target.n_draws, corpus.size(), n_edges, 1e3 * target.compile_s, 1e3 * target.draw_s,
           target.automaton_bytes, target.cache_bytes, cpu_seconds() - begin);
    return 0;
}
