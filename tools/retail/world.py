"""Draw the state of one shop, row by row, as the requests of a task need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, TypeVar

import numpy as np
from awpo_tools.retail.catalogue import CARRIERS, CITIES, PEOPLE, STREETS

JSON = Any
Row = dict[str, JSON]
Choice = TypeVar("Choice")


@dataclass
class World:
    """A shop in the making, with the customer who is being served.

    Attributes:
        rng: Where every choice comes from.
        split: Whose people live here.
        tables: Rows by table name; what the backend is built from.
    """

    rng: np.random.Generator
    split: str
    tables: dict[str, list[Row]] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.today = date(2025, 1, 1) + timedelta(days=self.below(365))
        self.tables["shop"] = [{"today": self.today.isoformat()}]
        self.customer = self.add_customer("post.io")

    # -- draws ---------------------------------------------------------------------------------------------------

    def below(self, bound: int) -> int:
        """Return a whole number from 0 to `bound` - 1."""
        return int(self.rng.integers(bound))

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """Return one of the choices."""
        return choices[self.below(len(choices))]

    def unused(self, choices: Sequence[str]) -> str:
        """Return one of the choices that nothing in this shop is called yet."""
        choice = self.pick(choices)
        while choice in self._taken:
            choice = self.pick(choices)
        self._taken.add(choice)
        return choice

    def new_id(self, letter: str, digits: int) -> str:
        """Return an id that is not taken yet, such as ``W4821``."""
        low = 10 ** (digits - 1)
        while (name := f"{letter}{low + self.below(9 * low)}") in self._taken:
            pass
        self._taken.add(name)
        return name

    def new_street(self) -> str:
        """Return a street with a house number that no order goes to yet."""
        while (street := f"{1 + self.below(99)} {self.pick(STREETS)}") in self._taken:
            pass
        self._taken.add(street)
        return street

    def new_zip(self) -> str:
        """Return five digits that are in no address yet."""
        return self.new_id("", 5)

    # -- rows ----------------------------------------------------------------------------------------------------

    def add(self, table: str, **row: JSON) -> Row:
        """Add a row and return it."""
        self.tables.setdefault(table, []).append(row)
        return row

    def add_customer(self, domain: str) -> Row:
        """Add someone of this split whose name is not taken."""
        people = PEOPLE[self.split]
        first, last = self.pick(people)
        while f"{first} {last}" in self._taken:
            first, last = self.pick(people)
        self._taken.add(f"{first} {last}")
        return self.add(
            "customers",
            customer_id=self.new_id("C", 3),
            first_name=first,
            last_name=last,
            email=f"{first}.{last}@{domain}".lower(),
            zip=self.new_zip(),
            newsletter=0,
        )

    def add_order(self, status: str, delivered_days: int = 5, customer: Row | None = None) -> Row:
        """Add an order without items.

        Args:
            status: Its status.
            delivered_days: Days since its delivery, where it is delivered.
            customer: Whose it is; by default the one who is being served.
        """
        customer = customer or self.customer
        placed_on = self.today - timedelta(days=delivered_days + 4 + self.below(9))
        return self.add(
            "orders",
            order_id=self.new_id("W", 4),
            customer_id=customer["customer_id"],
            status=status,
            placed_on=placed_on.isoformat(),
            delivered_on=(self.today - timedelta(days=delivered_days)).isoformat() if status == "delivered" else None,
            street=self.new_street(),
            city=self.pick(CITIES),
            zip=customer["zip"],
            coupon=None,
            cancel_reason="mistake" if status == "cancelled" else None,
        )

    def add_item(self, order: Row, name: str, cents: int = 2000, variant_id: str | None = None) -> Row:
        """Add an item to an order."""
        return self.add(
            "items",
            item_id=self.new_id("I", 2),
            order_id=order["order_id"],
            name=name,
            variant_id=variant_id,
            price_cents=cents,
            status="sold",
            refund_reason=None,
        )

    def add_shipment(self, order: Row, progress: str, location: str) -> Row:
        """Add where a shipped order is."""
        return self.add(
            "shipments",
            order_id=order["order_id"],
            carrier=self.pick(CARRIERS),
            progress=progress,
            location=location,
            expected_on=(self.today + timedelta(days=1 + self.below(9))).isoformat(),
        )
