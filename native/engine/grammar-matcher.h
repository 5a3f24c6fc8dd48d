// Where one sequence's text stands in its grammar, in tokens: which may come next. Tokens may end
// within a character.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "grammar-automaton.h"
#include "status.h"

namespace nozzle {

class tokenizer;

// The vocabulary's texts in their order, each with what it shares with the one before: a whole
// vocabulary is checked as one walk of its common beginnings.
class token_texts {
  public:
    void load(const tokenizer & words);

    struct entry {
        int32_t  token;
        uint32_t shared; // leading bytes equal to those of the entry before
    };
    std::vector<std::string> texts; // by token; empty = control
    std::vector<uint8_t>     is_end; // by token: ends generation
    std::vector<entry>       order;
};

class grammar_matcher {
  public:
    enum class verdict { NO, YES, TOO_AMBIGUOUS };

    grammar_matcher(std::shared_ptr<grammar_automaton> shared, const token_texts * words);

    // False when the grammar is too ambiguous to be begun.
    bool begin();
    // Starts a new allowance of work: call it once per drawn token.
    void refill();
    verdict allows(int32_t token);
    // One bit per token, valid until the next call; nullptr = too ambiguous.
    const std::vector<uint64_t> * allowed();
    // Its mutex is held around all of the above: what a matcher finds out is kept in the automaton, which
    // other sequences' matchers may share.
    std::shared_ptr<grammar_automaton> automaton() const { return states; }
    // Takes a token that `allows`.
    void accept(int32_t token);

  private:
    // Within a text: the automaton's set, and the character that its last bytes began.
    struct place {
        int      set;
        uint32_t value   = 0;
        uint8_t  missing = 0; // bytes of the character to come
        uint8_t  length  = 0; // of the character
    };
    place   after_byte(const place & from, uint8_t byte);
    place   after_text(const std::string & text);
    verdict judge(const place & at) const;
    bool    fill(std::vector<uint64_t> & bits);
    bool    renew();

    std::shared_ptr<grammar_automaton> states;
    const token_texts *                words; // borrowed: the engine's
    place                              here{ grammar_automaton::DEAD };
    long                               work = 0;
    std::vector<uint64_t>              scratch;
};

// Automata by grammar text, most recently used first: choices of one request, and requests with the
// same schema, share what was found.
class grammar_cache {
  public:
    grammar_cache();
    // invalid_grammar, grammars_full
    status find(const std::string & text, std::shared_ptr<grammar_automaton> & out);
    size_t size() const { return entries.size(); }
    // About what those that are kept take in memory, and what all that live do.
    size_t bytes() const;
    size_t bytes_of_all() const { return room->taken(); }

  private:
    void evict();

    const std::shared_ptr<grammar_room> room;

    std::list<std::pair<std::string, std::shared_ptr<grammar_automaton>>> entries;
};

} // namespace nozzle
