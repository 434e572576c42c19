"""Draw the state of one shop, row by row, as the requests of a task need it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, TypeVar

import numpy as np
from awpo_tools.retail.catalogue import CARRIERS, CITIES, OPTIONS, PEOPLE, PROGRESS, STREETS

JSON = Any
Row = dict[str, JSON]
Choice = TypeVar("Choice")

_DRAWS_AT_ONCE = 64  # one draw of an array costs about as much as one draw of a number


@dataclass
class World:
    """A shop in the making, with the customer who is being served.

    Attributes:
        rng: Where every choice comes from.
        split: Whose people live here.
        order_digits: Digits of an order id.
        tables: Rows by table name; what the backend is built from.
    """

    rng: np.random.Generator
    split: str
    order_digits: int = 4
    tables: dict[str, list[Row]] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)
    _draws: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._draws = _draw(self.rng)
        self.today = date(2025, 1, 1) + timedelta(days=self.below(365))
        self.tables["shop"] = [{"today": self.today.isoformat()}]
        self.customer = self.add_customer("post.io")

    # -- draws ---------------------------------------------------------------------------------------------------

    def below(self, bound: int) -> int:
        """Return a whole number from 0 to `bound` - 1."""
        return next(self._draws) % bound

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """Return one of the choices."""
        return choices[self.below(len(choices))]

    def pop(self, choices: list[Choice]) -> Choice:
        """Take one of the choices out of the list."""
        return choices.pop(self.below(len(choices)))

    def reason(self, reasons: Mapping[str, Sequence[str]]) -> tuple[str, str]:
        """Return a value of an enum and one of the ways a user says it."""
        reason = self.pick(tuple(reasons))
        return reason, self.pick(reasons[reason])

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

    def new_cents(self, low: int = 500, high: int = 9000) -> int:
        """Return a price in cents that nothing here costs yet, a multiple of 5."""
        while (name := f"{(cents := low + 5 * self.below((high - low) // 5))} cents") in self._taken:
            pass
        self._taken.add(name)
        return cents

    def day(self, days: int) -> str:
        """Return the day so many days after today, such as ``2025-06-14``."""
        return (self.today + timedelta(days=days)).isoformat()

    def age(self, order: Row) -> int:
        """Return the days since an order was delivered."""
        return (self.today - date.fromisoformat(order["delivered_on"])).days

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
        return self.add(
            "orders",
            order_id=self.new_id("W", self.order_digits),
            customer_id=customer["customer_id"],
            status=status,
            placed_on=self.day(-delivered_days - 4 - self.below(9)),
            delivered_on=self.day(-delivered_days) if status == "delivered" else None,
            street=self.new_street(),
            city=self.pick(CITIES),
            zip=customer["zip"],
            coupon=None,
            cancel_reason="mistake" if status == "cancelled" else None,
        )

    def add_product(self, name: str) -> list[Row]:
        """Add a product in two or three colours and return its variants."""
        product_id = self.new_id("P", 2)
        self.add("products", product_id=product_id, name=name, price_cents=self.new_cents())
        first, num_variants = self.below(len(OPTIONS)), 2 + self.below(2)
        return [
            self.add(
                "variants",
                variant_id=self.new_id("V", 3),
                product_id=product_id,
                option=OPTIONS[(first + 3 * number) % len(OPTIONS)],
                stock=11 + 20 * number + self.below(20),
            )
            for number in range(num_variants)
        ]

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

    def add_shipment(self, order: Row) -> Row:
        """Add where a shipped order is, in every respect unlike the other shipments."""
        return self.add(
            "shipments",
            order_id=order["order_id"],
            carrier=self.unused(CARRIERS),
            progress=self.unused(PROGRESS),
            location=self.unused(CITIES),
            expected_on=self.unused([self.day(days) for days in range(1, 15)]),
        )


def _draw(rng: np.random.Generator) -> Iterator[int]:
    """Yield whole numbers of 62 bits without end, so wide that the remainder is even enough for any bound here."""
    while True:
        yield from reversed((rng.bit_generator.random_raw(_DRAWS_AT_ONCE) >> 2).tolist())
