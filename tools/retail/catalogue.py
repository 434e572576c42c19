"""Words the task generator draws from, and which people belong to which split."""

from __future__ import annotations


def _words(*lines: str) -> tuple[str, ...]:
    return tuple(word for line in lines for word in line.split())


FIRST_NAMES = _words(
    "Ana Ben Cleo Dan Eva Finn Gina Hugo Ida Jon Kim Leo",
    "Mia Noah Olga Paul Rosa Sam Tara Ugo Vera Will Yara Zoe",
)
LAST_NAMES = _words(
    "Li Brown Cruz Diaz Evans Fox Gray Hart Irwin Jones Khan Lopez",
    "Moss Nash Owen Price Quinn Reed Stone Tran Urban Vega Wood Young",
)
PRODUCTS = _words(
    "lamp mug chair desk kettle tent scarf jacket guitar clock mirror pillow",
    "blanket camera radio kite drum vase basket bottle helmet wallet carpet puzzle",
)
_STREET_NAMES = _words(
    "Oak Elm Pine Maple Cedar Lake Hill Park River Mill Church Station Garden Bridge Harbor Forest",
)
STREETS = tuple(f"{name} Street" for name in _STREET_NAMES)
OPTIONS = _words("red blue green black white yellow silver brown")
CITIES = _words("Salem Dover Austin Boise Fresno Tulsa Macon Provo Akron Laredo Mobile Reno")
CARRIERS = _words("Swift Parcelo Northway Couri Hermod Quickbox Tramline Postal")
PROGRESS = (
    "in transit",
    "at the depot",
    "out for delivery",
    "held at customs",
    "being sorted",
    "waiting for pickup",
    "on the ferry",
    "at the airport",
)
COUPON_WORDS = ("SAVE", "SPRING", "HELLO", "BONUS", "EXTRA", "LUCKY")
EMAIL_DOMAINS = ("post.io", "mail.net", "inbox.org", "letters.com")
STATUSES = ("pending", "shipped", "delivered", "cancelled")

SPLITS = ("train", "test")


def people(split: str) -> tuple[tuple[str, str], ...]:
    """Return the (first name, last name) pairs of a split: a quarter of all pairs is for the test split.

    Every single name is in both splits, so that a model may generalise from one to the other.
    """
    return tuple(
        (first, last)
        for row, first in enumerate(FIRST_NAMES)
        for column, last in enumerate(LAST_NAMES)
        if ((row + column) % 4 == 0) == (split == "test")
    )


PEOPLE = {split: people(split) for split in SPLITS}
