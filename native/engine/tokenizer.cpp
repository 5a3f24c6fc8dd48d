#include "tokenizer.h"

#include "llama.h"

namespace nozzle {

tokenizer::~tokenizer() {
    if (handle) {
        llama_model_free(handle);
    }
}

status tokenizer::load(const std::string & path) {
    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    handle = llama_model_load_from_file(path.c_str(), params);
    if (!handle) {
        return status::failure(ERR_MODEL_INVALID, "the GGUF carries no tokenizer that libllama can read");
    }
    vocabulary = llama_model_get_vocab(handle);
    return status::success();
}

std::vector<int32_t> tokenizer::encode(const std::string & text, bool add_special, bool parse_special) const {
    // A JavaScript string has at most 2^29 characters, of 3 bytes at most: its length fits, and so does the
    // count of its tokens.
    std::vector<int32_t> out(text.size() + 8);
    int n = llama_tokenize(vocabulary, text.data(), (int32_t) text.size(), out.data(), (int32_t) out.size(),
                           add_special, parse_special);
    if (n < 0) {
        out.resize(-n);
        n = llama_tokenize(vocabulary, text.data(), (int32_t) text.size(), out.data(), (int32_t) out.size(),
                           add_special, parse_special);
    }
    out.resize(n < 0 ? 0 : n);
    return out;
}

std::string tokenizer::decode(int32_t token) const {
    std::string out(64, '\0');
    int n = llama_token_to_piece(vocabulary, token, out.data(), (int32_t) out.size(), 0, false);
    if (n < 0) {
        out.resize(-n);
        n = llama_token_to_piece(vocabulary, token, out.data(), (int32_t) out.size(), 0, false);
    }
    out.resize(n < 0 ? 0 : n);
    return out;
}

bool    tokenizer::is_end_of_generation(int32_t token) const { return llama_vocab_is_eog(vocabulary, token); }
int32_t tokenizer::bos() const { return llama_vocab_bos(vocabulary); }
int32_t tokenizer::eos() const { return llama_vocab_eos(vocabulary); }

std::string tokenizer::text(int32_t token) const {
    return token < 0 ? "" : llama_vocab_get_text(vocabulary, token);
}

int tokenizer::n_vocab() const { return llama_vocab_n_tokens(vocabulary); }

std::string tokenizer::chat_template() const {
    const char * text = llama_model_chat_template(handle, nullptr);
    return text ? text : "";
}

} // namespace nozzle
