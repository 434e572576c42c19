"""The five short kinds of task a model of less than a million parameters can learn on a CPU."""

from __future__ import annotations

from awpo_tools.retail.catalogue import PRODUCTS, STATUSES
from awpo_tools.retail.script import Script
from awpo_tools.retail.world import Row, World

from awpo_env.types import Fact

POLICY = (
    "Find the customer by email, then list the orders with the item. Only pending orders can be cancelled or get a new "
    "street, else decline with not_pending. Only delivered items are refunded, else decline with not_delivered. "
    "Ask for a missing street. Tell the result."
)
TOOLS = ("find_customer", "list_orders", "cancel_order", "change_address", "refund_item", "decline_request")

STATUS_MESSAGES = (
    "Hi, I am {email}. What is the status of my {product} order?",
    "I am {email}. How far is my {product} order?",
    "What happens with my {product} order? My email is {email}.",
    "Please check the status of my {product} order. I am {email}.",
    "Any news on my {product} order? I am {email}.",
)
CANCEL_MESSAGES = (
    "Please cancel my {product} order, {why}. I am {email}.",
    "I am {email}. Cancel my {product} order, {why}.",
    "Hi, I am {email}. I want to cancel my {product} order, {why}.",
    "Can you cancel my {product} order? My email is {email}, {why}.",
)
ADDRESS_MESSAGES = (
    "Please send my {product} order to {street}. I am {email}.",
    "I am {email}. Send my {product} order to {street}.",
    "My {product} order should go to {street}. My email is {email}.",
    "I moved to {street}. Change the address of my {product} order. I am {email}.",
)
OPEN_ADDRESS_MESSAGES = (
    "Please change the address of my {product} order. I am {email}.",
    "I am {email}. I moved. Change the address of my {product} order.",
    "My {product} order should go to a new address. My email is {email}.",
    "Hi, I am {email}. Send my {product} order to another address.",
)
STREET_MESSAGES = ("It is {street}.", "{street}.", "The new street is {street}.", "Please use {street}.")
REFUND_MESSAGES = (
    "I am {email}. I want a refund for my {product}, {why}.",
    "Please refund my {product}, {why}. I am {email}.",
    "Hi, I am {email}. Refund my {product}, {why}.",
    "Can I get a refund for my {product}? My email is {email}, {why}.",
)
CANCEL_REASONS = {"mistake": "it was a mistake", "delay": "the delay is too long", "price": "the price is too high"}
REFUND_REASONS = {"damaged": "it is damaged", "wrong": "it is the wrong one", "unwanted": "it is unwanted"}


def order_status(world: World, script: Script) -> None:
    """The user asks for the status of one order."""
    product, order, _ = _meant_order(world, STATUSES, other_statuses_differ=True)
    _open(world, script, STATUS_MESSAGES, product)
    status, order_id = order["status"], order["order_id"]
    decoys = {row["status"] for row in world.tables["orders"]} - {status}
    script.tell(
        f"The list shows {product} order {order_id} is {status}, so tell the user.",
        f"Your {product} order {order_id} is {status}.",
        Fact(status, tuple(sorted(decoys))),
    )


def cancel(world: World, script: Script) -> None:
    """The user cancels a pending order."""
    product, order, _ = _meant_order(world, ("pending",))
    order_id, reason = order["order_id"], world.pick(tuple(CANCEL_REASONS))
    _open(world, script, CANCEL_MESSAGES, product, why=CANCEL_REASONS[reason])
    script.call(
        f"The {product} order {order_id} is pending, so call cancel_order with reason {reason}.",
        "cancel_order",
        order_id=order_id,
        reason=reason,
    )
    script.tell(
        f"Order {order_id} is now cancelled, so tell the user.", f"Your {product} order {order_id} is cancelled."
    )


def address(world: World, script: Script) -> None:
    """The user sends a pending order elsewhere; every second one forgets to say where."""
    product, order, _ = _meant_order(world, ("pending",))
    order_id, street = order["order_id"], world.new_street()
    if world.below(2):
        _open(world, script, OPEN_ADDRESS_MESSAGES, product)
        script.tell(
            f"The {product} order {order_id} is pending but the new street is missing, so ask.",
            "What is the new street?",
        )
        script.user(world.pick(STREET_MESSAGES).format(street=street))
    else:
        _open(world, script, ADDRESS_MESSAGES, product, street=street)
    script.call(
        f"The {product} order {order_id} is pending, so call change_address with {street}.",
        "change_address",
        order_id=order_id,
        street=street,
    )
    script.tell(
        f"Order {order_id} now goes to {street}, so tell the user.",
        f"Your {product} order {order_id} goes to {street}.",
    )


def refund(world: World, script: Script) -> None:
    """The user wants the money back for one item of a delivered order."""
    product, order, item = _meant_order(world, ("delivered",))
    order_id, item_id, reason = order["order_id"], item["item_id"], world.pick(tuple(REFUND_REASONS))
    _open(world, script, REFUND_MESSAGES, product, why=REFUND_REASONS[reason])
    script.call(
        f"The {product} is item {item_id} of delivered order {order_id}, so call refund_item with reason {reason}.",
        "refund_item",
        order_id=order_id,
        item_id=item_id,
        reason=reason,
    )
    script.tell(f"Item {item_id} is refunded, so tell the user.", f"Your {product} is refunded.")


def decline(world: World, script: Script) -> None:
    """The user wants a cancellation or a refund that the order's status forbids."""
    if world.below(2):
        product, order, _ = _meant_order(world, ("shipped", "delivered"))
        _open(world, script, CANCEL_MESSAGES, product, why=world.pick(tuple(CANCEL_REASONS.values())))
        reason, told = "not_pending", "cannot be cancelled"
    else:
        product, order, _ = _meant_order(world, ("pending", "shipped"))
        _open(world, script, REFUND_MESSAGES, product, why=world.pick(tuple(REFUND_REASONS.values())))
        reason, told = "not_delivered", "cannot be refunded"
    order_id, status = order["order_id"], order["status"]
    script.call(
        f"The {product} order {order_id} is {status}, so call decline_request with reason {reason}.",
        "decline_request",
        order_id=order_id,
        reason=reason,
    )
    script.tell(
        f"Order {order_id} is {status} and declined, so tell the user.",
        f"Sorry, your {product} {told}, it is {status}.",
    )


KINDS = {kind.__name__: kind for kind in (order_status, cancel, address, refund, decline)}


def _meant_order(world: World, statuses: tuple[str, ...], other_statuses_differ: bool = False) -> tuple[str, Row, Row]:
    """Give the customer two orders of one item; return the product that names one of them, that order and its item."""
    order = world.add_order(world.pick(statuses))
    product = world.unused(PRODUCTS)
    item = world.add_item(order, product)
    other_statuses = [status for status in STATUSES if status != order["status"] or not other_statuses_differ]
    world.add_item(world.add_order(world.pick(other_statuses)), world.unused(PRODUCTS))
    return product, order, item


def _open(world: World, script: Script, messages: tuple[str, ...], product: str, **words: str) -> None:
    """Let the user speak, and look up the customer and the orders."""
    email, customer_id = world.customer["email"], world.customer["customer_id"]
    script.user(world.pick(messages).format(email=email, product=product, **words))
    script.call(f"Need the customer id for {email}, so call find_customer.", "find_customer", email=email)
    script.call(
        f"The customer is {customer_id}, so call list_orders for the {product} order of {customer_id}.",
        "list_orders",
        customer_id=customer_id,
        item=product,
    )
