// Our grammars against libllama's: random grammars, random texts, the whole vocabulary after each token;
// and ours alone on damaged ones.
//
// usage: grammar-test <model.gguf with a tokenizer> <first seed> <grammars>
// Prints "<compared> grammars, <n> tokens, <n> failures".
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "grammar-matcher.h"
#include "llama.h"
#include "tokenizer.h"

using namespace nozzle;

// Whether the text is UTF-8, or becomes it by bytes that follow. libllama does not look that closely.
static bool begins_utf8(const std::string & text) {
    for (size_t i = 0; i < text.size();) {
        const uint8_t lead = (uint8_t) text[i];
        if (lead < 0x80) {
            ++i;
            continue;
        }
        if (lead < 0xc2 || lead > 0xf4) {
            return false;
        }
        const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        for (size_t k = 1; k < length && i + k < text.size(); ++k) {
            const uint8_t low  = k > 1 ? 0x80 : lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
            const uint8_t high = k > 1 ? 0xbf : lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
            if ((uint8_t) text[i + k] < low || (uint8_t) text[i + k] > high) {
                return false;
            }
        }
        i += length;
    }
    return true;
}

class writer {
  public:
    explicit writer(uint32_t seed) : random(seed) {}

    // A few rules that refer to each other; may be left-recursive, which both sides must refuse.
    std::string grammar_text() {
        std::string out;
        n_rules = 1 + below(4);
        for (int rule = 0; rule < n_rules; ++rule) {
            out += name(rule) + " ::= " + alternatives(2) + "\n";
        }
        return out;
    }
    int below(int n) { return (int) (random() % (uint32_t) n); }

  private:
    static std::string name(int rule) { return rule == 0 ? "root" : "r-" + std::to_string(rule); }

    std::string alternatives(int depth) {
        std::string out = sequence(depth);
        for (int i = below(3); i > 0; --i) {
            out += " | " + sequence(depth);
        }
        return out;
    }
    std::string sequence(int depth) {
        std::string out;
        for (int i = below(4); i > 0; --i) {
            out += item(depth) + times() + " ";
        }
        return out;
    }
    std::string item(int depth) {
        static const char * const texts[] = { "\"a\"",    "\"b\"",     "\"ab\"",   "\"the\"", "\"é\"",
                                              "[a-c]", "[^a\\n]", "[à-ê日]", "\" \"",   "." };
        const int                 pick    = below(13);
        if (pick < 10) {
            return texts[pick];
        }
        if (pick < 12) {
            return name(below(n_rules));
        }
        return depth > 0 ? "(" + alternatives(depth - 1) + ")" : "\"x\"";
    }
    std::string times() {
        static const char * const all[] = { "", "", "", "", "?", "*", "+", "{2}", "{1,3}", "{2,}", "{0,2}" };
        return all[below(11)];
    }
    std::mt19937 random;
    int          n_rules = 1;
};

struct outcome {
    int compared = 0, tokens = 0, failures = 0;
};

