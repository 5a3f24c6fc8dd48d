// Runs a grammar: sets of everything it could be doing at one place of the text, found as they come up
// and kept, so that a text costs a look-up per character once its states are known. Shared by the
// sequences that use the grammar; touched between steps and in steps, by one thread at a time: `mutex`.
//
// Work is counted and memory bounded: an ambiguous grammar grows without end, and the step that it
// runs in is everybody's.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "grammar.h"

namespace nozzle {

// What all grammars of an engine may take together, kept or in use: each is bounded, but each sequence may
// have one of its own.
class grammar_room {
  public:
    explicit grammar_room(size_t max) : limit(max) {}
    // False, and nothing taken, where there is no room.
    bool take(size_t bytes) {
        const bool fits = held.fetch_add(bytes) + bytes <= limit;
        if (!fits) {
            held -= bytes;
        }
        return fits;
    }
    void   give(size_t bytes) { held -= bytes; }
    size_t taken() const { return held; }

  private:
    std::atomic<size_t> held{ 0 };
    const size_t        limit;
};

class grammar_automaton {
  public:
    static constexpr int DEAD      = -1; // the text does not fit the grammar
    static constexpr int EXHAUSTED = -2; // out of room, or of `work`

    // `room`: of all grammars; nullptr = as much as this one may take.
    explicit grammar_automaton(std::shared_ptr<const grammar> source, std::shared_ptr<grammar_room> room = nullptr);
    ~grammar_automaton();
    grammar_automaton(const grammar_automaton &) = delete;
    grammar_automaton & operator=(const grammar_automaton &) = delete;

    std::mutex mutex; // guards all below while several threads draw

    // The set before the first character. Each takes what it does off `work`.
    int start(long & work);
    int advance(int set, uint32_t code_point, long & work);
    // The same set in this automaton as `set` is in `other`, which runs the same grammar.
    int adopt(const grammar_automaton & other, int set, long & work);

    bool is_accepting(int set) const { return sets[set].is_accepting; } // the text may end here
    bool may_continue(int set, uint32_t low, uint32_t high) const;      // with a code point of low..high
    bool is_full() const { return is_out_of_room; }
    // About what it takes in memory, without its grammar.
    size_t bytes() const { return n_taken; }
    // Allowed tokens of a set from now on; false = not kept, since there is no room.
    bool keep_mask(int set, const std::vector<uint64_t> & mask);

    const std::shared_ptr<const grammar>      source;
    const std::shared_ptr<grammar_room>       room; // nullptr = no common bound

    // Allowed tokens, one bit each, by set.
    std::unordered_map<int, std::vector<uint64_t>> masks;

  private:
    static constexpr uint32_t NO_NODE = 0xffffffff;

    // What is to be matched next, and where to go on after the end of its alternative: a stack whose
    // lower part is shared.
    struct node {
        uint32_t element;
        uint32_t count; // rounds of a repetition that are done
        uint32_t parent; // NO_NODE = the text may end
        bool operator==(const node & o) const { return element == o.element && count == o.count && parent == o.parent; }
    };
    struct node_hash {
        size_t operator()(const node & n) const;
    };
    struct set_entry {
        std::vector<uint32_t>    nodes; // each before a CHARACTERS element, ascending
        // The same, so that a thousand literals cost a search: by their one code point, and the rest.
        std::vector<std::pair<uint32_t, uint32_t>> singles;
        std::vector<uint32_t>                      others;
        bool                     is_accepting;
        std::array<int32_t, 128> ascii; // UNKNOWN, DEAD or a set
    };
    struct set_hash {
        size_t operator()(const std::vector<uint32_t> & nodes) const;
    };

    bool     take(size_t bytes);
    uint32_t make_node(const node & n);
    uint32_t after(uint32_t element, uint32_t parent); // the continuation behind `element`
    // What comes up a second time in a closure is never expanded: it is taken off `work` here.
    void     enter(uint32_t rule, uint32_t parent, long & work);
    void     push(uint32_t node_id, long & work);
    void     expand(uint32_t node_id, long & work);
    int      close(long & work); // pending nodes -> set
    void     index(set_entry & set) const;
    const character_class & class_of(uint32_t node_id) const {
        return source->classes[source->elements[nodes[node_id].element].value];
    }

    std::vector<node>                                       nodes;
    std::unordered_map<node, uint32_t, node_hash>           node_ids;
    std::vector<set_entry>                                  sets;
    std::unordered_map<std::vector<uint32_t>, int, set_hash> set_ids;
    std::unordered_map<uint64_t, int>                       wide; // (set, code point >= 128) -> set
    size_t                                                  n_set_nodes    = 0;
    size_t                                                  n_taken        = 0; // bytes
    size_t                                                  n_wide_free = 0, n_masks_free = 0; // taken, and not in use
    bool                                                    is_out_of_room = false;

    // Of the closure that is being made.
    std::vector<uint32_t> todo, found, seen_at;
    uint32_t              round = 0;
    bool                  may_end = false;
};

} // namespace nozzle
