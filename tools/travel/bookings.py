"""Kinds of tasks in which a trip is booked: a given fare, the cheapest, within a limit, or after a question."""

from __future__ import annotations

from awpo_tools.rehearsal import listed

from awpo_env.types import JSON, ToolCall

from .scene import Scene, price
from .steps import Play, ids_of, look_up, refuse
from .trips import (
    Trip,
    any_trip,
    call_book,
    cheapest_trip,
    confirm,
    connecting_trip,
    fare_ids,
    find_fares,
    named_trip,
    new_route,
    serve,
    trip_words,
)

VERBS = ("Book {}", "Please book {}", "I need {}")
LIMITS = ("It may cost {} EUR at most.", "My limit is {} EUR for all of it.", "Only if it is not over {} EUR in total.")
OMISSIONS = {
    "destination": (
        "The destination to fly to is missing and search_flights needs it, so ask instead of guessing.",
        "To which destination do you want to fly?",
        "To {destination}.",
    ),
    "day": (
        "The day to fly is missing and search_flights needs it, so ask instead of guessing.",
        "On which day do you want to fly?",
        "On {day}, please.",
    ),
    "fare": (
        "The fare to fly in is missing and book_trip needs one, so ask instead of guessing.",
        "In which fare do you want to fly?",
        "In {fare}.",
    ),
}


def book(scene: Scene) -> Play:
    """The user names a direct flight and a fare."""
    trip = named_trip(scene, new_route(scene))
    yield
    ask_for(scene, trip)
    serve(scene, trip)


def connection(scene: Scene) -> Play:
    """No flight is direct, so planes have to be changed."""
    trip = connecting_trip(scene, new_route(scene))
    yield
    ask_for(scene, trip)
    serve(scene, trip)


def cheapest(scene: Scene) -> Play:
    """All fares of the day have to be compared."""
    trip = cheapest_trip(scene, new_route(scene))
    yield
    ask_for(scene, trip)
    serve(scene, trip)


def within_limit(scene: Scene) -> Play:
    """The user's limit covers the quote."""
    trip = any_trip(scene, new_route(scene))
    limit = price(trip.fares, trip.party) + 5 + scene.below(60)
    yield
    ask_for(scene, trip, limit)
    seen, total = quote(scene, trip)
    booked = call_book(scene, trip, f"The quote {total} is within the limit {limit}")
    confirm(scene, trip, booked, seen)


def over_limit(scene: Scene) -> Play:
    """The quote is over the user's limit."""
    trip = any_trip(scene, new_route(scene))
    limit = price(trip.fares, trip.party) - 5 - scene.below(40)
    yield
    ask_for(scene, trip, limit)
    _, total = quote(scene, trip)
    grounds = f"The quote {total} is over the limit {limit}"
    refuse(scene, "book", "over_budget", grounds, f"I did not book: it costs {total} EUR, over your limit.")


def over_budget(scene: Scene) -> Play:
    """The user's budget does not cover the trip, which only the error says."""
    trip = any_trip(scene, new_route(scene))
    scene.user["budget"] = budget = price(trip.fares, trip.party) - 5 - scene.below(40)
    yield
    ask_for(scene, trip)
    look_up(scene, trip.party, [trip.origin, trip.destination], "book_trip")
    find_fares(scene, trip)
    call_book(scene, trip)
    grounds = f"book_trip failed: it costs {price(trip.fares, trip.party)} EUR but the budget is {budget} EUR"
    refuse(scene, "book", "over_budget", grounds, f"I did not book: your budget of {budget} EUR does not cover it.")


def missing(scene: Scene) -> Play:
    """Something has to be asked for before anything is called."""
    trip = any_trip(scene, new_route(scene))
    omitted = scene.pick(tuple(OMISSIONS))
    yield
    reasoning, question, answer = OMISSIONS[omitted]
    ask_for(scene, trip, omit=omitted)
    scene.tell(reasoning, question)
    scene.asks([answer.format(destination=scene.place(trip.destination), day=trip.day, fare=trip.wish)])
    serve(scene, trip)


def ask_for(scene: Scene, trip: Trip, limit: int = 0, omit: str = "") -> None:
    """Let the user ask for a trip."""
    condition = f" {scene.pick(LIMITS).format(limit)}" if limit else ""
    scene.asks(VERBS, f"{trip_words(scene, trip, omit)}.{condition}")


def quote(scene: Scene, trip: Trip) -> tuple[list[JSON], int]:
    """Look up, find the fares and quote the trip; return the fares that were listed, and the total."""
    look_up(scene, trip.party, [trip.origin, trip.destination], "quote_trip")
    seen = find_fares(scene, trip)
    fares, people = fare_ids(trip), ids_of(trip.party)
    (result,) = scene.act(
        f"The total of {trip.wish} is missing, so call quote_trip with {listed(fares)} for {listed(people)}.",
        ToolCall("quote_trip", {"fare_ids": fares, "traveller_ids": people}),
    )
    return seen, result["total"]
