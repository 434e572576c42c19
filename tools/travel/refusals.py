"""Kinds of tasks in which a rule of the desk forbids what the user asks for, or no tool does it."""

from __future__ import annotations

from awpo_env.types import ToolCall

from .bookings import ask_for
from .changes import BAGS, CANCEL, CHANGE, LOYALTY
from .scene import LEAST_CHANGE_MINUTES, Scene
from .steps import Play, booking_words, find_booking, look_up, names_of, read_booking, refuse, travellers
from .trips import Trip, any_trip, connecting_flights, named_trip, new_route, search, wish_words
from .words import FARES

MOST_BAGS = 3
SERVICES = {
    "hotel": ("a hotel room", "hotels"),
    "car": ("a rental car", "rental cars"),
    "visa": ("a visa", "visas"),
    "insurance": ("travel insurance", "insurance"),
    "pet": ("a place for my dog on the plane", "pets"),
}


def non_refundable(scene: Scene) -> Play:
    """A fare of the booking is not refundable."""
    booking = scene.add_booking(scene.new_party(), is_refundable=False)
    yield
    words = booking_words(scene, booking)
    scene.asks(CANCEL, words)
    read_booking(scene, booking, words, "cancel_booking")
    number = booking["booking_id"]
    grounds = f"get_booking shows a fare of {number} as not refundable"
    refuse(scene, "cancel", "non_refundable", grounds, f"I cannot cancel {number}: its fare is not refundable.")


def not_changeable(scene: Scene) -> Play:
    """A fare of the booking allows no changes."""
    party = scene.new_party()
    booking = scene.add_booking(party, is_changeable=False)
    trip = any_trip(scene, (scene.home, scene.destination_of(booking), scene.new_day(), party))
    yield
    words = booking_words(scene, booking)
    scene.asks(CHANGE, words, trip.day, wish_words(trip))
    read_booking(scene, booking, words, "change_booking")
    number = booking["booking_id"]
    grounds = f"get_booking shows null as change fee of a fare of {number}"
    refuse(scene, "change", "not_changeable", grounds, f"I cannot change {number}: its fare allows no changes.")


def too_late(scene: Scene) -> Play:
    """The trip leaves today or tomorrow."""
    booking = scene.add_booking(scene.new_party(), day=scene.day(scene.below(2)), is_refundable=True)
    yield
    words = booking_words(scene, booking)
    scene.asks(CANCEL, words)
    read = read_booking(scene, booking, words, "cancel_booking")
    number, days = booking["booking_id"], read["days_until_departure"]
    grounds = f"get_booking shows that {number} leaves in {days} days, but 2 are needed to cancel"
    refuse(scene, "cancel", "too_late", grounds, f"I cannot cancel {number} any more: it leaves in less than 2 days.")


def not_on_booking(scene: Scene) -> Play:
    """The booking is somebody else's."""
    stranger = scene.new_person(30 + scene.below(30))
    booking = scene.add_booking([stranger], is_refundable=True)
    yield
    number = booking["booking_id"]
    scene.asks(CANCEL, f"booking {number}")
    find_booking(scene, f"booking {number}", "cancel_booking")
    grounds = f"list_bookings does not have {number} among the bookings of the user"
    refuse(scene, "cancel", "not_on_booking", grounds, f"I cannot cancel {number}: it is not one of your bookings.")


def minor_alone(scene: Scene) -> Play:
    """A child, or two, would travel without an adult."""
    children = [scene.new_person(4 + scene.below(12)) for _ in range(1 + scene.below(2))]
    trip = named_trip(scene, new_route(scene, children))
    yield
    ask_for(scene, trip)
    look_up(scene, [scene.user, *children], [], "decline")
    ages = " and ".join(str(child["age"]) for child in children)
    grounds = f"find_traveller gave age {ages} for {names_of(children)}, under 16 and without an adult"
    refuse(scene, "book", "minor_alone", grounds, "I cannot book that: nobody under 16 may travel without an adult.")


