"""Slot values shared by the tasks. The last quarter of each list is kept for held-out cases."""

FIRST_NAMES = (
    "Anna Ben Clara David Elena Felix Grace Henry Iris Jonas Karim Laura Marco Nadia Oscar Paula "
    "Quentin Rosa Samuel Tara Umar Vera Walter Xenia Yusuf Zoe Amir Bella Carlos Diana Emil Fiona"
).split()
LAST_NAMES = (
    "Adams Baker Castro Dubois Evans Fischer Garcia Hughes Ivanov Jansen Keller Lopez Meyer Novak "
    "Olsen Petrov Quinn Rossi Schmidt Tanaka Ueda Vargas Weber Xu Young Zhang Brown Cohen Diaz Ferrari Gomez Hansen"
).split()
CITIES = (
    "Berlin Paris Madrid Rome Vienna Prague Oslo Dublin Lisbon Athens Warsaw Zurich Boston Denver "
    "Toronto Sydney Tokyo Seoul Lyon Milan Porto Geneva Hamburg Chicago"
).split()
AMOUNTS = [f"${n}" for n in (12, 15, 19, 24, 29, 35, 42, 49, 58, 63, 77, 80, 95, 99, 120, 149)]
PRODUCTS = "laptop phone camera printer monitor keyboard tablet router headset charger speaker scanner".split()
DOMAINS = "example.com mail.org post.net corp.io web.co inbox.dev fastmail.biz office.eu".split()
STREETS = "Oak Street|Main Street|Park Avenue|Mill Road|Lake Drive|Hill Lane|Station Road|King Street".split("|")


def pick(rng, values, split):
    """A value of the split's own: held-out values never appear in training."""
    border = len(values) * 3 // 4
    return rng.choice(values[:border] if split == "train" else values[border:])
