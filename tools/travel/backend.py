"""The travel desk: flights with fares, travellers with budgets, and bookings made of both."""

from __future__ import annotations

import itertools
import marshal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

from awpo_env.errors import ToolError, did_you_mean

JSON = Any
Row = dict[str, JSON]

BAG_PRICE = 30
"""EUR for one extra bag on one flight."""

HALF_PRICE_AGE = 12
"""Who is younger pays half a fare."""

KEYS = {
    "airports": "code",
    "travellers": "traveller_id",
    "flights": "flight_id",
    "fares": "fare_id",
    "bookings": "booking_id",
}
"""The tables and their keys."""


def minutes_of(time: str) -> int:
    """Return the minutes since midnight: ``minutes_of("08:10")`` is 490."""
    hours, minutes = time.split(":")
    return 60 * int(hours) + int(minutes)


class Backend:
    """One travel desk; ``tools.json`` says what each tool does.

    It refuses what cannot be done: no seats, no money, no such id. What must not be done stands in ``policy.md``, and
    keeping to that is up to the agent: a child can be booked alone here, and a ticket given back for nothing.

    Args:
        state: Today's date, rows by table, and what was declined and handed over.
    """

    def __init__(self, state: JSON) -> None:
        self.restore(state)

    # -- state ---------------------------------------------------------------------------------------------------

    def restore(self, snapshot: JSON) -> None:
        """Take over a state as `snapshot` returns it."""
        state = _copy(snapshot)
        self._today: str = state["today"]
        self._tables = {name: {row[key]: row for row in state[name]} for name, key in KEYS.items()}
        self._notes: tuple[Row, ...] = tuple(state["notes"])

    def snapshot(self) -> JSON:
        """Return the complete state: every table in the order of its key, notes in the order they were made."""
        tables = {name: [rows[key] for key in sorted(rows)] for name, rows in self._tables.items()}
        return _copy({"today": self._today, **tables, "notes": list(self._notes)})

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo what is done inside when an exception leaves the block (rows are replaced, never changed)."""
        saved = {name: dict(rows) for name, rows in self._tables.items()}, self._notes
        try:
            yield
        except BaseException:
            self._tables, self._notes = saved
            raise

    # -- look-ups ------------------------------------------------------------------------------------------------

    def find_traveller(self, name: str) -> JSON:
        wanted = name.casefold()
        columns = ("traveller_id", "name", "age", "loyalty_number")
        found = [row for row in self._rows("travellers") if wanted in row["name"].casefold()]
        return {"travellers": [{column: row[column] for column in columns} for row in found]}

    def get_budget(self, traveller_id: str) -> JSON:
        return {"traveller_id": traveller_id, "budget": self._row("travellers", traveller_id)["budget"]}

    def find_airport(self, city: str) -> JSON:
        codes = {row["city"]: row["code"] for row in self._rows("airports")}
        for name, code in codes.items():
            if name.casefold() == city.casefold():
                return {"city": name, "code": code}
        raise ToolError(f"no airport serves {city!r}.{did_you_mean(city, codes)}")

    def search_flights(self, origin: str, destination: str, date: str) -> JSON:
        columns = ("flight_id", "departs", "arrives", "seats")
        found = [
            {column: flight[column] for column in columns}
            for flight in self._flights(origin, date)
            if flight["destination"] == destination
        ]
        return {"flights": found}

    def search_connections(self, origin: str, destination: str, date: str) -> JSON:
        found = [
            {
                "flight_ids": [first["flight_id"], second["flight_id"]],
                "via": first["destination"],
                "change_minutes": minutes_of(second["departs"]) - minutes_of(first["arrives"]),
                "departs": first["departs"],
                "arrives": second["arrives"],
                "seats": min(first["seats"], second["seats"]),
            }
            for first in self._flights(origin, date)
            for second in self._flights(first["destination"], date)
            if second["destination"] == destination and first["arrives"] < second["departs"]
        ]
        return {"connections": sorted(found, key=lambda row: row["departs"])}

    def list_fares(self, flight_id: str) -> JSON:
        self._row("flights", flight_id)
        found = [_without(row, "flight_id") for row in self._rows("fares") if row["flight_id"] == flight_id]
        return {"flight_id": flight_id, "fares": found}

    def quote_trip(self, fare_ids: list[str], traveller_ids: list[str]) -> JSON:
        self._trip(fare_ids)
        return {"total": self._price(fare_ids, traveller_ids)}

    def list_bookings(self, traveller_id: str) -> JSON:
        self._row("travellers", traveller_id)
        found = []
        for booking in self._rows("bookings"):
            if traveller_id in (booking["payer_id"], *(each["traveller_id"] for each in booking["passengers"])):
                first, last = self._ends(booking["fare_ids"])
                city = self._row("airports", last["destination"])["city"]
                ends = {"date": first["date"], "origin": first["origin"], "destination": last["destination"]}
                found.append({"city": city, **ends, "booking_id": booking["booking_id"], "status": booking["status"]})
        return {"bookings": found}

    def get_booking(self, booking_id: str) -> JSON:
        booking = self._row("bookings", booking_id)
        fares = [self._row("fares", fare_id) for fare_id in booking["fare_ids"]]
        flights = [_without(self._row("flights", fare["flight_id"]), "seats") for fare in fares]
        departure = date.fromisoformat(flights[0]["date"])
        return {
            **_copy(_without(booking, "fare_ids")),
            "days_until_departure": (departure - date.fromisoformat(self._today)).days,
            "flights": [{**flights[i], "fare": _without(fare, "flight_id")} for i, fare in enumerate(fares)],
        }

    # -- actions -------------------------------------------------------------------------------------------------

    def book_trip(self, payer_id: str, fare_ids: list[str], traveller_ids: list[str]) -> JSON:
        self._trip(fare_ids)
        total = self._price(fare_ids, traveller_ids)
        flights = self._reseated(len(traveller_ids), fare_ids)
        self._charge(payer_id, total)
        self._put("flights", *flights)
        # No booking is ever removed, so the number after the last one is free.
        booking_id = f"B{1 + max((int(number[1:]) for number in self._tables['bookings']), default=100)}"
        booking = {
            "booking_id": booking_id,
            "payer_id": payer_id,
            "status": "booked",
            "fare_ids": list(fare_ids),
            "passengers": [new_passenger(traveller_id) for traveller_id in sorted(traveller_ids)],
            "paid": total,
        }
        self._put("bookings", booking)
        return {"booking_id": booking_id, "total": total}

    def change_booking(self, booking_id: str, fare_ids: list[str]) -> JSON:
        booking = self._booked(booking_id)
        if fare_ids == booking["fare_ids"]:
            raise ToolError(f"{booking_id} has these fares already; fare_ids must be the new ones")
        old, new = self._ends(booking["fare_ids"]), self._trip(fare_ids)
        if (old[0]["origin"], old[1]["destination"]) != (new[0]["origin"], new[1]["destination"]):
            route = f"{old[0]['origin']} to {old[1]['destination']}"
            raise ToolError(f"{booking_id} goes from {route}; a change keeps where it begins and ends")
        fees = [self._row("fares", fare_id)["change_fee"] for fare_id in booking["fare_ids"]]
        if None in fees:
            raise ToolError(f"{booking_id} has a fare that cannot be changed: its change_fee is null")
        travellers = [passenger["traveller_id"] for passenger in booking["passengers"]]
        dearer = self._price(fare_ids, travellers) - self._price(booking["fare_ids"], travellers)
        charged = sum(fees) * len(travellers) + max(0, dearer)
        flights = self._reseated(len(travellers), fare_ids, booking["fare_ids"])
        self._charge(booking["payer_id"], charged)
        self._put("flights", *flights)
        self._put("bookings", {**booking, "fare_ids": list(fare_ids), "paid": booking["paid"] + charged})
        return {"booking_id": booking_id, "charged": charged}

    def cancel_booking(self, booking_id: str) -> JSON:
        booking = self._booked(booking_id)
        is_refundable = all(self._row("fares", fare_id)["refundable"] for fare_id in booking["fare_ids"])
        refunded = booking["paid"] if is_refundable else 0
        self._put("flights", *self._reseated(len(booking["passengers"]), (), booking["fare_ids"]))
        self._charge(booking["payer_id"], -refunded)
        self._put("bookings", {**booking, "status": "cancelled"})
        return {"booking_id": booking_id, "refunded": refunded}

    def add_bags(self, booking_id: str, traveller_id: str, bags: int) -> JSON:
        booking, passenger = self._passenger(booking_id, traveller_id)
        charged = BAG_PRICE * bags * len(booking["fare_ids"])
        self._charge(booking["payer_id"], charged)
        more = {**passenger, "extra_bags": passenger["extra_bags"] + bags}
        self._put("bookings", {**_with_passenger(booking, more), "paid": booking["paid"] + charged})
        return {"booking_id": booking_id, "extra_bags": more["extra_bags"], "charged": charged}

    def set_loyalty_number(self, booking_id: str, traveller_id: str, loyalty_number: str) -> JSON:
        booking, passenger = self._passenger(booking_id, traveller_id)
        if passenger["loyalty_number"] == loyalty_number:
            raise ToolError(f"{booking_id} has {loyalty_number} for {traveller_id} already")
        self._put("bookings", _with_passenger(booking, {**passenger, "loyalty_number": loyalty_number}))
        return {"booking_id": booking_id, "loyalty_number": loyalty_number}

    def decline(self, traveller_id: str, request: str, reason: str) -> JSON:
        self._note(traveller_id, {"declined": request, "reason": reason})
        return {"declined": request, "reason": reason}

    def hand_over(self, traveller_id: str, topic: str) -> JSON:
        self._note(traveller_id, {"handed_over": topic})
        return {"handed_over": topic}

    # -- rows ----------------------------------------------------------------------------------------------------

    def _rows(self, table: str) -> list[Row]:
        rows = self._tables[table]
        return [rows[key] for key in sorted(rows)]

    def _row(self, table: str, key: str) -> Row:
        if key not in self._tables[table]:
            raise ToolError(f"there is no {KEYS[table].removesuffix('_id')} {key!r}; look it up, never guess it")
        return self._tables[table][key]

    def _put(self, table: str, *rows: Row) -> None:
        self._tables[table].update((row[KEYS[table]], row) for row in rows)

    def _note(self, traveller_id: str, note: Row) -> None:
        self._row("travellers", traveller_id)
        self._notes = (*self._notes, {"traveller_id": traveller_id, **note})

    def _flights(self, origin: str, date: str) -> list[Row]:
        found = (row for row in self._tables["flights"].values() if (row["origin"], row["date"]) == (origin, date))
        return sorted(found, key=lambda row: (row["departs"], row["flight_id"]))

    # -- rules ---------------------------------------------------------------------------------------------------

    def _ends(self, fare_ids: Sequence[str]) -> tuple[Row, Row]:
        """Return the first and the last flight."""
        first, last = (self._row("fares", fare_ids[i])["flight_id"] for i in (0, -1))
        return self._row("flights", first), self._row("flights", last)

    def _trip(self, fare_ids: Sequence[str]) -> tuple[Row, Row]:
        """Return the first and the last flight, which can be flown one after the other, from tomorrow on."""
        flights = [self._row("flights", self._row("fares", fare_id)["flight_id"]) for fare_id in fare_ids]
        for one, other in itertools.pairwise(flights):
            arrives, departs = (one["date"], one["arrives"]), (other["date"], other["departs"])
            if one["destination"] != other["origin"] or arrives >= departs:
                raise ToolError(f"{one['flight_id']} does not connect to {other['flight_id']}; give fares in order")
        if flights[0]["date"] <= self._today:
            raise ToolError(f"{flights[0]['flight_id']} leaves on {flights[0]['date']}; today is {self._today}")
        return flights[0], flights[-1]

    def _price(self, fare_ids: Sequence[str], traveller_ids: Sequence[str]) -> int:
        """Return what the fares cost for all travellers; prices are even."""
        price = sum(self._row("fares", fare_id)["price"] for fare_id in fare_ids)
        ages = [self._row("travellers", traveller_id)["age"] for traveller_id in traveller_ids]
        return sum(price // 2 if age < HALF_PRICE_AGE else price for age in ages)

    def _reseated(self, count: int, taken: Sequence[str], given_back: Sequence[str] = ()) -> list[Row]:
        """Return the flights of some fares as they are once `count` seats are taken on each, and others given back."""
        change = Counter(self._row("fares", fare_id)["flight_id"] for fare_id in taken)
        change.subtract(self._row("fares", fare_id)["flight_id"] for fare_id in given_back)
        flights = []
        for flight_id, times in change.items():
            flight = self._row("flights", flight_id)
            if flight["seats"] < times * count:
                raise ToolError(f"{flight_id} has {flight['seats']} seats left; {times * count} are needed")
            flights.append({**flight, "seats": flight["seats"] - times * count})
        return flights

    def _charge(self, payer_id: str, amount: int) -> None:
        payer = self._row("travellers", payer_id)
        if payer["budget"] < amount:
            raise ToolError(f"this costs {amount} EUR, but the budget of {payer_id} is {payer['budget']} EUR")
        self._put("travellers", {**payer, "budget": payer["budget"] - amount})

    def _booked(self, booking_id: str) -> Row:
        booking = self._row("bookings", booking_id)
        if booking["status"] != "booked":
            raise ToolError(f"{booking_id} is {booking['status']}; nothing can be done with it")
        return booking

    def _passenger(self, booking_id: str, traveller_id: str) -> tuple[Row, Row]:
        booking = self._booked(booking_id)
        for passenger in booking["passengers"]:
            if passenger["traveller_id"] == traveller_id:
                return booking, passenger
        raise ToolError(f"{traveller_id} is no passenger of {booking_id}; get_booking gives the passengers")


def new_passenger(traveller_id: str) -> Row:
    """Return a passenger of a new booking."""
    return {"traveller_id": traveller_id, "extra_bags": 0, "loyalty_number": None}


def _copy(value: JSON) -> JSON:
    return marshal.loads(marshal.dumps(value))  # the fastest deep copy of JSON there is


def _without(row: Mapping[str, JSON], name: str) -> Row:
    return {key: value for key, value in row.items() if key != name}


def _with_passenger(booking: Row, passenger: Row) -> Row:
    same = passenger["traveller_id"]
    return {**booking, "passengers": [passenger if p["traveller_id"] == same else p for p in booking["passengers"]]}
