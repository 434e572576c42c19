"""Trips that users want: flights set up so that one choice is right, and the steps that find it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from awpo_tools.rehearsal import listed

from awpo_env.types import JSON, ToolCall

from .backend import Row, minutes_of
from .scene import LEAST_CHANGE_MINUTES, Scene
from .steps import ids_of, look_up, tell_amount, travellers
from .words import FARES

CHEAPEST: dict[str, Callable[[Row], bool]] = {
    "the cheapest fare": lambda fare: True,
    "the cheapest refundable fare": lambda fare: fare["refundable"],
    "the cheapest fare with a bag included": lambda fare: fare["bags"] > 0,
}


class Trip(NamedTuple):
    """A trip the user wants, and the fares that the rules of the desk lead to.

    Attributes:
        origin: Where from.
        destination: Where to.
        day: When.
        party: Who travels.
        flight: Which flight, in the user's words; empty where the user leaves that open.
        wish: Which fare, in the user's words.
        fares: The right fares, one for each flight.
        has_change: Whether no flight is direct.
        read: Flights whose fares have to be listed.
        grounds: Why just those flights.
    """

    origin: Row
    destination: Row
    day: str
    party: Sequence[Row]
    flight: str
    wish: str
    fares: Sequence[Row]
    has_change: bool
    read: Sequence[Row]
    grounds: str


Route = tuple[Row, Row, str, Sequence[Row]]
"""Origin, destination, day and party of a trip."""


def new_route(scene: Scene, party: Sequence[Row] = ()) -> Route:
    """Draw a route from the user's home that nothing flies yet, for a party of the level."""
    return scene.home, scene.new_airport(), scene.new_day(), party or scene.new_party()


def direct_flights(scene: Scene, route: Route) -> list[Row]:
    """Set up the direct flights of a day, at different times, each with enough seats."""
    origin, destination, day, _ = route
    starts = scene.shuffled(range(6 * 60, 20 * 60, 25))[: scene.level.num_flights]
    return [scene.add_flight(origin, destination, day, start, 70 + 5 * scene.below(26)) for start in starts]


def connecting_flights(scene: Scene, route: Route, changes: Sequence[int]) -> list[list[Row]]:
    """Set up one connection for each number of minutes to change planes, earliest arrival first."""
    origin, destination, day, _ = route
    found, arrivals = [], set[int]()
    for change in changes:
        hub, first, second = scene.new_airport(), 60 + 5 * scene.below(8), 60 + 5 * scene.below(8)
        departs = 6 * 60 + 5 * scene.below(60)
        while departs + first + change + second in arrivals:
            departs += 5
        arrivals.add(departs + first + change + second)
        legs = (origin, hub, departs, first), (hub, destination, departs + first + change, second)
        found.append([scene.add_flight(one, other, day, start, minutes) for one, other, start, minutes in legs])
    return sorted(found, key=lambda flights: flights[-1]["arrives"])


def named_trip(scene: Scene, route: Route) -> Trip:
    """Return a trip on a direct flight that the user names, in a fare that the user names."""
    flight = scene.pick(direct_flights(scene, route))
    fare = scene.pick(scene.fares_of(flight))
    words, grounds = f"on the {flight['departs']} flight", f"{flight['flight_id']} leaves at {flight['departs']}"
    return Trip(*route, words, f"the {fare['name']} fare", [fare], False, [flight], grounds)


def cheapest_trip(scene: Scene, route: Route) -> Trip:
    """Return a trip in the cheapest fare of a sort; in a party's way is a cheaper flight without enough seats."""
    flights, num_seats = direct_flights(scene, route), len(route[3])
    wish = scene.pick(tuple(CHEAPEST))
    if num_seats > 1:
        cheapest = min(flights, key=lambda flight: scene.fares_of(flight)[0]["price"])
        cheapest["seats"] = num_seats - 1
    flights = [flight for flight in flights if flight["seats"] >= num_seats]
    fares = [fare for flight in flights for fare in scene.fares_of(flight)]
    fitting = [fare for fare in fares if CHEAPEST[wish](fare)]
    if not fitting:  # no bag anywhere
        fitting = [fares[0]]
        fares[0]["bags"] = 1
    right = min(fitting, key=lambda fare: fare["price"])
    return Trip(*route, "", wish, [right], False, flights, "These flights have enough seats")


