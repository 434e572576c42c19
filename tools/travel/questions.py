"""Kinds of tasks in which the user asks for something: the rules of a fare, the times of a trip, or its price."""

from __future__ import annotations

from awpo_env.types import Fact

from .bookings import quote
from .scene import Scene
from .steps import Play, booking_words, look_up, read_booking, tell_amount
from .trips import any_trip, fare_ids, find_fares, named_trip, new_route, other_prices, trip_words

TIMES = {"departs": ("leave", "leaves"), "arrives": ("arrive", "arrives")}
RULES = {"change_fee": "change fee", "price": "price"}


def fare_rule(scene: Scene) -> Play:
    """The price or the change fee of one fare, among others on the same flight."""
    trip = named_trip(scene, new_route(scene, [scene.user]))
    (fare,) = trip.fares
    rule = scene.pick([rule for rule in RULES if fare[rule]])
    yield
    place, there = scene.place(trip.origin), scene.place(trip.destination)
    scene.asks([f"What is the {RULES[rule]} of {trip.wish} from {place} to {there} on {trip.day}, {trip.flight}?"])
    look_up(scene, [], [trip.origin, trip.destination], "search_flights")
    seen = find_fares(scene, trip)
    done = f"The {RULES[rule]} is {fare[rule]} EUR."
    others = [each[key] or 0 for each in seen for key in RULES if each["fare_id"] != fare["fare_id"]]
    tell_amount(scene, "list_fares", fare[rule], done, others)


def times(scene: Scene) -> Play:
    """When a trip leaves or arrives."""
    booking = scene.add_booking(scene.new_party())
    end = scene.pick(tuple(TIMES))
    yield
    words = booking_words(scene, booking)
    scene.asks(["At what time does {} {}?"], words, TIMES[end][0])
    read = read_booking(scene, booking, words, "an answer")
    value = read["flights"][0 if end == "departs" else -1][end]
    others = {flight[each] for flight in read["flights"] for each in TIMES} - {value}
    scene.tell(
        f"get_booking shows that {booking['booking_id']} {TIMES[end][1]} at {value}, so tell the user.",
        f"The trip {TIMES[end][1]} at {value}.",
        Fact(value, tuple(sorted(others))),
    )


def total(scene: Scene) -> Play:
    """What a trip would cost; nothing is booked."""
    trip = any_trip(scene, new_route(scene))
    yield
    scene.asks(["I do not want to book yet. What would be the total of {}?"], trip_words(scene, trip))
    seen, amount = quote(scene, trip)
    done = f"The trip would cost {amount} EUR in total."
    tell_amount(scene, "quote_trip", amount, done, other_prices(seen, fare_ids(trip)))
