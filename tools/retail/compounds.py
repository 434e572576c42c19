"""Longer tasks: several requests, calls side by side, a choice to offer, an error to get over, a tool that is late."""

from __future__ import annotations

from collections.abc import Callable

from awpo_tools.retail import actions, phrases, questions, refusals
from awpo_tools.retail.desk import Desk
from awpo_tools.retail.world import Row

from awpo_env.types import Fact, ToolCall

Request = Callable[[Desk], None]

QUESTIONS: tuple[Request, ...] = (questions.order_status, questions.track, questions.price)
ACTIONS: dict[str, Request] = {
    "cancel_order": actions.cancel,
    "change_address": actions.address,
    "refund_item": actions.refund,
    "exchange_item": actions.exchange,
    "apply_coupon": actions.coupon,
}
ERRANDS: tuple[Request, ...] = (
    *QUESTIONS,
    *ACTIONS.values(),
    questions.stock,
    actions.email,
    actions.newsletter,
    refusals.decline,
)


def choose(desk: Desk) -> None:
    """Two pending orders fit the user's words, so the assistant has to ask which one is meant."""
    order, item = desk.order("pending")
    name, order_id = item["name"], order["order_id"]
    other_id = desk.order("pending", name=name)[0]["order_id"]
    reason, why = desk.world.reason(phrases.CANCEL_REASONS)
    words = f"my {name} order"
    desk.say(phrases.CANCEL_MESSAGES, order=words, why=why)
    desk.list_orders(words)
    low, high = sorted((order_id, other_id))
    desk.ask(
        f"Both {low} and {high} are pending orders with a {name}; which one is meant is missing, so ask.",
        f"Do you mean order {low} or order {high}?",
        ("{order_id}.", "I mean {order_id}.", "Order {order_id}, please."),
        order_id=order_id,
    )
    actions.call_cancel(desk, order, item, reason, why)


def recover(desk: Desk) -> None:
    """The user's email is unknown: the assistant reads the error, asks for name and zip, and goes on from there."""
    desk.world.pick(tuple(ACTIONS.values()))(desk)


def late_tool(desk: Desk) -> None:
    """After a question the user asks for something whose tool becomes available only then."""
    desk.world.pick(QUESTIONS)(desk)
    tool = desk.world.pick(tuple(ACTIONS))
    desk.unlocked = (tool,)
    ACTIONS[tool](desk)


def errands(desk: Desk) -> None:
    """Three or four turns with one request after the other."""
    requests = list(ERRANDS)
    while len(desk.turns) < 3:
        desk.world.pop(requests)(desk)


def parallel(desk: Desk) -> None:
    """Two things that do not need each other's results are done in one message."""
    desk.world.pick((_cancel_both, _refund_both, _track_both))(desk)


def _cancel_both(desk: Desk) -> None:
    (one, one_item), (two, two_item) = desk.order("pending"), desk.order("pending")
    names, ids = _pair(one_item, two_item, "name"), _pair(one, two, "order_id")
    reason, why = desk.world.reason(phrases.CANCEL_BOTH_REASONS)
    desk.say(phrases.CANCEL_MESSAGES, order=f"my {names} orders", why=why)
    desk.list_orders(f"the {names}")
    desk.call_all(
        f"Orders {ids} are pending and the user says {why}, so call cancel_order twice with reason {reason}.",
        *(ToolCall("cancel_order", {"order_id": order["order_id"], "reason": reason}) for order in (one, two)),
    )
    desk.tell(f"Orders {ids} are cancelled now, so tell the user.", f"Your {names} orders are cancelled.")


def _refund_both(desk: Desk) -> None:
    order, item = desk.order("delivered")
    other = desk.item(order)
    names, ids, order_id = _pair(item, other, "name"), _pair(item, other, "item_id"), order["order_id"]
    reason, why = desk.world.reason(phrases.REFUND_BOTH_REASONS)
    words = f"the {names} from order {order_id}"
    desk.say(phrases.REFUND_MESSAGES, item=words, why=why)
    desk.read_order(order, item, words, "the prices and the delivery day")
    desk.call_all(
        f"Items {ids} came {desk.world.age(order)} days ago; the user says {why}, so call refund_item twice, "
        f"reason {reason}.",
        *(
            ToolCall("refund_item", {"order_id": order_id, "item_id": row["item_id"], "reason": reason})
            for row in (item, other)
        ),
    )
    desk.tell(f"Items {ids} are refunded now, so tell the user.", f"Your {names} are refunded.")


def _track_both(desk: Desk) -> None:
    (one, one_item), (two, two_item) = desk.order("shipped"), desk.order("shipped")
    names, ids = _pair(one_item, two_item, "name"), _pair(one, two, "order_id")
    days = {row["order_id"]: row["expected_on"] for row in desk.world.tables["shipments"]}
    expected = [days.pop(order["order_id"]) for order in (one, two)]
    desk.say(phrases.TRACK_MESSAGES["expected_on"], order=f"my {names} order")
    desk.list_orders(f"the {names}")
    desk.call_all(
        f"Orders {ids} are shipped; their arrival days are missing, so call track_shipment for both.",
        *(ToolCall("track_shipment", {"order_id": order["order_id"]}) for order in (one, two)),
    )
    desk.tell(
        f"The tracking gives {expected[0]} and {expected[1]} for orders {ids}, so tell the user.",
        f"Your {one_item['name']} is expected on {expected[0]}, your {two_item['name']} on {expected[1]}.",
        *(Fact(day, tuple(days.values())) for day in expected),
    )


def _pair(one: Row, two: Row, key: str) -> str:
    return f"{one[key]} and {two[key]}"
