// libllama's own logits on the same files, for the parity tests.
//
// usage: llama-reference <folder of the libraries> <model.gguf> <adapter.gguf or -> <n_ctx> <token> ...
// Writes the logits after each token to stdout: F32 [n_vocab] per token, native byte order.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "ggml-backend.h"
#include "llama.h"

int main(int argc, char ** argv) {
    if (argc < 6) {
        return 2;
    }
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    ggml_backend_load_all_from_path(argv[1]);
    llama_model * model = llama_model_load_from_file(argv[2], llama_model_default_params());
    if (!model) {
        return 3;
    }
    std::vector<llama_token> tokens;
    for (int i = 5; i < argc; ++i) {
        tokens.push_back(atoi(argv[i]));
    }
    llama_context_params params = llama_context_default_params();
    params.n_ctx           = atoi(argv[4]);
    params.n_threads       = 1; // spinning threads on crowded cores cost more than they bring
    params.n_threads_batch = 1;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    llama_context * context = llama_init_from_model(model, params);
    if (!context) {
        return 4;
    }
    if (argv[3][0] != '-') {
        llama_adapter_lora * adapter = llama_adapter_lora_init(model, argv[3]);
        float scale = 1.0f;
        if (!adapter || llama_set_adapters_lora(context, &adapter, 1, &scale) != 0) {
            return 5;
        }
    }
    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    llama_batch batch = llama_batch_init((int32_t) tokens.size(), 0, 1);
    for (size_t i = 0; i < tokens.size(); ++i) {
        batch.token[i]     = tokens[i];
        batch.pos[i]       = (llama_pos) i;
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i]    = 1;
    }
    batch.n_tokens = (int32_t) tokens.size();
    if (llama_decode(context, batch) != 0) {
        return 6;
    }
    for (size_t i = 0; i < tokens.size(); ++i) {
        fwrite(llama_get_logits_ith(context, (int32_t) i), sizeof(float), n_vocab, stdout);
    }
    return 0;
}
