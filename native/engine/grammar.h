// GBNF, libllama's grammar notation, compiled. A grammar is immutable; grammar-automaton.h runs it.
//
// A tenant's text comes in here, so every cost is bounded by its length: repetitions are counted, not
// unrolled; nesting, rules and elements have limits; what could loop is refused. Differences from
// libllama's parser: a maximum below its minimum, an empty [], a rule that stands twice and <token>
// references are refused.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "status.h"

namespace nozzle {

enum class element_kind : uint8_t {
    CHARACTERS, // one code point of a class
    RULE,       // one of the rule's alternatives
    REPEAT,     // the rule, `min` to `max` times
    END,        // of an alternative
};

struct grammar_element {
    element_kind kind;
    uint32_t     value = 0; // class or rule
    uint32_t     min   = 0;
    uint32_t     max   = 0; // GRAMMAR_UNBOUNDED = no end
};

struct character_class {
    bool is_negated = false;
    // Inclusive, ascending, neither touching nor overlapping: a look-up is a search, however many there are.
    std::vector<std::pair<uint32_t, uint32_t>> ranges;

    bool contains(uint32_t code_point) const;
    // Whether it holds any code point of low..high.
    bool meets(uint32_t low, uint32_t high) const;
};

inline constexpr uint32_t GRAMMAR_UNBOUNDED = 0xffffffff;

struct grammar {
    std::vector<grammar_element>       elements; // alternatives one after the other, each with its END
    std::vector<std::vector<uint32_t>> rules;    // where each alternative begins
    std::vector<character_class>       classes;
    uint32_t                           root = 0;

    // About what it takes in memory.
    size_t bytes() const;
    // invalid_grammar, naming the line.
    static status compile(const std::string & text, std::shared_ptr<const grammar> & out);
};

} // namespace nozzle
