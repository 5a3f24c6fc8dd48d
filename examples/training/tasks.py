"""The three tasks: data generator, LoRA shape and how an answer is checked."""

from dataclasses import dataclass

import pii_redact
import text_to_sql
import ticket_triage

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL_LINEAR = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Task:
    generator: object
    rank: int
    alpha: int
    target_modules: list
    use_rslora: bool
    check: str


TASKS = {
    "ticket-triage": Task(ticket_triage, 8, 16, ALL_LINEAR, False, "json"),
    "text-to-sql": Task(text_to_sql, 16, 16, ATTENTION, True, "sql"),
    "pii-redact": Task(pii_redact, 4, 8, ALL_LINEAR, False, "exact"),
}
