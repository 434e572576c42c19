"""Longer tasks: a trip is booked and then the user wants more of it, or needs a tool that comes late."""

from __future__ import annotations

from awpo_tools.rehearsal import listed

from awpo_env.types import ToolCall

from . import changes, questions
from .bookings import ask_for
from .changes import call_bags, call_cancel, call_loyalty
from .scene import Scene, price
from .steps import Play, refuse, tell_amount
from .trips import Trip, any_trip, fare_ids, new_route, serve


def follow_up(scene: Scene) -> Play:
    """The user wants a trip; then bags or a loyalty number for it, the rest of the budget, or not to go after all."""
    trip, then = any_trip(scene, new_route(scene)), scene.pick((_bags, _loyalty, _cancel, _budget))
    yield
    ask_for(scene, trip)
    then(scene, trip, serve(scene, trip))


def late_tool(scene: Scene) -> Play:
    """After a question the user asks for something whose tool becomes available only then."""
    tool, request = scene.pick(
        (("cancel_booking", changes.cancel), ("add_bags", changes.bags), ("set_loyalty_number", changes.loyalty))
    )
    plays = [questions.times(scene), request(scene)]
    scene.hidden.add(tool)
    for play in plays:
        next(play)
    yield
    next(plays[0], None)
    scene.unlocked = (tool,)
    next(plays[1], None)


def _bags(scene: Scene, trip: Trip, booking_id: str) -> None:
    count = 1 + scene.below(2)
    scene.asks(changes.BAGS, changes.bags_words(count), "me", "that booking")
    call_bags(scene, booking_id, scene.user, count, [price(trip.fares, trip.party)])


def _loyalty(scene: Scene, trip: Trip, booking_id: str) -> None:
    number = scene.new_loyalty_number()
    scene.asks(changes.LOYALTY, f"my loyalty number ({number})", "that booking")
    call_loyalty(scene, booking_id, scene.user, number)


def _cancel(scene: Scene, trip: Trip, booking_id: str) -> None:
    scene.asks(changes.CANCEL, "that booking")
    fares = listed(fare_ids(trip))
    if all(fare["refundable"] for fare in trip.fares):
        grounds = f"list_fares shows {fares} as refundable"
        call_cancel(scene, booking_id, grounds, [fare["change_fee"] or 0 for fare in trip.fares])
    else:
        told = f"I cannot cancel {booking_id}: its fare is not refundable."
        refuse(scene, "cancel", "non_refundable", f"list_fares shows that {fares} is not refundable", told)


def _budget(scene: Scene, trip: Trip, booking_id: str) -> None:
    scene.asks(["How much of my budget is left now?"])
    user_id = scene.user["traveller_id"]
    (result,) = scene.act(
        f"The budget left after {booking_id} is missing, so call get_budget for {user_id}.",
        ToolCall("get_budget", {"traveller_id": user_id}),
    )
    budget = result["budget"]
    tell_amount(scene, "get_budget", budget, f"Your budget is {budget} EUR now.", [scene.user["budget"]])