def no_flight(scene: Scene) -> Play:
    """No flight is direct, and every connection is too short."""
    route = new_route(scene)
    connecting_flights(scene, route, [25 + 5 * scene.below(7) for _ in range(2)])
    trip = Trip(*route, "", f"the {scene.pick(FARES)} fare", (), True, (), "")
    yield
    ask_for(scene, trip)
    look_up(scene, trip.party, [trip.origin, trip.destination], "search_flights")
    search(scene, trip)
    grounds = f"search_connections shows no connection with {LEAST_CHANGE_MINUTES} minutes to change"
    told = f"I did not book: no flight goes there on {trip.day}, and every connection leaves too little time to change."
    refuse(scene, "book", "no_flight", grounds, told)


def no_seats(scene: Scene) -> Play:
    """The flight that the user names has fewer seats than travellers."""
    party = [*scene.new_party(), scene.new_person(30 + scene.below(30))]
    trip = named_trip(scene, new_route(scene, party))
    trip.read[0]["seats"] = seats = 1 + scene.below(len(party) - 1)
    yield
    ask_for(scene, trip)
    look_up(scene, party, [trip.origin, trip.destination], "search_flights")
    search(scene, trip)
    number = trip.read[0]["flight_id"]
    grounds = f"search_flights shows seats for {seats} on {number} but {len(party)} travel"
    refuse(scene, "book", "no_seats", grounds, f"I did not book: the seats left on flight {number} are {seats}.")


def too_many_bags(scene: Scene) -> Play:
    """The passenger would have more extra bags than the rules allow."""
    party = scene.new_party()
    booking, passenger = scene.add_booking(party), scene.pick(party)
    has = 1 + scene.below(MOST_BAGS)
    wants = MOST_BAGS + 1 - has + scene.below(2)
    for row in booking["passengers"]:
        row["extra_bags"] = has if row["traveller_id"] == passenger["traveller_id"] else 0
    yield
    words = booking_words(scene, booking)
    scene.asks(BAGS, f"{wants} more bags", travellers(scene, [passenger]), words)
    read_booking(scene, booking, words, "add_bags", [passenger])
    grounds = f"get_booking shows {has} extra bags and {wants} more make over {MOST_BAGS}"
    refuse(scene, "bags", "too_many_bags", grounds, f"I did not add bags: nobody may have more than {MOST_BAGS}.")


def no_service(scene: Scene) -> Play:
    """The user wants what no tool of this desk does."""
    topic = scene.pick(tuple(SERVICES))
    booking = scene.add_booking([scene.user])
    yield
    wanted, noun = SERVICES[topic]
    scene.asks(
        ("I need {} for {}.", "Please book me {} for {}.", "Get me {} for {}."), wanted, booking_words(scene, booking)
    )
    hand_over(scene, topic, f"No tool is about {noun}", f"I cannot do that, as I have no tool for {noun}")


def withheld_tool(scene: Scene) -> Play:
    """The user wants what other desks can do, but the tool for it is not on show."""
    party = scene.new_party()
    booking = scene.add_booking(party, is_refundable=True, is_changeable=True)
    trip = any_trip(scene, (scene.home, scene.destination_of(booking), scene.new_day(), party))
    number = scene.new_loyalty_number()
    words = booking_words(scene, booking)
    topic, tool, messages, wanted = scene.pick(
        (
            ("change", "change_booking", CHANGE, (words, trip.day, wish_words(trip))),
            ("cancel", "cancel_booking", CANCEL, (words,)),
            ("bags", "add_bags", BAGS, ("2 extra bags", "me", words)),
            ("loyalty", "set_loyalty_number", LOYALTY, (f"my loyalty number ({number})", words)),
        )
    )
    scene.hidden.add(tool)
    yield
    scene.asks(messages, *wanted)
    noun = {"change": "changes", "cancel": "cancelling", "bags": "bags", "loyalty": "loyalty numbers"}[topic]
    hand_over(scene, topic, f"No tool on show is for {noun}", f"I cannot do that myself, as I have no tool for {noun}")


def hand_over(scene: Scene, topic: str, grounds: str, told: str) -> None:
    """Hand the user to a person and say so."""
    look_up(scene, [scene.user], [], "hand_over")
    user_id = scene.user["traveller_id"]
    scene.act(
        f"{grounds}, so call hand_over for {user_id} with topic {topic}.",
        ToolCall("hand_over", {"traveller_id": user_id, "topic": topic}),
    )
    scene.tell(
        f"hand_over has the topic {topic}; no tool can do more, so tell the user that a person will.",
        f"{told}; I handed you over to a person for it.",
    )
