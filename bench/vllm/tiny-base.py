"""Writes a tiny Llama with a tokenizer, PEFT adapters for it, and what transformers itself answers
with each adapter's product added to the weights: the reference that served answers are held against.

Usage: tiny-base.py DIRECTORY ADAPTERS; prints the references as one JSON object."""

import json
import os
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

RANK = 8
ALPHA = 16
# Large enough that each adapter's greedy answers are its own.
ADAPTER_STD = 0.35
BASE_STD = 0.25
PROMPT = "user: tell me of rivers\nassistant:"
ANSWER_TOKENS = 24
CHAT_TEMPLATE = (
    "{% if tools %}tools: {{ tools | tojson }}\n{% endif %}"
    "{% for message in messages %}{{ message.role }}: {{ message.content }}"
    "{% for call in message.tool_calls or [] %}"
    '<tool_call>\n{"name": "{{ call.function.name }}", '
    '"arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    # A line break right behind a tag would be left out.
    "{% endfor %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def write_tokenizer(directory):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Every token is readable text, however random the weights: space and newline in ByteLevel's
    # letters, then the printable ASCII.
    alphabet = ["\u0120", "\u010a", *map(chr, range(33, 127))]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet
    )
    with open(__file__, encoding="utf8") as file:
        tokenizer.train_from_iterator(file, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(directory)
    return fast


def write_base(directory, vocabulary):
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=BASE_STD,
    )
    model = LlamaForCausalLM(config).to(torch.float32).eval()
    model.save_pretrained(directory)
    return model


def linears(model):
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] in TARGETS:
            yield name, module


def write_adapter(directory, model, seed):
    generator = torch.Generator().manual_seed(seed)
    products, tensors = {}, {}
    for name, module in linears(model):
        n_out, n_in = module.weight.shape
        a = torch.randn(RANK, n_in, generator=generator).mul(ADAPTER_STD).half()
        b = torch.randn(n_out, RANK, generator=generator).mul(ADAPTER_STD / RANK).half()
        tensors[f"base_model.model.{name}.lora_A.weight"] = a
        tensors[f"base_model.model.{name}.lora_B.weight"] = b
        products[name] = (ALPHA / RANK) * (b.float() @ a.float())
    os.makedirs(directory, exist_ok=True)
    save_file(tensors, os.path.join(directory, "adapter_model.safetensors"))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": TARGETS,
    }
    with open(os.path.join(directory, "adapter_config.json"), "w") as file:
        json.dump(config, file)
    return products


def answer(model, tokenizer):
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    prompt_tokens = ids.shape[1]
    with torch.no_grad():
        for _ in range(ANSWER_TOKENS):
            token = model(ids).logits[0, -1].argmax()
            ids = torch.cat([ids, token.reshape(1, 1)], dim=1)
            if token == tokenizer.eos_token_id:
                break
    made = ids[0, prompt_tokens:]
    return {"tokens": made.tolist(), "text": tokenizer.decode(made, skip_special_tokens=True)}


def main():
    directory, count = sys.argv[1], int(sys.argv[2])
    base = os.path.join(directory, "base")
    tokenizer = write_tokenizer(base)
    model = write_base(base, len(tokenizer))
    answers = {"base": answer(model, tokenizer)}
    for index in range(count):
        name = f"adapter-{index}"
        products = write_adapter(os.path.join(directory, name), model, 100 + index)
        for sign in (1, -1):
            for module_name, module in linears(model):
                module.weight.data.add_(products[module_name], alpha=sign)
            if sign == 1:
                answers[name] = answer(model, tokenizer)
    print(json.dumps({"prompt": PROMPT, "answers": answers}))


if __name__ == "__main__":
    main()
