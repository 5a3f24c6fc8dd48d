"""Makes the adapters beside this file and what peft itself computes with them.

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors==0.8.0 numpy
    python make_vectors.py && biome format --write .

One tiny random Llama, several adapters saved by peft, loaded again by peft, and for each linear layer
the product (merged weight - base weight) @ x in float64, in the order of the weight's own rows and in
the order that GGUF has them. Seeds are fixed, so the same versions make the same files.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
BASE = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=64,
    max_position_embeddings=64,
)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ATTENTION = ALL[:4]

# name -> (dtype of the saved weights, LoraConfig arguments)
ADAPTERS = {
    "plain": (torch.float32, dict(r=4, lora_alpha=8, target_modules=ALL)),
    "rslora": (torch.float32, dict(r=4, lora_alpha=6, use_rslora=True, target_modules=ALL)),
    "patterns": (
        torch.float32,
        dict(
            r=4,
            lora_alpha=8,
            target_modules=ALL,
            rank_pattern={
                "q_proj": 2,
                "model.layers.1.mlp.down_proj": 6,
                r"layers\.0\.mlp\.(gate|up)_proj": 3,
                r"^model\.layers\.\d+\.self_attn\.v_proj": 5,
            },
            alpha_pattern={"v_proj": 10, r".*layers.1.*k_proj": 32, "self_attn.o_proj": 2.5},
        ),
    ),
    "patterns-rslora": (
        torch.float32,
        dict(
            r=4,
            lora_alpha=8,
            use_rslora=True,
            target_modules=r"model\.layers\.[0-9]+\.(self_attn\.(q|k|v)_proj|mlp\.down_proj)",
            rank_pattern={"k_proj": 3},
            alpha_pattern={"layers.1.self_attn.q_proj": 3},
        ),
    ),
    "attention": (torch.float16, dict(r=8, lora_alpha=16, target_modules=ATTENTION)),
    "bf16": (torch.bfloat16, dict(r=4, lora_alpha=4, target_modules=ALL)),
    "one-layer": (
        torch.float32,
        dict(
            r=2,
            lora_alpha=2,
            target_modules=ALL,
            exclude_modules=["mlp.up_proj"],
            layers_to_transform=[1],
            layers_pattern="layers",
        ),
    ),
}
GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def make_base():
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(**BASE)).double()


def gguf_order(weight, heads):
    """llama.cpp's converter on Wq and Wk: per head, the two halves of its rows are interleaved."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def linears(model):
    for layer, block in enumerate(model.model.layers):
        for path, target in GGUF_NAMES.items():
            yield layer, target, block.get_submodule(path)


def save_adapter(directory, dtype, arguments, seed):
    torch.manual_seed(seed)
    # Random A and B: a fresh LoRA would change nothing.
    config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **arguments)
    model = get_peft_model(make_base(), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    model.save_pretrained(directory, safe_serialization=True)
    (directory / "README.md").unlink(missing_ok=True)


def expected(directory, probes):
    before = {(layer, target): module.weight.detach().numpy().copy() for layer, target, module in linears(make_base())}
    merged = PeftModel.from_pretrained(make_base(), directory).double().merge_and_unload()
    modules = []
    for layer, target, module in linears(merged):
        delta = module.weight.detach().numpy() - before[layer, target]
        if not delta.any():
            continue
        probe = probes[delta.shape[1]]
        heads = {"attn_q": BASE["num_attention_heads"], "attn_k": BASE["num_key_value_heads"]}.get(target)
        ordered = delta if heads is None else gguf_order(delta, heads)
        modules.append(
            dict(
                layer=layer,
                target=target,
                probe=probe.tolist(),
                delta=(delta @ probe).tolist(),
                delta_gguf=(ordered @ probe).tolist(),
            )
        )
    return modules


def main():
    random = np.random.default_rng(7)
    probes = {length: random.standard_normal(length).round(6) for length in (BASE["hidden_size"], BASE["intermediate_size"])}
    for seed, (name, (dtype, arguments)) in enumerate(ADAPTERS.items(), start=10):
        directory = HERE / name
        shutil.rmtree(directory, ignore_errors=True)
        save_adapter(directory, dtype, arguments, seed)
        lines = [json.dumps(module) + "\n" for module in expected(directory, probes)]
        (directory / "expected.jsonl").write_text("".join(lines))
        print(name, len(lines), "modules")


if __name__ == "__main__":
    main()
