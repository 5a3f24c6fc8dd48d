"""Support ticket -> {"category", "priority", "product"}: one compact JSON object.

Each ticket says its category through what went wrong, its product through where, its priority
through how much it hurts; the three are drawn independently.
"""

import json

from slots import AMOUNTS, CITIES, FIRST_NAMES, LAST_NAMES, pick

PREFIX = "Triage this support ticket: "

CATEGORIES = {
    "billing": [
        "I was charged {amount} twice this month",
        "my invoice shows {amount} but my plan costs less",
        "the refund of {amount} never arrived",
        "my card was declined although it is valid",
        "I need a corrected invoice for {amount}",
        "you billed me {amount} after I cancelled",
    ],
    "bug": [
        "the export crashes every time I start it",
        "search returns no results since the update",
        "the save button does nothing",
        "I get error {number} when I open a report",
        "the page stays blank after loading",
        "numbers in the dashboard are wrong since yesterday",
    ],
    "account": [
        "I cannot log in any more",
        "the password reset mail never comes",
        "please change the owner of our account to {name}",
        "my two-factor code is rejected",
        "I am locked out after too many attempts",
        "please delete my profile and all data",
    ],
    "feature": [
        "it would be great to have a dark theme",
        "could you add an export to spreadsheets",
        "please support more languages",
        "I wish there were keyboard shortcuts",
        "can you add a weekly summary mail",
        "we would love to see an integration with our calendar",
    ],
    "delivery": [
        "my parcel to {city} has not arrived",
        "the tracking for order {number} has not moved for days",
        "the box arrived damaged in {city}",
        "order {number} was sent to the wrong address",
        "half of order {number} is missing",
        "the courier could not find us in {city}",
    ],
}

PRODUCTS = {
    "mobile": ["on my phone", "in the mobile app", "on the Android app", "on my iPhone"],
    "web": ["in the browser", "on your website", "in the web portal", "on the web page"],
    "api": ["through the API", "when calling your REST API", "with our API key", "in the API client"],
}

PRIORITIES = {
    "low": ["No hurry.", "Whenever you have time.", "This can wait.", "Not urgent at all."],
    "normal": ["Please look into it.", "Can you help?", "Please get back to me.", "Thanks for checking."],
    "urgent": [
        "This blocks our whole team!",
        "We need this fixed right now.",
        "Our production is down because of it!",
        "This is an emergency.",
    ],
}

OPENINGS = ["Hello, ", "Hi, ", "", "Dear support, ", "Good morning, ", "{first} here: "]


def make_case(rng, split):
    """One (prompt, expected) pair; `split` chooses the slot values that may appear."""
    category = rng.choice(sorted(CATEGORIES))
    product = rng.choice(sorted(PRODUCTS))
    priority = rng.choice(sorted(PRIORITIES))
    problem = rng.choice(CATEGORIES[category])
    where = rng.choice(PRODUCTS[product])
    hurt = rng.choice(PRIORITIES[priority])
    opening = rng.choice(OPENINGS)
    text = rng.choice(
        [f"{opening}{problem}, I noticed it {where}. {hurt}", f"{opening}{hurt} {problem[0].upper()}{problem[1:]}, {where}."]
    )
    text = text.format(
        amount=pick(rng, AMOUNTS, split),
        number=rng.randrange(1000, 9999),
        city=pick(rng, CITIES, split),
        first=pick(rng, FIRST_NAMES, split),
        name=f"{pick(rng, FIRST_NAMES, split)} {pick(rng, LAST_NAMES, split)}",
    )
    answer = {"category": category, "priority": priority, "product": product}
    return PREFIX + text, json.dumps(answer, separators=(",", ":"))
