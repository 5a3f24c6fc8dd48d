// Text to tokens and back, and the special tokens: libllama's own vocabulary, loaded without weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "status.h"

struct llama_model;
struct llama_vocab;

namespace nozzle {

class tokenizer {
  public:
    ~tokenizer();
    status load(const std::string & path);

    std::vector<int32_t> encode(const std::string & text, bool add_special, bool parse_special) const;
    std::string          decode(int32_t token) const; // raw bytes; empty for control tokens
    bool                 is_end_of_generation(int32_t token) const;
    int32_t              bos() const; // -1 = none
    int32_t              eos() const; // -1 = none
    std::string          text(int32_t token) const; // as chat templates write it; empty for -1
    int                  n_vocab() const;
    std::string          chat_template() const; // empty = none
    const llama_vocab *  vocab() const { return vocabulary; }

  private:
    llama_model       * handle     = nullptr; // owned
    const llama_vocab * vocabulary = nullptr; // part of handle
};

} // namespace nozzle
