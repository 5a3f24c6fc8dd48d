"""Text with personal data -> the same text with [NAME], [EMAIL], [PHONE], [CARD], [ADDRESS]."""

from slots import CITIES, DOMAINS, FIRST_NAMES, LAST_NAMES, STREETS, pick

PREFIX = "Redact the personal data: "

TEMPLATES = [
    "Please contact {NAME} at {EMAIL} about the contract.",
    "{NAME} called from {PHONE} and asked for a refund.",
    "The card {CARD} belongs to {NAME}.",
    "Send the parcel to {NAME}, {ADDRESS}.",
    "My name is {NAME} and my number is {PHONE}.",
    "Charge {CARD} and mail the receipt to {EMAIL}.",
    "We met {NAME} and {NAME} at the office on Monday.",
    "Our new colleague {NAME} can be reached at {PHONE} or {EMAIL}.",
    "The order ships to {ADDRESS} next week.",
    "Forward the file to {EMAIL} before noon.",
    "The meeting with {NAME} moved to Friday.",
    "Payment with card {CARD} was declined twice.",
    "If {PHONE} is busy, write to {EMAIL}.",
    "{NAME} lives at {ADDRESS} since May.",
    "The weather was fine and nobody called.",
    "Invoice for {NAME}: card {CARD}, phone {PHONE}.",
]


def make_case(rng, split):
    """One (prompt, expected) pair; `split` chooses the slot values that may appear."""
    template = rng.choice(TEMPLATES)
    text, redacted = template, template
    for kind in ("NAME", "EMAIL", "PHONE", "CARD", "ADDRESS"):
        while "{" + kind + "}" in text:
            text = text.replace("{" + kind + "}", make_value(rng, kind, split), 1)
        redacted = redacted.replace("{" + kind + "}", f"[{kind}]")
    return PREFIX + text, redacted


def make_value(rng, kind, split):
    first, last = pick(rng, FIRST_NAMES, split), pick(rng, LAST_NAMES, split)
    if kind == "NAME":
        return f"{first} {last}"
    if kind == "EMAIL":
        return f"{first.lower()}{rng.choice(['.', '_', ''])}{last.lower()}@{pick(rng, DOMAINS, split)}"
    if kind == "PHONE":
        digits = [rng.randrange(10**n, 10 ** (n + 1)) for n in (2, 2, 3)]
        return rng.choice(["{}-{}-{}", "({}) {}-{}", "+1 {} {} {}"]).format(*digits)
    if kind == "CARD":
        return " ".join(str(rng.randrange(1000, 10000)) for _ in range(4))
    return f"{rng.randrange(1, 300)} {pick(rng, STREETS, split)}, {pick(rng, CITIES, split)}"
