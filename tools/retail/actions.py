"""Requests that change something; about a third of them leave out what has to be asked for."""

from __future__ import annotations

from awpo_tools.retail import phrases
from awpo_tools.retail.backend import money
from awpo_tools.retail.catalogue import CITIES, COUPON_WORDS, EMAIL_DOMAINS
from awpo_tools.retail.desk import Desk
from awpo_tools.retail.world import Row

from awpo_env.types import Fact


def cancel(desk: Desk) -> None:
    """The user cancels a pending order."""
    order, item = desk.order("pending")
    words, order_id, name = desk.order_words(order, item), order["order_id"], item["name"]
    reason, why = desk.world.reason(phrases.CANCEL_REASONS)
    if _is_left_out(desk):
        desk.say(phrases.OPEN_CANCEL_MESSAGES, order=words)
        desk.list_orders(words)
        desk.ask(
            f"The {name} order {order_id} is pending and can be cancelled, but the reason is missing, so ask for it.",
            f"Why do you want to cancel your {name} order?",
            phrases.REASON_ANSWERS,
            why=why,
        )
    else:
        desk.say(phrases.CANCEL_MESSAGES, order=words, why=why)
        desk.list_orders(words)
    call_cancel(desk, order, item, reason, why)


def call_cancel(desk: Desk, order: Row, item: Row, reason: str, why: str) -> None:
    """Cancel an order for a reason that is known by now, and tell the user."""
    order_id, name = order["order_id"], item["name"]
    desk.call(
        f"The {name} order {order_id} is pending and the user says {why}, so call cancel_order with reason {reason}.",
        "cancel_order",
        order_id=order_id,
        reason=reason,
    )
    desk.tell(f"Order {order_id} is cancelled now, so tell the user.", f"Your {name} order {order_id} is cancelled.")


def address(desk: Desk) -> None:
    """The user sends a pending order to another street, or to another city."""
    order, item = desk.order("pending")
    words, order_id, name = desk.order_words(order, item), order["order_id"], item["name"]
    place = {"street": desk.world.new_street()}
    if desk.world.below(2):
        place |= {
            "city": desk.world.pick([city for city in CITIES if city != order["city"]]),
            "zip": desk.world.new_zip(),
        }
    written = ", ".join(place.values())
    if _is_left_out(desk):
        desk.say(phrases.OPEN_ADDRESS_MESSAGES, order=words)
        desk.list_orders(words)
        desk.ask(
            f"The {name} order {order_id} is pending, but the new address is missing, so ask for it.",
            f"What is the new address for your {name} order?",
            ("{address}.", "It is {address}.", "Please use {address}."),
            address=written,
        )
    else:
        desk.say(phrases.ADDRESS_MESSAGES, order=words, address=written)
        desk.list_orders(words)
    desk.call(
        f"The {name} order {order_id} is pending and should go to {written}, so call change_address.",
        "change_address",
        order_id=order_id,
        **place,
    )
    desk.tell(f"Order {order_id} now goes to {written}, so tell the user.", f"Your {name} order now goes to {written}.")


def refund(desk: Desk) -> None:
    """The user gets the money back for one item."""
    order, item = desk.order("delivered")
    words, order_id, item_id, name = desk.item_words(order, item), order["order_id"], item["item_id"], item["name"]
    reason, why = desk.world.reason(phrases.REFUND_REASONS)
    paid = money(item["price_cents"])
    if _is_left_out(desk):
        desk.say(phrases.OPEN_REFUND_MESSAGES, item=words)
        desk.read_order(order, item, words, "its price and delivery day")
        desk.ask(
            f"Item {item_id} in order {order_id} can be refunded, but the reason is missing, so ask for it.",
            f"Why do you want a refund for the {name}?",
            phrases.REASON_ANSWERS,
            why=why,
        )
    else:
        desk.say(phrases.REFUND_MESSAGES, item=words, why=why)
        desk.read_order(order, item, words, "its price and delivery day")
    desk.call(
        f"Item {item_id} costs {paid} and came {desk.world.age(order)} days ago; the user says {why}, so call "
        f"refund_item with reason {reason}.",
        "refund_item",
        order_id=order_id,
        item_id=item_id,
        reason=reason,
    )
    desk.tell(
        f"Item {item_id}, the {name}, is refunded now, so tell the user.",
        f"Your {name} is refunded with {paid}.",
    )


def exchange(desk: Desk) -> None:
    """The user swaps an item for another colour."""
    order, item = desk.order("delivered")
    words, order_id, item_id, name = desk.item_words(order, item), order["order_id"], item["item_id"], item["name"]
    _, others = desk.variants_of(item)
    chosen = desk.world.pick(others)
    variant_id, option = chosen["variant_id"], chosen["option"]
    is_left_out = _is_left_out(desk)
    desk.say(phrases.OPEN_EXCHANGE_MESSAGES if is_left_out else phrases.EXCHANGE_MESSAGES, item=words, option=option)
    desk.read_order(order, item, words, "its variant and delivery day")
    desk.read_product(item, "the list of variants")
    if is_left_out:
        options = " or ".join(other["option"] for other in others)
        desk.ask(
            f"The {name} also comes in {options}, but the wanted colour is missing, so ask for it.",
            f"Which colour would you like for your {name}: {options}?",
            ("{option}, please.", "I take {option}.", "In {option}."),
            option=option,
        )
    desk.call(
        f"The {option} {name} is variant {variant_id}; its stock is missing, so call check_stock.",
        "check_stock",
        variant_id=variant_id,
    )
    desk.call(
        f"Variant {variant_id} is in stock with {chosen['stock']} pieces, so call exchange_item for item {item_id}.",
        "exchange_item",
        order_id=order_id,
        item_id=item_id,
        new_variant_id=variant_id,
    )
    desk.tell(
        f"Item {item_id} is exchanged for variant {variant_id}, so tell the user.",
        f"Your {name} is exchanged for the {option} one.",
    )


