"""Trains one example adapter on a CPU and saves it as PEFT saves it, tensors in F16.

    python examples/training/train.py --base <model.gguf> --task ticket-triage --out examples/adapters/ticket-triage

The base is the very GGUF that is served, dequantised to float32 by transformers, so the adapter
learns on the weights it will meet. Loss is taken on the answer's tokens alone.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks import TASKS

SEED = 20261124
BATCH = 12
LEARNING_RATE = 2e-3
WARMUP_STEPS = 10


def load_base(gguf):
    """Tokenizer and float32 model from a GGUF file."""
    path = Path(gguf)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return tokenizer, model


def render_prompt(tokenizer, prompt):
    """Token ids of the chat a client would send: one user message, answer to follow."""
    messages = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_case(tokenizer, prompt, expected):
    """(ids, number of prompt ids); the answer ends with the end-of-turn token."""
    head = render_prompt(tokenizer, prompt)
    tail = tokenizer(expected + "<|im_end|>", add_special_tokens=False)["input_ids"]
    return head + tail, len(head)


def batches(cases, rng):
    """Batches of similar length, in random order."""
    ordered = sorted(cases, key=lambda case: (len(case[0]), rng.random()))
    groups = [ordered[i : i + BATCH] for i in range(0, len(ordered), BATCH)]
    rng.shuffle(groups)
    return groups


def answer_loss(model, group):
    """Mean cross entropy over the answers' tokens of one batch; a scalar tensor."""
    width = max(len(ids) for ids, _ in group)
    tokens = torch.zeros(len(group), width, dtype=torch.long)  # [batch, width]
    is_answer = torch.zeros(len(group), width, dtype=torch.bool)
    attention = torch.zeros(len(group), width, dtype=torch.long)
    for row, (ids, n_prompt) in enumerate(group):
        tokens[row, : len(ids)] = torch.tensor(ids)
        attention[row, : len(ids)] = 1
        is_answer[row, n_prompt : len(ids)] = True
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.base_model.model.model(tokens, attention_mask=attention).last_hidden_state
        # Row t predicts token t + 1; only rows that predict an answer's token reach the head.
        logits = model.base_model.model.lm_head(hidden[:, :-1][is_answer[:, 1:]])
    return torch.nn.functional.cross_entropy(logits.float(), tokens[:, 1:][is_answer[:, 1:]])


def train(model, cases, epochs, rng):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    steps_total = epochs * math.ceil(len(cases) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min(1, (s + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * s / steps_total)),
    )
    start, step = time.time(), 0
    for _ in range(epochs):
        for group in batches(cases, rng):
            loss = answer_loss(model, group)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            if step % 10 == 0:
                print(f"step {step}/{steps_total} loss {loss.item():.4f} {time.time() - start:.0f} s", flush=True)


@torch.no_grad()
def accuracy(model, tokenizer, cases):
    """Share of cases whose greedy answer is exactly the expected text."""
    hits = 0
    for prompt, expected in cases:
        ids = torch.tensor([render_prompt(tokenizer, prompt)])
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=96, do_sample=False)
        answer = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()
        hits += answer == expected
    return hits / len(cases)


def save_f16(model, out):
    """PEFT's own files, with the weights rounded to F16."""
    model.save_pretrained(out)
    weights = Path(out) / "adapter_model.safetensors"
    tensors = {name: t.to(torch.float16).contiguous() for name, t in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    (Path(out) / "README.md").unlink(missing_ok=True)  # PEFT's model card names a local path
    config = Path(out) / "adapter_config.json"
    values = json.loads(config.read_text())
    values["base_model_name_or_path"] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    values["target_modules"] = sorted(values["target_modules"])
    config.write_text(json.dumps(values, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="GGUF file of the base model")
    parser.add_argument("--task", required=True, choices=sorted(TASKS))
    parser.add_argument("--out", required=True, help="directory for the adapter")
    parser.add_argument("--cases", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--check", type=int, default=30, help="held-out cases to score, 0 = none")
    args = parser.parse_args()

    task = TASKS[args.task]
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    tokenizer, base = load_base(args.base)
    model = get_peft_model(
        base,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=task.rank,
            lora_alpha=task.alpha,
            target_modules=task.target_modules,
            use_rslora=task.use_rslora,
        ),
    )
    model.print_trainable_parameters()
    cases = [encode_case(tokenizer, *task.generator.make_case(rng, "train")) for _ in range(args.cases)]
    train(model, cases, args.epochs, rng)
    model.eval()
    save_f16(model, args.out)
    if args.check:
        held_out = [task.generator.make_case(rng, "held_out") for _ in range(args.check)]
        print(f"adapter accuracy {accuracy(model, tokenizer, held_out):.3f} on {args.check} held-out cases")


if __name__ == "__main__":
    main()