def connecting_trip(scene: Scene, route: Route) -> Trip:
    """Return a trip with a change of planes: one connection is too short, and one may be out of seats."""
    name, num_seats = scene.pick(FARES), len(route[3])
    pairs = connecting_flights(scene, route, [25 + 5 * scene.below(7), *(60 + 5 * scene.below(20) for _ in range(3))])
    possible = [pair for pair in pairs if change_minutes(pair) >= LEAST_CHANGE_MINUTES]
    if num_seats > 1 and scene.below(2):
        scene.pick(possible.pop(0))["seats"] = num_seats - 1
    legs = possible[0]
    fares = [next(fare for fare in scene.fares_of(leg) if fare["name"] == name) for leg in legs]
    return Trip(*route, "", f"the {name} fare", fares, True, legs, "They arrive first of those that can be taken")


def change_minutes(pair: Sequence[Row]) -> int:
    """Return the minutes to change from one flight to the other."""
    return minutes_of(pair[1]["departs"]) - minutes_of(pair[0]["arrives"])


def any_trip(scene: Scene, route: Route) -> Trip:
    """Return a connection or a direct trip, as the level has it."""
    return connecting_trip(scene, route) if scene.draw_change() else named_trip(scene, route)


# -- the user's words and the assistant's steps --------------------------------------------------------------------


def wish_words(trip: Trip) -> str:
    """Return which flight and fare the user wants."""
    return f"{trip.flight} in {trip.wish}".strip()


def trip_words(scene: Scene, trip: Trip, omit: str = "") -> str:
    """Return the trip in the user's words, without its "destination", "day" or "fare" if one is to be left out."""
    destination = "" if omit == "destination" else f" to {scene.place(trip.destination)}"
    day = "" if omit == "day" else f" on {trip.day}"
    wish = trip.flight if omit == "fare" else wish_words(trip)
    people = travellers(scene, trip.party)
    return f"a trip from {scene.place(trip.origin)}{destination}{day} for {people}{f', {wish}' if wish else ''}"


def search(scene: Scene, trip: Trip) -> None:
    """Search the flights of a trip, and connections if none is direct."""
    origin, destination = trip.origin["code"], trip.destination["code"]
    arguments = {"origin": origin, "destination": destination, "date": trip.day}
    route = f"{origin} to {destination} on {trip.day}"
    scene.act(
        f"The flights from {route} are missing, so call search_flights; then list_fares for a fare.",
        ToolCall("search_flights", arguments),
    )
    if trip.has_change:
        scene.act(
            f"No flight is direct, so call search_connections from {route} to find fares for a connection.",
            ToolCall("search_connections", arguments),
        )


def find_fares(scene: Scene, trip: Trip) -> list[JSON]:
    """Search a trip and list the fares it may take; return them all."""
    search(scene, trip)
    flights = [flight["flight_id"] for flight in trip.read]
    results = scene.act(
        f"{trip.grounds}; fares are missing to find {trip.wish}, so call list_fares for {listed(flights)}.",
        *(ToolCall("list_fares", {"flight_id": flight}) for flight in flights),
    )
    return [fare for result in results for fare in result["fares"]]


def fare_ids(trip: Trip) -> list[str]:
    """Return the numbers of the right fares."""
    return [fare["fare_id"] for fare in trip.fares]


def call_book(scene: Scene, trip: Trip, grounds: str = "") -> JSON:
    """Book the right fares; return the booking's number and total, or the error."""
    fares, people, user_id = fare_ids(trip), ids_of(trip.party), scene.user["traveller_id"]
    grounds = grounds or f"{listed(fares)} {'are' if len(fares) > 1 else 'is'} {trip.wish}"
    return scene.act(
        f"{grounds}, so call book_trip with {listed(fares)} for {listed(people)}; payer is {user_id}.",
        ToolCall("book_trip", {"payer_id": user_id, "fare_ids": fares, "traveller_ids": people}),
    )[0]


def serve(scene: Scene, trip: Trip) -> str:
    """Look up, find the fares, book and tell; return the number of the booking."""
    look_up(scene, trip.party, [trip.origin, trip.destination], "book_trip")
    seen = find_fares(scene, trip)
    booked = call_book(scene, trip)
    confirm(scene, trip, booked, seen)
    return booked["booking_id"]


def confirm(scene: Scene, trip: Trip, booked: JSON, seen: Sequence[JSON]) -> None:
    """Tell the user what was booked."""
    done = f"The trip is booked as {booked['booking_id']}; it costs {booked['total']} EUR in total."
    tell_amount(scene, "book_trip", booked["total"], done, other_prices(seen, fare_ids(trip)))


def other_prices(seen: Sequence[JSON], chosen: Sequence[str]) -> list[int]:
    """Return the prices of fares that were listed but not chosen; what was chosen may be told in parts."""
    return [fare["price"] for fare in seen if fare["fare_id"] not in chosen]