def coupon(desk: Desk) -> None:
    """The user applies a coupon to a pending order and wants the new total."""
    order, item = desk.order("pending")
    percent = desk.world.pick((10, 15, 20, 25))
    code = add_coupon(desk, percent, days_left=desk.world.below(90))
    words, order_id, name = desk.order_words(order, item), order["order_id"], item["name"]
    prices = [row["price_cents"] for row in desk.world.tables["items"] if row["order_id"] == order_id]
    total = money(sum(prices) * (100 - percent) // 100)
    if _is_left_out(desk):
        desk.say(phrases.OPEN_COUPON_MESSAGES, order=words)
        desk.read_order(order, item, words, "whether it has a coupon")
        desk.ask(
            f"Order {order_id} is pending and has no coupon yet, but the code is missing, so ask for it.",
            "What is the code of your coupon?",
            ("The code is {code}.", "{code}.", "It is {code}."),
            code=code,
        )
    else:
        desk.say(phrases.COUPON_MESSAGES, order=words, code=code)
        desk.read_order(order, item, words, "whether it has a coupon")
    desk.call(
        f"Order {order_id} has no coupon yet; whether {code} is expired is missing, so call check_coupon.",
        "check_coupon",
        code=code,
    )
    desk.call(
        f"Coupon {code} gives {percent} percent and is not expired, so call apply_coupon for order {order_id}.",
        "apply_coupon",
        order_id=order_id,
        code=code,
    )
    desk.tell(
        f"Order {order_id} now costs {total} with coupon {code}, so tell the user.",
        f"With coupon {code} your {name} order costs {total}.",
        Fact(total, (money(sum(prices)),)),
    )


def email(desk: Desk) -> None:
    """The user has a new email."""
    new = f"{desk.customer['email'].split('@')[0]}@{desk.world.pick(EMAIL_DOMAINS[2:])}"
    if _is_left_out(desk):
        desk.say(phrases.OPEN_EMAIL_MESSAGES)
        desk.identify()
        desk.ask(
            f"The customer is {desk.customer_id}, but the new email is missing, so ask for it.",
            "What is your new email?",
            ("It is {email}.", "{email}.", "The new one is {email}."),
            email=new,
        )
    else:
        desk.say(phrases.EMAIL_MESSAGES, email=new)
        desk.identify()
    desk.call(
        f"The customer is {desk.customer_id} and the new email is {new}, so call update_email.",
        "update_email",
        customer_id=desk.customer_id,
        new_email=new,
    )
    desk.tell(f"The email of {desk.customer_id} is now {new}, so tell the user.", f"Your email is now {new}.")


def newsletter(desk: Desk) -> None:
    """The user wants the newsletter, or wants it no more."""
    subscribed = bool(desk.world.below(2))
    desk.customer["newsletter"] = int(not subscribed)
    desk.say(phrases.SUBSCRIBE_MESSAGES if subscribed else phrases.UNSUBSCRIBE_MESSAGES)
    desk.identify()
    wish = "wants the newsletter" if subscribed else "does not want the newsletter any more"
    desk.call(
        f"Customer {desk.customer_id} {wish}, so call set_newsletter with {str(subscribed).lower()}.",
        "set_newsletter",
        customer_id=desk.customer_id,
        subscribed=subscribed,
    )
    desk.tell(
        f"The newsletter of {desk.customer_id} is set to {str(subscribed).lower()}, so tell the user.",
        "You will get our newsletter." if subscribed else "You will not get our newsletter any more.",
    )


def handover(desk: Desk) -> None:
    """The user asks for a person."""
    topic, about = desk.world.reason(phrases.TOPICS)
    desk.say(phrases.HANDOVER_MESSAGES, about=about)
    desk.identify()
    desk.call(
        f"Customer {desk.customer_id} wants a person and says {about}, so call transfer_to_human with topic {topic}.",
        "transfer_to_human",
        customer_id=desk.customer_id,
        topic=topic,
    )
    desk.tell(
        f"Customer {desk.customer_id} is handed over with topic {topic}, so tell the user.",
        "A person will take over from here.",
    )


def add_coupon(desk: Desk, percent: int, days_left: int) -> str:
    """Add a coupon that expires in some days (negative: has expired), and return its code."""
    code = desk.world.unused([f"{word}{percent}" for word in COUPON_WORDS])
    desk.world.add("coupons", code=code, percent=percent, expires_on=desk.world.day(days_left))
    return code


def _is_left_out(desk: Desk) -> bool:
    return desk.world.below(3) == 0
