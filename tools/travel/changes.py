"""Kinds of tasks about bookings that exist: change, upgrade, cancel, bags, loyalty numbers, and which one is meant."""

from __future__ import annotations

from awpo_tools.rehearsal import listed

from awpo_env.types import JSON, ToolCall

from .backend import Row
from .scene import Scene
from .steps import Play, booking_words, find_booking, read_booking, tell_amount, travellers
from .trips import Trip, any_trip, fare_ids, find_fares, other_prices, wish_words
from .words import FARES

CHANGE = ("Move {} to {}, {}.", "Please change {} to {}, {}.", "I want {} moved to {}, {}.")
CANCEL = ("Cancel {}.", "Please cancel {} and give me the money back.", "I do not need {} any more, cancel it.")
UPGRADE = ("Put {} in the {} fare, same flight times.", "I want the {1} fare for {0}.")
BAGS = ("Add {} for {} to {}.", "Please add {} for {} to {}.", "I want to add {} for {} to {}.")
LOYALTY = ("Put {} on {}.", "Please put {} on {}.")


def change(scene: Scene) -> Play:
    """A trip is moved to another day."""
    party = scene.new_party()
    booking = scene.add_booking(party, is_changeable=True)
    trip = any_trip(scene, (scene.home, scene.destination_of(booking), scene.new_day(), party))
    yield
    words = booking_words(scene, booking)
    scene.asks(CHANGE, words, trip.day, wish_words(trip))
    serve_change(scene, booking, words, trip)


def serve_change(scene: Scene, booking: Row, words: str, trip: Trip) -> None:
    """Read a booking, find the fares of the new trip, change and tell."""
    read_booking(scene, booking, words, "change_booking")
    call_change(scene, booking, fare_ids(trip), trip.wish, find_fares(scene, trip))


def call_change(scene: Scene, booking: Row, fares: list[str], wish: str, seen: list[JSON]) -> None:
    """Give a booking some of the fares that were listed, and tell what that costs."""
    booking_id = booking["booking_id"]
    (result,) = scene.act(
        f"{booking_id} can be changed to {listed(fares)} for {wish}, so call change_booking; the charge is missing.",
        ToolCall("change_booking", {"booking_id": booking_id, "fare_ids": fares}),
    )
    done = f"Booking {booking_id} is changed; that costs {result['charged']} EUR."
    tell_amount(scene, "change_booking", result["charged"], done, other_prices(seen, [*fares, *booking["fare_ids"]]))


def upgrade(scene: Scene) -> Play:
    """A booking gets another fare on the same flights."""
    booking = scene.add_booking(scene.new_party(), is_changeable=True)
    old = scene.fares_in(booking)[0]["name"]
    name = scene.pick([name for name in FARES if name != old])
    yield
    words = booking_words(scene, booking)
    scene.asks(UPGRADE, words, name)
    read = read_booking(scene, booking, words, "change_booking")
    ids = [flight["flight_id"] for flight in read["flights"]]
    results = scene.act(
        f"{booking['booking_id']} has a change fee; the number of the {name} fare is missing, so call list_fares for "
        f"{listed(ids)}.",
        *(ToolCall("list_fares", {"flight_id": each}) for each in ids),
    )
    seen = [fare for result in results for fare in result["fares"]]
    fares = [fare["fare_id"] for fare in seen if fare["name"] == name]
    call_change(scene, booking, fares, f"the {name} fare", seen)


def cancel(scene: Scene) -> Play:
    """A refundable trip is given back."""
    booking = scene.add_booking(scene.new_party(), is_refundable=True)
    yield
    words = booking_words(scene, booking)
    scene.asks(CANCEL, words)
    serve_cancel(scene, booking, words)


def serve_cancel(scene: Scene, booking: Row, words: str) -> None:
    """Read a booking, cancel it and tell."""
    read = read_booking(scene, booking, words, "cancel_booking")
    grounds = f"{booking['booking_id']} is refundable and leaves in {read['days_until_departure']} days"
    fees = [flight["fare"]["change_fee"] or 0 for flight in read["flights"]]
    call_cancel(scene, booking["booking_id"], grounds, fees)


def call_cancel(scene: Scene, booking_id: str, grounds: str, others: list[int]) -> None:
    """Cancel a booking and tell what is refunded; `others` are amounts it is not."""
    (result,) = scene.act(
        f"{grounds}, so call cancel_booking for {booking_id}; what is refunded is missing.",
        ToolCall("cancel_booking", {"booking_id": booking_id}),
    )
    done = f"Booking {booking_id} is cancelled; {result['refunded']} EUR are refunded."
    tell_amount(scene, "cancel_booking", result["refunded"], done, others)


def bags(scene: Scene) -> Play:
    """Somebody takes more bags along."""
    party = scene.new_party()
    booking, passenger, count = scene.add_booking(party), scene.pick(party), 1 + scene.below(2)
    yield
    words = booking_words(scene, booking)
    scene.asks(BAGS, bags_words(count), travellers(scene, [passenger]), words)
    serve_bags(scene, booking, words, passenger, count)


