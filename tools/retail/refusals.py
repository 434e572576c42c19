"""Requests the policy forbids: one function a rule, each ends in the recorded reason and an unchanged shop."""

from __future__ import annotations

from awpo_tools.retail import phrases
from awpo_tools.retail.actions import add_coupon
from awpo_tools.retail.backend import REFUND_LIMIT_CENTS, RETURN_DAYS, money
from awpo_tools.retail.catalogue import CITIES
from awpo_tools.retail.desk import Desk
from awpo_tools.retail.world import Row


def decline(desk: Desk) -> None:
    """The user asks for something that one rule of the policy forbids."""
    desk.world.pick(_REFUSALS)(desk)


def _cancel_too_late(desk: Desk) -> None:
    order, item = desk.order(desk.world.pick(("shipped", "delivered")))
    words = _ask_to_cancel(desk, desk.order_words(order, item))
    desk.list_orders(words)
    _refuse(desk, order, "cancel_order", "not_pending", f"is {order['status']} and only pending orders are cancelled")


def _address_too_late(desk: Desk) -> None:
    order, item = desk.order(desk.world.pick(("shipped", "delivered")))
    place = f"{desk.world.new_street()}, {desk.world.pick(CITIES)}, {desk.world.new_zip()}"
    words = desk.order_words(order, item)
    desk.say(phrases.ADDRESS_MESSAGES, order=words, address=place)
    desk.list_orders(words)
    _refuse(
        desk,
        order,
        "change_address",
        "not_pending",
        f"is {order['status']} and only pending orders can be sent elsewhere",
    )


def _coupon_too_late(desk: Desk) -> None:
    order, item = desk.order(desk.world.pick(("shipped", "delivered")))
    code = add_coupon(desk, 20, days_left=30)
    words = desk.order_words(order, item)
    desk.say(phrases.COUPON_MESSAGES, order=words, code=code)
    desk.list_orders(words)
    _refuse(desk, order, "apply_coupon", "not_pending", f"is {order['status']} and only pending orders take a coupon")


def _refund_too_early(desk: Desk) -> None:
    order, item = desk.order(desk.world.pick(("pending", "shipped")))
    words = _ask_to_refund(desk, desk.item_words(order, item))
    desk.list_orders(words)
    _refuse(desk, order, "refund_item", "not_delivered", f"is {order['status']} and only delivered items are refunded")


def _refund_too_old(desk: Desk) -> None:
    days = RETURN_DAYS + 1 + desk.world.below(30)
    order, item = desk.order("delivered", days)
    words = _ask_to_refund(desk, desk.item_words(order, item))
    desk.read_order(order, item, words, "its delivery day")
    _refuse(desk, order, "refund_item", "too_old", f"was delivered {days} days ago and the limit is {RETURN_DAYS}")


def _refund_too_dear(desk: Desk) -> None:
    order, item = desk.order("delivered")
    item["price_cents"] = desk.world.new_cents(REFUND_LIMIT_CENTS + 100, 2 * REFUND_LIMIT_CENTS)
    words = _ask_to_refund(desk, desk.item_words(order, item))
    desk.read_order(order, item, words, "its price")
    cost, limit = money(item["price_cents"]), money(REFUND_LIMIT_CENTS)
    _refuse(desk, order, "refund_item", "over_limit", f"has an item for {cost} and the limit is {limit}")


def _exchange_too_old(desk: Desk) -> None:
    days = RETURN_DAYS + 1 + desk.world.below(30)
    order, item = desk.order("delivered", days)
    option = desk.variants_of(item)[1][0]["option"]
    words = desk.item_words(order, item)
    desk.say(phrases.EXCHANGE_MESSAGES, item=words, option=option)
    desk.read_order(order, item, words, "its delivery day")
    _refuse(desk, order, "exchange_item", "too_old", f"was delivered {days} days ago and the limit is {RETURN_DAYS}")


def _exchange_out_of_stock(desk: Desk) -> None:
    order, item = desk.order("delivered")
    variant = desk.world.pick(desk.variants_of(item)[1])
    variant["stock"] = 0
    words = desk.item_words(order, item)
    desk.say(phrases.EXCHANGE_MESSAGES, item=words, option=variant["option"])
    desk.read_order(order, item, words, "its variant and delivery day")
    desk.read_product(item, "the list of variants")
    desk.call(
        f"The {variant['option']} {item['name']} is variant {variant['variant_id']}; its stock is missing, so call "
        "check_stock.",
        "check_stock",
        variant_id=variant["variant_id"],
    )
    _refuse(
        desk, order, "exchange_item", "out_of_stock", f"needs variant {variant['variant_id']}, which has 0 in stock"
    )


def _order_of_a_stranger(desk: Desk) -> None:
    order, _ = desk.order("pending", customer=desk.stranger)
    words = _ask_to_cancel(desk, f"order {order['order_id']}")
    desk.list_orders(words)
    _refuse(desk, order, "cancel_order", "not_owner", f"is not among the orders of customer {desk.customer_id}")


def _coupon_expired(desk: Desk) -> None:
    order, item = desk.order("pending")
    code = add_coupon(desk, 20, days_left=-1 - desk.world.below(60))
    words = desk.order_words(order, item)
    desk.say(phrases.COUPON_MESSAGES, order=words, code=code)
    desk.read_order(order, item, words, "whether it has a coupon")
    desk.call(
        f"Order {order['order_id']} has no coupon yet; whether {code} is expired is missing, so call check_coupon.",
        "check_coupon",
        code=code,
    )
    _refuse(desk, order, "apply_coupon", "coupon_expired", f"cannot take {code}, which is expired")


def _coupon_used(desk: Desk) -> None:
    order, item = desk.order("pending")
    order["coupon"] = used = add_coupon(desk, 10, days_left=30)
    code = add_coupon(desk, 25, days_left=30)
    words = desk.order_words(order, item)
    desk.say(phrases.COUPON_MESSAGES, order=words, code=code)
    desk.read_order(order, item, words, "whether it has a coupon")
    _refuse(desk, order, "apply_coupon", "coupon_used", f"already has the coupon {used} and takes only one")


_REFUSALS = (
    _cancel_too_late,
    _address_too_late,
    _coupon_too_late,
    _refund_too_early,
    _refund_too_old,
    _refund_too_dear,
    _exchange_too_old,
    _exchange_out_of_stock,
    _order_of_a_stranger,
    _coupon_expired,
    _coupon_used,
)


def _ask_to_cancel(desk: Desk, words: str) -> str:
    desk.say(phrases.CANCEL_MESSAGES, order=words, why=desk.world.reason(phrases.CANCEL_REASONS)[1])
    return words


def _ask_to_refund(desk: Desk, words: str) -> str:
    desk.say(phrases.REFUND_MESSAGES, item=words, why=desk.world.reason(phrases.REFUND_REASONS)[1])
    return words


def _refuse(desk: Desk, order: Row, forbidden_tool: str, reason: str, because: str) -> None:
    """Record why the order's request is declined and tell the user; the tool that would do it stays on show."""
    order_id = order["order_id"]
    desk.used_tools.add(forbidden_tool)
    desk.call(
        f"Order {order_id} {because}, so call decline_request with reason {reason}.",
        "decline_request",
        order_id=order_id,
        reason=reason,
    )
    desk.tell(
        f"The request for order {order_id} is declined with {reason}, so tell the user why.",
        f"Sorry, I cannot do that: order {order_id} {because}.",
    )
