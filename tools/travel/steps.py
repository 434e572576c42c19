"""Steps that the references of several kinds share: look up, find a booking, refuse, confirm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from awpo_tools.rehearsal import listed

from awpo_env.types import JSON, Fact, ToolCall

from .backend import Row
from .scene import Scene

Play = Iterator[None]
"""A request of the user: what comes before its one `yield` sets the stage, what comes after it plays the turns."""


def names_of(people: Iterable[Row]) -> str:
    """Return the names of people as one reads them."""
    return listed([person["name"] for person in people])


def ids_of(people: Iterable[Row]) -> list[str]:
    """Return the ids of people."""
    return [person["traveller_id"] for person in people]


def travellers(scene: Scene, party: Sequence[Row]) -> str:
    """Return how the user names those who travel."""
    return listed(["me" if person is scene.user else person["name"] for person in party])


def look_up(scene: Scene, people: Sequence[Row], airports: Sequence[Row], wanted: str) -> None:
    """Find the ids of people and the codes of airports that are not known yet; `wanted` names who needs them."""
    airports = [] if scene.level.speaks_codes else airports
    names = list(dict.fromkeys(person["name"] for person in people if person["name"] not in scene.seen))
    cities = [airport["city"] for airport in airports if airport["city"] not in scene.seen]
    scene.seen.update(names, cities)
    calls = [ToolCall("find_traveller", {"name": name}) for name in names]
    calls += [ToolCall("find_airport", {"city": city}) for city in cities]
    if calls:
        tools = [f"find_traveller for {listed(names)}"] if names else []
        tools += [f"find_airport for {listed(cities)}"] if cities else []
        scene.act(f"What {wanted} needs is missing, so call {' and '.join(tools)}.", *calls)


def booking_words(scene: Scene, booking: Row) -> str:
    """Return how the user names a booking: by its number, or by where it goes and when."""
    flights = scene.flights_in(booking)
    words = f"my trip to {scene.place(scene.destination_of(booking))} on {flights[0]['date']}"
    return scene.pick((f"booking {booking['booking_id']}", words, words))


def find_booking(scene: Scene, words: str, wanted: str, others: Sequence[Row] = ()) -> None:
    """Identify the user and `others` and list the user's bookings, as far as that is not done."""
    look_up(scene, [scene.user, *others], [], "list_bookings")
    if "bookings" not in scene.seen:
        scene.seen.add("bookings")
        user_id = scene.user["traveller_id"]
        scene.act(
            f"The user is {user_id}; {words.replace('my', 'the')} is to be found for {wanted}, so call list_bookings.",
            ToolCall("list_bookings", {"traveller_id": user_id}),
        )


def read_booking(scene: Scene, booking: Row, words: str, wanted: str, others: Sequence[Row] = ()) -> JSON:
    """Find a booking and read it; `wanted` names what is then done with it. Return what was read."""
    find_booking(scene, words, wanted, others)
    booking_id = booking["booking_id"]
    (read,) = scene.act(
        f"list_bookings has {booking_id}; its fares and passengers are missing for {wanted}, so call get_booking.",
        ToolCall("get_booking", {"booking_id": booking_id}),
    )
    return read


def refuse(scene: Scene, request: str, reason: str, grounds: str, told: str) -> None:
    """Decline a request and tell the user why."""
    look_up(scene, [scene.user], [], "decline")
    user_id = scene.user["traveller_id"]
    scene.act(
        f"{grounds}, so call decline for {user_id} with request {request} and reason {reason}.",
        ToolCall("decline", {"traveller_id": user_id, "request": request, "reason": reason}),
    )
    scene.tell(f"decline has {reason} for request {request}; nothing else may change, so tell the user why.", told)


def tell_amount(scene: Scene, tool: str, amount: int, done: str, others: Iterable[int]) -> None:
    """Tell the user that something was done and what it costs or gives back; `others` are amounts it is not."""
    fact = Fact(str(amount), tuple(str(other) for other in sorted({*others} - {amount, 0})))
    scene.tell(f"{tool} gave {amount} EUR without an error, so tell the user that amount.", done, fact)