def bags_words(count: int) -> str:
    """Return how the user speaks of so many bags."""
    return f"{count} extra {'bag' if count == 1 else 'bags'}"


def serve_bags(scene: Scene, booking: Row, words: str, passenger: Row, count: int) -> None:
    """Read a booking, add bags and tell."""
    read = read_booking(scene, booking, words, "add_bags", [passenger])
    call_bags(scene, booking["booking_id"], passenger, count, [read["paid"]])


def call_bags(scene: Scene, booking_id: str, passenger: Row, count: int, others: list[int]) -> None:
    """Add bags and tell what they cost; `others` are amounts it is not."""
    traveller_id = passenger["traveller_id"]
    (result,) = scene.act(
        f"{traveller_id} may have {count} more on {booking_id}, so call add_bags with {count}; the charge is missing.",
        ToolCall("add_bags", {"booking_id": booking_id, "traveller_id": traveller_id, "bags": count}),
    )
    done = f"The bags are added to {booking_id}; they cost {result['charged']} EUR."
    tell_amount(scene, "add_bags", result["charged"], done, others)


def loyalty(scene: Scene) -> Play:
    """A loyalty number goes on a booking: the user says it, it is on file, or it has to be asked for."""
    source = scene.pick(("said", "on file", "asked"))
    passenger = scene.pick((scene.user, scene.new_person(30 + scene.below(30))))
    booking = scene.add_booking([scene.user, passenger] if passenger is not scene.user else [scene.user])
    passenger["loyalty_number"] = on_file = scene.new_loyalty_number() if source == "on file" else None
    number = on_file or scene.new_loyalty_number()
    yield
    words = booking_words(scene, booking)
    whose = "my loyalty number" if passenger is scene.user else f"the loyalty number of {passenger['name']}"
    scene.asks(LOYALTY, f"{whose} ({number})" if source == "said" else whose, words)
    find_booking(scene, words, "set_loyalty_number", [passenger])
    if source == "asked":
        scene.tell(
            f"No loyalty number is on file for {passenger['traveller_id']} and set_loyalty_number needs it, so ask.",
            "There is no loyalty number on file. Which loyalty number is it?",
        )
        scene.asks(["It is {}."], number)
    call_loyalty(scene, booking["booking_id"], passenger, number)


def call_loyalty(scene: Scene, booking_id: str, passenger: Row, number: str) -> None:
    """Put a loyalty number on a booking and say so."""
    traveller_id = passenger["traveller_id"]
    scene.act(
        f"{booking_id} lacks {number} of {traveller_id}, so call set_loyalty_number with these.",
        ToolCall(
            "set_loyalty_number", {"booking_id": booking_id, "traveller_id": traveller_id, "loyalty_number": number}
        ),
    )
    scene.tell(
        f"set_loyalty_number gave {booking_id} with {number} without an error, so tell the user.",
        f"The loyalty number {number} is on booking {booking_id} now.",
    )


def which(scene: Scene) -> Play:
    """Two trips fit the user's words, so the assistant has to ask which one is meant."""
    party = [scene.user]
    booking = scene.add_booking(party, is_refundable=True)
    destination = scene.destination_of(booking)
    other = scene.add_booking(party, destination, is_refundable=True)
    yield
    words = f"my trip to {scene.place(destination)}"
    scene.asks(CANCEL, words)
    find_booking(scene, words, "cancel_booking")
    ids = sorted((booking["booking_id"], other["booking_id"]))
    scene.tell(
        f"Both {listed(ids)} go to {scene.place(destination)}; which booking to cancel is missing, so ask.",
        f"Do you want to cancel {' or '.join(ids)}?",
    )
    day = scene.flights_in(booking)[0]["date"]
    scene.asks(("I mean {}.", "{}, please."), scene.pick((booking["booking_id"], f"the one on {day}")))
    serve_cancel(scene, booking, words)


def missing_detail(scene: Scene) -> Play:
    """The new day or the number of bags has to be asked for before anything is called."""
    yield from scene.pick((_missing_day, _missing_bags))(scene)


def _missing_bags(scene: Scene) -> Play:
    party = scene.new_party()
    booking, passenger, count = scene.add_booking(party), scene.pick(party), 1 + scene.below(2)
    yield
    words = booking_words(scene, booking)
    scene.asks(BAGS, "some extra bags", travellers(scene, [passenger]), words)
    scene.tell(
        "The number of extra bags is missing and add_bags needs it, so ask instead of guessing.",
        "How many extra bags do you want?",
    )
    scene.asks(["{}, please."], count)
    serve_bags(scene, booking, words, passenger, count)


def _missing_day(scene: Scene) -> Play:
    party = scene.new_party()
    booking = scene.add_booking(party, is_changeable=True)
    trip = any_trip(scene, (scene.home, scene.destination_of(booking), scene.new_day(), party))
    yield
    words = booking_words(scene, booking)
    scene.asks(CHANGE, words, "another day", wish_words(trip))
    scene.tell(
        "The new day of the trip is missing and search_flights needs it, so ask instead of guessing.",
        "To which new day do you want to change the trip?",
    )
    scene.asks(("To {}.", "{}, please."), trip.day)
    serve_change(scene, booking, words, trip)