static void compare(const std::string & text, writer & random, const tokenizer & words, const token_texts & texts,
                    outcome & out) {
    std::shared_ptr<const grammar> made;
    if (!grammar::compile(text, made).ok()) {
        return;
    }
    llama_sampler * theirs = llama_sampler_init_grammar(words.vocab(), text.c_str(), "root");
    if (!theirs) {
        return;
    }
    grammar_matcher ours(std::make_shared<grammar_automaton>(made), &texts);
    ++out.compared;
    const int n_vocab = words.n_vocab();
    std::string written;
    if (!ours.begin()) {
        ++out.failures;
        printf("cannot begin: %s\n", text.c_str());
    }
    for (int step = 0; step < 8; ++step) {
        std::vector<llama_token_data> data(n_vocab);
        for (int i = 0; i < n_vocab; ++i) {
            data[i] = { i, 1.0f, 0.0f };
        }
        llama_token_data_array all = { data.data(), data.size(), -1, false };
        llama_sampler_apply(theirs, &all);
        ours.refill();
        const std::vector<uint64_t> * allowed = ours.allowed();
        if (!allowed) {
            break; // too ambiguous for us; bounded by design
        }
        std::vector<int> choices;
        for (int i = 0; i < n_vocab; ++i) {
            const bool we = (*allowed)[i / 64] >> (i % 64) & 1;
            // A control token has no text; libllama matches its name.
            if (texts.texts[i].empty() && !texts.is_end[i]) {
                if (we) {
                    ++out.failures;
                    printf("control token %d allowed in %s\n", i, text.c_str());
                }
                continue;
            }
            if (!we && !texts.is_end[i] && !begins_utf8(written + texts.texts[i])) {
                continue;
            }
            if (texts.texts[i].find('\0') != std::string::npos) {
                continue; // ends a text for libllama
            }
            ++out.tokens;
            const bool alone = ours.allows(i) == grammar_matcher::verdict::YES;
            const bool they  = data[i].logit != -INFINITY;
            if (we != they || we != alone) {
                ++out.failures;
                printf("token %d (%s): mask %d, alone %d, libllama %d, step %d of %s\n", i, texts.texts[i].c_str(), we,
                       alone, they, step, text.c_str());
            }
            if (we && !texts.is_end[i]) {
                choices.push_back(i);
            }
        }
        if (choices.empty() || out.failures > 0) {
            break;
        }
        const int token = choices[random.below((int) choices.size())];
        ours.accept(token);
        written += texts.texts[token];
        llama_sampler_accept(theirs, token);
    }
    llama_sampler_free(theirs);
}

// Damaged texts: refused or run, within bounds. A sanitizer build sees what else could happen.
static void run_damaged(std::string text, writer & random, const token_texts & texts) {
    static const char signs[] = "\"[](){}*+?|,-^\\.:=\n#019aZ\xc3\xff";
    for (int i = 1 + random.below(4); i > 0 && !text.empty(); --i) {
        const size_t at   = (size_t) random.below((int) text.size());
        const char   sign = signs[random.below((int) sizeof(signs) - 1)];
        switch (random.below(3)) {
        case 0: text[at] = sign; break;
        case 1: text.insert(at, 1, sign); break;
        default: text.erase(at, 1);
        }
    }
    std::shared_ptr<const grammar> made;
    if (!grammar::compile(text, made).ok()) {
        return;
    }
    grammar_matcher matcher(std::make_shared<grammar_automaton>(made), &texts);
    if (!matcher.begin()) {
        return;
    }
    for (int step = 0; step < 4; ++step) {
        matcher.refill();
        const std::vector<uint64_t> * allowed = matcher.allowed();
        std::vector<int32_t>          choices;
        for (const token_texts::entry & entry : texts.order) {
            if (allowed && ((*allowed)[entry.token / 64] >> (entry.token % 64) & 1)) {
                choices.push_back(entry.token);
            }
        }
        if (choices.empty()) {
            return;
        }
        matcher.accept(choices[random.below((int) choices.size())]);
    }
}

int main(int argc, char ** argv) {
    if (argc != 4) {
        return 2;
    }
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    tokenizer words;
    if (!words.load(argv[1]).ok()) {
        return 3;
    }
    token_texts texts;
    texts.load(words);
    outcome out;
    for (int i = 0; i < atoi(argv[3]) && out.failures == 0; ++i) {
        const uint32_t seed = (uint32_t) (atoi(argv[2]) + i);
        writer         random(seed);
        const std::string text = random.grammar_text();
        compare(text, random, words, texts, out);
        for (int k = 0; k < 8; ++k) {
            run_damaged(text, random, texts);
        }
        if (out.failures > 0) {
            printf("seed %u\n", seed);
        }
    }
    printf("%d grammars, %d tokens, %d failures\n", out.compared, out.tokens, out.failures);
    return out.failures > 0;
}
