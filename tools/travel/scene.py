"""The stage of a travel task: travellers, flights with fares, bookings, and how the user speaks of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
from awpo_tools.people import people_of
from awpo_tools.rehearsal import Rehearsal

from awpo_env.types import JSON

from .backend import HALF_PRICE_AGE, KEYS, Backend, Row, new_passenger
from .words import CITIES, FARES

LEAST_CHANGE_MINUTES = 60
"""To change planes, says the policy."""


class Level(NamedTuple):
    """How hard tasks are.

    Attributes:
        speaks_codes: Users say airport codes, so nothing has to be looked up for them.
        num_flights: Direct flights on the day and route a user asks about.
        party: How many travel, one of these.
        num_bookings: Bookings of the user that nobody asks about.
        has_connections: Every other trip has a change of planes.
    """

    speaks_codes: bool
    num_flights: int
    party: tuple[int, ...]
    num_bookings: int
    has_connections: bool


class Scene(Rehearsal):
    """The desk of one task: set up row by row, then in use.

    Attributes:
        level: How hard the task is.
        user: Who is served.
        home: The airport where the user's trips begin.
        seen: What was looked up already, so that no reference looks it up twice.
        unlocked: Hidden tools that the next request of the user makes available.
    """

    def __init__(self, rng: np.random.Generator, split: str, level: Level) -> None:
        today = date(2026, 1, 5) + timedelta(days=int(rng.integers(300)))
        super().__init__(
            rng,
            Backend,
            {"today": today.isoformat(), **{table: [] for table in KEYS}, "notes": []},
            self._introductions,
        )
        self.level = level
        self.seen: set[str] = set()
        self.unlocked: tuple[str, ...] = ()
        self._today = today
        self._people = people_of(split)
        self._days = iter(self.shuffled(range(3, 60)))
        self._prices = iter(self.shuffled(range(60, 500, 2)))
        self.user = self.new_person(25 + self.below(45))
        self.user["budget"] += 9000
        self.home = self.new_airport()
        for _ in range(level.num_bookings):
            self.add_booking([self.user])

    def below(self, bound: int) -> int:
        """Return a whole number from 0 to `bound` - 1."""
        return int(self.rng.integers(bound))

    # -- setting the stage ---------------------------------------------------------------------------------------

    def new_person(self, age: int) -> Row:
        """Add a traveller without bookings, half of them with a loyalty number on file."""
        person = {
            "traveller_id": self._new_number("T", 3),
            "name": self.unused(lambda: " ".join(self.pick(self._people))),
            "age": age,
            "loyalty_number": self.new_loyalty_number() if self.below(2) else None,
            "budget": 1000 + 5 * self.below(400),
        }
        self.state["travellers"].append(person)
        return person

    def new_party(self) -> list[Row]:
        """Return the user and, as the level has it, new companions: adults and minors."""
        ages = (self.pick((20 + self.below(50), 3 + self.below(13))) for _ in range(self.pick(self.level.party) - 1))
        return [self.user, *(self.new_person(age) for age in ages)]

    def new_loyalty_number(self) -> str:
        """Return a loyalty number that nobody has."""
        return self._new_number("L", 6)

    def new_airport(self) -> Row:
        """Add an airport of a city that no trip touches yet."""
        city = self.unused(lambda: self.pick(tuple(CITIES)))
        airport = {"code": CITIES[city], "city": city}
        self.state["airports"].append(airport)
        return airport

    def new_fee(self) -> int:
        """Return what a change of one flight costs, in EUR."""
        return 15 + self.below(45)

    def draw_change(self) -> bool:
        """Draw whether planes are changed on a trip."""
        return self.level.has_connections and bool(self.below(2))

    def new_day(self) -> str:
        """Return a day at least 3 days ahead on which nothing happens yet."""
        return self.day(next(self._days))

    def day(self, days: int) -> str:
        """Return the day so many days after today."""
        return (self._today + timedelta(days=days)).isoformat()

    def add_flight(self, origin: Row, destination: Row, day: str, departs: int, minutes: int) -> Row:
        """Add a flight with its three fares and seats enough; `departs` is in minutes since midnight."""
        flight = {
            "flight_id": self._new_number("F", 3),
            "origin": origin["code"],
            "destination": destination["code"],
            "date": day,
            "departs": clock(departs),
            "arrives": clock(departs + minutes),
            "seats": 8 + self.below(40),
        }
        self.state["flights"].append(flight)
        fees = [*self.shuffled((None, self.new_fee()))[:1], *self.shuffled(range(15, 60))[:2]]
        prices = sorted(next(self._prices) for _ in FARES)
        refundable = (False, bool(self.below(2)), True)
        # The number of a fare says nothing about its price.
        for name, fee, price, is_refundable in self.shuffled(zip(FARES, fees, prices, refundable, strict=True)):
            fare = {"fare_id": self._new_number("R", 4), "flight_id": flight["flight_id"], "name": name, "price": price}
            rules = {"refundable": is_refundable, "change_fee": fee, "bags": self.below(3)}
            self.state["fares"].append({**fare, **rules})
        return flight

    def fares_of(self, flight: Row) -> list[Row]:
        """Return the fares of a flight, cheapest first."""
        found = [fare for fare in self.state["fares"] if fare["flight_id"] == flight["flight_id"]]
        return sorted(found, key=lambda fare: fare["price"])

    def add_booking(
        self,
        party: Sequence[Row],
        destination: Row | None = None,
        day: str = "",
        is_refundable: bool | None = None,
        is_changeable: bool | None = None,
    ) -> Row:
        """Add a booking from the user's home; the level says whether planes may be changed on the way.

        Args:
            party: Everybody who travels; the first pays.
            destination: Where to; by default where nothing else goes.
            day: By default one on which nothing else happens.
            is_refundable: Whether all fares are, or one is not; None leaves it as drawn.
            is_changeable: The same for their change fees.
        """
        destination, day = destination or self.new_airport(), day or self.new_day()
        stops = [self.home, *([self.new_airport()] if self.draw_change() else []), destination]
        departs, name, fares = 6 * 60 + 5 * self.below(60), self.pick(FARES), []
        for origin, stop in itertools.pairwise(stops):
            minutes = 60 + 5 * self.below(18)
            flight = self.add_flight(origin, stop, day, departs, minutes)
            fares.append(next(fare for fare in self.fares_of(flight) if fare["name"] == name))
            departs += minutes + LEAST_CHANGE_MINUTES + 5 * self.below(18)
        for fare in fares:
            fare["refundable"] |= is_refundable is not None
            if is_changeable is not None:
                fare["change_fee"] = fare["change_fee"] or self.new_fee()
        if is_refundable is False:
            self.pick(fares)["refundable"] = False
        if is_changeable is False:
            self.pick(fares)["change_fee"] = None
        booking = {
            "booking_id": self._new_number("B", 3),
            "payer_id": party[0]["traveller_id"],
            "status": "booked",
            "fare_ids": [fare["fare_id"] for fare in fares],
            "passengers": [new_passenger(each) for each in sorted(person["traveller_id"] for person in party)],
            "paid": price(fares, party),
        }
        self.state["bookings"].append(booking)
        return booking

    def fares_in(self, booking: Row) -> list[Row]:
        """Return the fares of a booking, in the order they are flown."""
        fares = {fare["fare_id"]: fare for fare in self.state["fares"]}
        return [fares[fare_id] for fare_id in booking["fare_ids"]]

    def flights_in(self, booking: Row) -> list[Row]:
        """Return the flights of a booking, in the order they are flown."""
        flights = {flight["flight_id"]: flight for flight in self.state["flights"]}
        return [flights[fare["flight_id"]] for fare in self.fares_in(booking)]

    def destination_of(self, booking: Row) -> Row:
        """Return the airport where a booking ends."""
        code = self.flights_in(booking)[-1]["destination"]
        return next(airport for airport in self.state["airports"] if airport["code"] == code)

    def _new_number(self, letter: str, digits: int) -> str:
        low = 10 ** (digits - 1)
        return self.unused(lambda: f"{letter}{low + self.below(9 * low)}")

    # -- the user ------------------------------------------------------------------------------------------------

    def asks(self, messages: Sequence[str], *words: JSON, new_tools: tuple[str, ...] = ()) -> None:
        """See `Rehearsal.asks`; what is unlocked comes with it."""
        super().asks(messages, *words, new_tools=(*new_tools, *self.unlocked))
        self.unlocked = ()

    def _introductions(self) -> tuple[str, ...]:
        name = self.user["name"]
        return f"I am {name}.", f"My name is {name}.", f"This is {name}."

    def place(self, airport: Row) -> str:
        """Return how the user names an airport."""
        return airport["code"] if self.level.speaks_codes else airport["city"]


def price(fares: Iterable[Row], party: Iterable[Row]) -> int:
    """Return what fares cost for a party, as the desk works it out."""
    each = sum(fare["price"] for fare in fares)
    return sum(each // 2 if person["age"] < HALF_PRICE_AGE else each for person in party)


def clock(minutes: int) -> str:
    """Return a time of day as flights have it: ``clock(490)`` is ``08:10``."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
