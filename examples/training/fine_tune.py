"""Trains a LoRA adapter on your own examples, on a CPU, and saves it as `nozzle deploy` takes it.

    python examples/training/fine_tune.py --base <model.gguf or folder> --data train.jsonl --out my-adapter

A line of the data is {"prompt": "…", "answer": "…"}, or {"messages": […]} of which the last is the
assistant's. The last tenth of the lines is not trained on: the adapter is scored on it.
"""

import argparse
import json
from pathlib import Path

from peft import LoraConfig, get_peft_model

from lora_training import accuracy, encode_case, load_base, save_f16, seed_everything, train
from tasks import ALL_LINEAR

HELD_OUT_PART = 10
HELD_OUT_MAX = 30
# Beyond it a CPU would be at one example for minutes; a longer one is more likely a mistake.
TOKENS_MAX = 2048


def read_examples(path):
    """[(messages, answer)]; a line that is neither shape ends the program, by its number."""
    examples = []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
                if "messages" in value:
                    *messages, last = value["messages"]
                    if last["role"] != "assistant" or not messages:
                        raise ValueError("the last message must be the assistant's, after another one")
                    examples.append((messages, last["content"]))
                else:
                    examples.append(([{"role": "user", "content": value["prompt"]}], value["answer"]))
            except (ValueError, KeyError, TypeError) as error:
                raise SystemExit(f"{path}:{number}: not an example: {error!r}")
    if len(examples) < HELD_OUT_PART:
        raise SystemExit(f"{path} has {len(examples)} examples; {HELD_OUT_PART} are the least, some hundreds are usual")
    return examples


def end_of_turn(tokenizer):
    """What the base's own template writes right after an answer."""
    answer = "answer"
    chat = [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]
    rest = tokenizer.apply_chat_template(chat, tokenize=False).rpartition(answer)[2]
    return rest.strip() or tokenizer.eos_token


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="GGUF file or Hugging Face folder of the base model")
    parser.add_argument("--data", required=True, help="JSON lines: your examples")
    parser.add_argument("--out", required=True, help="directory for the adapter")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()

    examples = read_examples(args.data)
    n_held_out = len(examples) // HELD_OUT_PART
    rng = seed_everything()
    tokenizer, base = load_base(args.base)
    end = end_of_turn(tokenizer)
    cases = [encode_case(tokenizer, messages, answer, end) for messages, answer in examples[:-n_held_out]]
    longest = max(len(ids) for ids, _ in cases)
    if longest > TOKENS_MAX:
        raise SystemExit(f"{args.data}: an example has {longest} tokens; {TOKENS_MAX} are the most")
    config = LoraConfig(
        task_type="CAUSAL_LM", r=args.rank, lora_alpha=2 * args.rank, target_modules=ALL_LINEAR
    )
    model = get_peft_model(base, config)
    model.print_trainable_parameters()
    train(model, cases, args.epochs, rng)
    model.eval()
    save_f16(model, args.out, Path(args.base).name.removesuffix(".gguf"))
    held_out = examples[-n_held_out:][:HELD_OUT_MAX]
    print(f"asking {len(held_out)} held-out examples, which takes minutes", flush=True)
    print(f"{accuracy(model, tokenizer, held_out):.0%} of {len(held_out)} held-out examples answered exactly")
    print(f"saved in {args.out}; next: nozzle check {args.out}")


if __name__ == "__main__":
    main()
