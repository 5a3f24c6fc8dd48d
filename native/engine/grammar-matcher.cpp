#include "grammar-matcher.h"

#include "tokenizer.h"

#include <algorithm>
#include <numeric>

namespace nozzle {

// States looked at for one token. Some 10 ms where every one of them is new; others' streams wait.
static constexpr long   WORK_MAX   = 100 * 1000;
static constexpr size_t CACHE_MAX  = 16; // grammars
static constexpr size_t CACHE_BYTES_MAX = 64u << 20; // of those that are kept
static constexpr size_t ROOM_BYTES_MAX  = 256u << 20; // of those and all that are in use

void token_texts::load(const tokenizer & words) {
    const int n = words.n_vocab();
    texts.resize(n);
    is_end.resize(n);
    for (int token = 0; token < n; ++token) {
        texts[token]  = words.decode(token);
        is_end[token] = words.is_end_of_generation(token);
    }
    std::vector<int32_t> sorted(n);
    std::iota(sorted.begin(), sorted.end(), 0);
    sorted.erase(std::remove_if(sorted.begin(), sorted.end(), [&](int32_t t) { return texts[t].empty() || is_end[t]; }),
                 sorted.end());
    std::sort(sorted.begin(), sorted.end(), [&](int32_t a, int32_t b) { return texts[a] < texts[b]; });
    const std::string * before = nullptr;
    for (const int32_t token : sorted) {
        const std::string & text   = texts[token];
        uint32_t            shared = 0;
        while (before && shared < before->size() && shared < text.size() && (*before)[shared] == text[shared]) {
            ++shared;
        }
        order.push_back({ token, shared });
        before = &text;
    }
}

grammar_matcher::grammar_matcher(std::shared_ptr<grammar_automaton> shared, const token_texts * w)
    : states(std::move(shared)), words(w) {}

bool grammar_matcher::begin() {
    refill();
    here = { states->start(work) };
    return here.set != grammar_automaton::EXHAUSTED;
}

void grammar_matcher::refill() { work = WORK_MAX; }

// Lowest code point that UTF-8 writes with so many bytes.
static uint32_t lowest(int length) { return length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000; }

grammar_matcher::place grammar_matcher::after_byte(const place & from, uint8_t byte) {
    const place dead{ grammar_automaton::DEAD };
    if (from.missing == 0) {
        if (byte < 0x80) {
            return { states->advance(from.set, byte, work) };
        }
        const uint8_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
        if (byte < 0xc2 || byte > 0xf4) {
            return dead;
        }
        return { from.set, byte & (0x7fu >> length), (uint8_t) (length - 1), length };
    }
    if ((byte & 0xc0) != 0x80) {
        return dead;
    }
    const uint32_t value = from.value << 6 | (byte & 0x3fu);
    if (from.missing > 1) {
        return { from.set, value, (uint8_t) (from.missing - 1), from.length };
    }
    const bool is_surrogate = value >= 0xd800 && value <= 0xdfff;
    if (value < lowest(from.length) || value > 0x10ffff || is_surrogate) {
        return dead;
    }
    return { states->advance(from.set, value, work) };
}

grammar_matcher::place grammar_matcher::after_text(const std::string & text) {
    place at = here;
    for (size_t i = 0; i < text.size() && at.set >= 0; ++i) {
        at = after_byte(at, (uint8_t) text[i]);
    }
    return at;
}

// A text may stop within a character that the grammar still has a use for.
grammar_matcher::verdict grammar_matcher::judge(const place & at) const {
    if (at.set < 0) {
        return at.set == grammar_automaton::DEAD ? verdict::NO : verdict::TOO_AMBIGUOUS;
    }
    if (at.missing == 0) {
        return verdict::YES;
    }
    const int      bits = 6 * at.missing;
    const uint32_t low  = std::max(at.value << bits, lowest(at.length));
    const uint32_t high = std::min((at.value << bits) + (1u << bits) - 1, 0x10ffffu);
    const auto     meets = [&](uint32_t from, uint32_t to) {
        return from <= to && states->may_continue(at.set, from, to);
    };
    return meets(low, std::min(high, 0xd7ffu)) || meets(std::max(low, 0xe000u), high) ? verdict::YES : verdict::NO;
}

// The automaton is full of states that are behind this text: go on in an empty one.
bool grammar_matcher::renew() {
    if (!states->is_full()) {
        return false;
    }
    auto fresh = std::make_shared<grammar_automaton>(states->source, states->room);
    const int set = fresh->adopt(*states, here.set, work);
    if (set < 0) {
        return false;
    }
    states   = std::move(fresh);
    here.set = set;
    return true;
}

grammar_matcher::verdict grammar_matcher::allows(int32_t token) {
    if (here.set < 0) {
        return verdict::TOO_AMBIGUOUS;
    }
    if (words->is_end[token]) {
        return here.missing == 0 && states->is_accepting(here.set) ? verdict::YES : verdict::NO;
    }
    if (words->texts[token].empty()) {
        return verdict::NO;
    }
    const verdict first = judge(after_text(words->texts[token]));
    return first == verdict::TOO_AMBIGUOUS && renew() ? judge(after_text(words->texts[token])) : first;
}

bool grammar_matcher::fill(std::vector<uint64_t> & bits) {
    bits.assign((words->texts.size() + 63) / 64, 0);
    const auto set_bit = [&](size_t token) { bits[token / 64] |= 1ull << (token % 64); };
    std::vector<place> path{ here }; // after so many bytes of the entry; ends where the text died
    for (const token_texts::entry & entry : words->order) {
        if (entry.shared >= path.size()) {
            continue; // begins as a text that died
        }
        path.resize(entry.shared + 1);
        const std::string & text = words->texts[entry.token];
        while (path.size() <= text.size()) {
            const place next = after_byte(path.back(), (uint8_t) text[path.size() - 1]);
            if (next.set == grammar_automaton::EXHAUSTED) {
                return false;
            }
            if (next.set < 0) {
                break;
            }
            path.push_back(next);
        }
        if (path.size() == text.size() + 1 && judge(path.back()) == verdict::YES) {
            set_bit(entry.token);
        }
    }
    for (size_t token = 0; token < words->is_end.size(); ++token) {
        if (words->is_end[token] && allows((int32_t) token) == verdict::YES) {
            set_bit(token);
        }
    }
    return true;
}

const std::vector<uint64_t> * grammar_matcher::allowed() {
    if (here.set < 0) {
        return nullptr;
    }
    const bool is_shared = here.missing == 0;
    if (is_shared) {
        const auto known = states->masks.find(here.set);
        if (known != states->masks.end()) {
            return &known->second;
        }
    }
    if (!fill(scratch) && !(renew() && fill(scratch))) {
        return nullptr;
    }
    if (!is_shared) {
        return &scratch;
    }
    states->keep_mask(here.set, scratch);
    return &scratch;
}

void grammar_matcher::accept(int32_t token) {
    if (words->is_end[token] || here.set < 0) {
        return;
    }
    place at = after_text(words->texts[token]);
    if (at.set == grammar_automaton::EXHAUSTED && renew()) {
        at = after_text(words->texts[token]);
    }
    here = at;
}

status grammar_cache::find(const std::string & text, std::shared_ptr<grammar_automaton> & out) {
    const auto known = std::find_if(entries.begin(), entries.end(), [&](const auto & e) { return e.first == text; });
    if (known != entries.end()) {
        entries.splice(entries.begin(), entries, known);
        if (known->second->is_full()) {
            known->second = std::make_shared<grammar_automaton>(known->second->source, room);
        }
        out = known->second;
        evict();
        return status::success();
    }
    std::shared_ptr<const grammar> made;
    const status                   result = grammar::compile(text, made);
    if (!result.ok()) {
        return result;
    }
    const size_t bytes = made->bytes() + text.size();
    while (!room->take(bytes)) {
        if (entries.empty()) {
            return status::failure(ERR_GRAMMARS_FULL, "grammars in use take all the memory that there is for them");
        }
        entries.pop_back();
    }
    const grammar * compiled = made.get();
    const auto      give     = [held = std::move(made), room = room, bytes](const grammar *) mutable {
        held.reset();
        room->give(bytes);
    };
    out = std::make_shared<grammar_automaton>(std::shared_ptr<const grammar>(compiled, give), room);
    entries.emplace_front(text, out);
    evict();
    return status::success();
}

grammar_cache::grammar_cache() : room(std::make_shared<grammar_room>(ROOM_BYTES_MAX)) {}

size_t grammar_cache::bytes() const {
    size_t out = 0;
    for (const auto & [text, automaton] : entries) {
        out += text.size() + automaton->source->bytes() + automaton->bytes();
    }
    return out;
}

// Automata grow after they came in: they are counted anew each time.
void grammar_cache::evict() {
    while (entries.size() > CACHE_MAX || (entries.size() > 1 && bytes() > CACHE_BYTES_MAX)) {
        entries.pop_back();
    }
}

} // namespace nozzle
