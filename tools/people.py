"""Names of the people in generated tasks; no full name is in both splits, every single name is."""

from __future__ import annotations

FIRST_NAMES = (
    "Ada", "Bela", "Cora", "Dirk", "Enzo", "Faye", "Gil", "Hana", "Ivo", "Jana",
    "Kofi", "Lena", "Milo", "Nia", "Otto", "Pia", "Rafi", "Sara", "Tom", "Uma",
)  # fmt: skip
LAST_NAMES = (
    "Abel", "Berg", "Conti", "Dahl", "Engel", "Faber", "Gomez", "Huber", "Ivens", "Jung",
    "Keller", "Lang", "Meyer", "Nagy", "Olsen", "Peters", "Roth", "Simon", "Toth", "Winter",
)  # fmt: skip


def people_of(split: str) -> list[tuple[str, str]]:
    """Return the (first name, last name) pairs of a split; a quarter of all pairs is for the test split.

    >>> set(people_of("train")) & set(people_of("test"))
    set()
    """
    return [
        (first, last)
        for row, first in enumerate(FIRST_NAMES)
        for column, last in enumerate(LAST_NAMES)
        if ((row + column) % 4 == 0) == (split == "test")
    ]
