"""Writes the held-out cases: examples/eval/<task>.jsonl, and the SQL fixture.

    python examples/training/make_eval.py examples/eval
"""

import json
import random
import sys
from pathlib import Path

import text_to_sql
from tasks import TASKS

CASES = 150
SEED = 7


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name, task in TASKS.items():
        rng = random.Random(f"{SEED} {name}")
        seen, lines = set(), []
        while len(lines) < CASES:
            prompt, expected = task.generator.make_case(rng, "held_out")
            if prompt in seen:
                continue
            seen.add(prompt)
            lines.append(json.dumps({"prompt": prompt, "expected": expected, "check": task.check}))
        (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (out / "text-to-sql.fixture.sql").write_text(text_to_sql.fixture(random.Random(SEED)))


if __name__ == "__main__":
    main()
