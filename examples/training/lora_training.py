"""What train.py and fine_tune.py share: a base from GGUF or a Hugging Face folder, the training loop
on a CPU, and an adapter saved as PEFT saves it, tensors in F16.

A case is (ids, number of prompt ids); loss is taken on the answer's tokens alone.
"""

import json
import math
import random
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

SEED = 20261124
BATCH = 12
LEARNING_RATE = 2e-3
WARMUP_STEPS = 10


def load_base(base):
    """Tokenizer and float32 model of a GGUF file, dequantised, or of a Hugging Face folder."""
    path = Path(base)
    place, more = (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})
    tokenizer = AutoTokenizer.from_pretrained(place, **more)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **more)
    return tokenizer, model


def seed_everything():
    """The generator for the cases; torch draws the adapter's first weights from its own."""
    torch.manual_seed(SEED)
    return random.Random(SEED)


def render_prompt(tokenizer, messages):
    """Token ids of the chat as a host renders it: the messages, an answer to follow."""
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_case(tokenizer, messages, answer, end):
    """The answer is followed by the token that ends a turn, so that the model learns to stop."""
    head = render_prompt(tokenizer, messages)
    tail = tokenizer(answer + end, add_special_tokens=False)["input_ids"]
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
    """Share of (messages, answer) whose greedy answer is exactly the expected text."""
    hits = 0
    for messages, expected in cases:
        ids = torch.tensor([render_prompt(tokenizer, messages)])
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=96, do_sample=False)
        answer = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()
        hits += answer == expected
    return hits / len(cases)


def save_f16(model, out, base_name):
    """PEFT's own files, with the weights rounded to F16 and no path of this machine in them."""
    model.save_pretrained(out)
    weights = Path(out) / "adapter_model.safetensors"
    tensors = {name: t.to(torch.float16).contiguous() for name, t in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    (Path(out) / "README.md").unlink(missing_ok=True)  # PEFT's model card names a local path
    config = Path(out) / "adapter_config.json"
    values = json.loads(config.read_text())
    values["base_model_name_or_path"] = base_name
    values["target_modules"] = sorted(values["target_modules"])
    config.write_text(json.dumps(values, indent=2) + "\n")
