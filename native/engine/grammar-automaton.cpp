#include "grammar-automaton.h"

#include <algorithm>

namespace nozzle {

// Together some 8 MB when all are used up; a JSON schema's automaton takes kilobytes.
static constexpr size_t NODES_MAX     = 64 * 1024;
static constexpr size_t SETS_MAX      = 4096;
static constexpr size_t SET_NODES_MAX = 256 * 1024; // of all sets
static constexpr size_t WIDE_MAX      = 16 * 1024;
static constexpr size_t MASKS_MAX     = 64; // a kilobyte per 8192 tokens each
// What a table keeps beside a key and a value.
static constexpr size_t HASH_ENTRY    = 32;
static constexpr size_t WIDE_BYTES    = sizeof(uint64_t) + sizeof(int) + HASH_ENTRY;

static constexpr int32_t UNKNOWN = -3;

size_t grammar_automaton::node_hash::operator()(const node & n) const {
    uint64_t h = ((uint64_t) n.element << 32 | n.parent) * 0x9e3779b97f4a7c15ull;
    h ^= (h >> 29) ^ (uint64_t) n.count * 0xbf58476d1ce4e5b9ull;
    return (size_t) (h ^ h >> 32);
}

size_t grammar_automaton::set_hash::operator()(const std::vector<uint32_t> & ids) const {
    uint64_t h = ids.size();
    for (const uint32_t id : ids) {
        h = (h ^ id) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 32;
    }
    return (size_t) h;
}

grammar_automaton::grammar_automaton(std::shared_ptr<const grammar> s, std::shared_ptr<grammar_room> r)
    : source(std::move(s)), room(std::move(r)) {}

grammar_automaton::~grammar_automaton() {
    if (room) {
        room->give(n_taken);
    }
}

bool grammar_automaton::take(size_t bytes) {
    const bool fits = !room || room->take(bytes);
    n_taken += fits ? bytes : 0;
    return fits;
}

uint32_t grammar_automaton::make_node(const node & n) {
    const auto known = node_ids.find(n);
    if (known != node_ids.end()) {
        return known->second;
    }
    if (nodes.size() >= NODES_MAX || !take(2 * sizeof(node) + 2 * sizeof(uint32_t) + HASH_ENTRY)) {
        is_out_of_room = true;
        return 0;
    }
    const uint32_t id = (uint32_t) nodes.size();
    nodes.push_back(n);
    seen_at.push_back(0);
    node_ids.emplace(n, id);
    return id;
}

// Nothing is stacked for an alternative that is at its end, so a list's tail does not pile up.
uint32_t grammar_automaton::after(uint32_t element, uint32_t parent) {
    const bool is_last = source->elements[element + 1].kind == element_kind::END;
    return is_last ? parent : make_node({ element + 1, 0, parent });
}

void grammar_automaton::push(uint32_t id, long & work) {
    if (id == NO_NODE) {
        may_end = true;
        --work;
    } else if (seen_at[id] != round) {
        seen_at[id] = round;
        todo.push_back(id);
    } else {
        --work;
    }
}

void grammar_automaton::enter(uint32_t rule, uint32_t parent, long & work) {
    for (const uint32_t begin : source->rules[rule]) {
        if (is_out_of_room || work < 0) {
            return;
        }
        if (source->elements[begin].kind == element_kind::END) {
            push(parent, work);
        } else {
            push(make_node({ begin, 0, parent }), work);
        }
    }
}

void grammar_automaton::expand(uint32_t id, long & work) {
    const node              n = nodes[id];
    const grammar_element & e = source->elements[n.element];
    switch (e.kind) {
    case element_kind::CHARACTERS: found.push_back(id); return;
    case element_kind::RULE: enter(e.value, after(n.element, n.parent), work); return;
    case element_kind::REPEAT: {
        if (n.count >= e.min) {
            push(after(n.element, n.parent), work);
        }
        if (n.count < e.max) {
            // Beyond the minimum an endless repetition does not count, so its states repeat.
            const uint32_t done = e.max == GRAMMAR_UNBOUNDED ? std::min(n.count + 1, e.min) : n.count + 1;
            const bool     is_last = done == e.max;
            enter(e.value, is_last ? after(n.element, n.parent) : make_node({ n.element, done, n.parent }), work);
        }
        return;
    }
    case element_kind::END: return; // never the start of a node
    }
}

int grammar_automaton::close(long & work) {
    while (!todo.empty() && !is_out_of_room) {
        const uint32_t id = todo.back();
        todo.pop_back();
        --work;
        expand(id, work);
        if (work < 0) {
            break;
        }
    }
    const bool is_whole = todo.empty() && !is_out_of_room && work >= 0;
    todo.clear();
    std::vector<uint32_t> key;
    key.swap(found);
    if (!is_whole) {
        return EXHAUSTED;
    }
    if (key.empty() && !may_end) {
        return DEAD;
    }
    std::sort(key.begin(), key.end());
    if (may_end) {
        key.push_back(NO_NODE);
    }
    const auto known = set_ids.find(key);
    if (known != set_ids.end()) {
        return known->second;
    }
    const size_t per_node  = 3 * sizeof(uint32_t) + sizeof(std::pair<uint32_t, uint32_t>);
    const size_t set_bytes = sizeof(set_entry) + sizeof(key) + HASH_ENTRY + key.size() * per_node;
    if (sets.size() >= SETS_MAX || n_set_nodes + key.size() > SET_NODES_MAX || !take(set_bytes)) {
        is_out_of_room = true;
        return EXHAUSTED;
    }
    n_set_nodes += key.size();
    const int id = (int) sets.size();
    set_ids.emplace(key, id);
    if (may_end) {
        key.pop_back();
    }
    sets.push_back({ std::move(key), {}, {}, may_end, {} });
    index(sets.back());
    return id;
}

void grammar_automaton::index(set_entry & set) const {
    set.ascii.fill(UNKNOWN);
    for (const uint32_t id : set.nodes) {
        const character_class & c = class_of(id);
        if (!c.is_negated && c.ranges.size() == 1 && c.ranges[0].first == c.ranges[0].second) {
            set.singles.emplace_back(c.ranges[0].first, id);
        } else {
            set.others.push_back(id);
        }
    }
    std::sort(set.singles.begin(), set.singles.end());
}

int grammar_automaton::start(long & work) {
    ++round;
    may_end = false;
    enter(source->root, NO_NODE, work);
    return close(work);
}

int grammar_automaton::advance(int set, uint32_t code_point, long & work) {
    const bool     is_ascii = code_point < 128;
    const uint64_t key      = (uint64_t) set << 32 | code_point;
    if (is_ascii) {
        const int32_t known = sets[set].ascii[code_point];
        if (known != UNKNOWN) {
            return known;
        }
    } else {
        const auto known = wide.find(key);
        if (known != wide.end()) {
            return known->second;
        }
    }
    if (is_out_of_room) {
        return EXHAUSTED;
    }
    ++round;
    may_end = false;
    const set_entry & from = sets[set]; // `close` makes sets: not used after it
    work -= (long) from.others.size();
    for (const uint32_t id : from.others) {
        if (class_of(id).contains(code_point)) {
            push(after(nodes[id].element, nodes[id].parent), work);
        }
    }
    const auto begin = std::lower_bound(from.singles.begin(), from.singles.end(), std::make_pair(code_point, 0u));
    for (auto i = begin; i != from.singles.end() && i->first == code_point; ++i) {
        push(after(nodes[i->second].element, nodes[i->second].parent), work);
    }
    const int to = close(work);
    if (to == EXHAUSTED) {
        return to;
    }
    if (is_ascii) {
        sets[set].ascii[code_point] = to;
    } else {
        if (wide.size() >= WIDE_MAX) {
            wide.clear(); // its room is kept for those that follow
            n_wide_free = WIDE_MAX;
        }
        if (n_wide_free > 0 || take(WIDE_BYTES)) {
            n_wide_free -= n_wide_free > 0;
            wide.emplace(key, to);
        }
    }
    return to;
}

int grammar_automaton::adopt(const grammar_automaton & other, int set, long & work) {
    ++round;
    may_end = other.sets[set].is_accepting;
    for (uint32_t id : other.sets[set].nodes) {
        // Many nodes with deep stacks: as costly as any closure.
        if (work < 0) {
            break;
        }
        std::vector<node> stack;
        for (; id != NO_NODE; id = other.nodes[id].parent) {
            stack.push_back(other.nodes[id]);
        }
        work -= (long) stack.size();
        uint32_t parent = NO_NODE;
        for (; !stack.empty() && !is_out_of_room; stack.pop_back()) {
            parent = make_node({ stack.back().element, stack.back().count, parent });
        }
        push(parent, work);
    }
    return close(work);
}

bool grammar_automaton::keep_mask(int set, const std::vector<uint64_t> & mask) {
    if (masks.size() >= MASKS_MAX) {
        masks.clear(); // its room is kept for those that follow
        n_masks_free = MASKS_MAX;
    }
    if (n_masks_free == 0 && !take(mask.size() * sizeof(uint64_t) + HASH_ENTRY)) {
        return false;
    }
    n_masks_free -= n_masks_free > 0;
    masks[set] = mask;
    return true;
}

bool grammar_automaton::may_continue(int set, uint32_t low, uint32_t high) const {
    const auto & ids = sets[set].nodes;
    return std::any_of(ids.begin(), ids.end(), [&](uint32_t id) {
        return class_of(id).meets(low, high);
    });
}

} // namespace nozzle
