"""Requests for information: every answer stands in a tool result, next to plausible wrong ones."""

from __future__ import annotations

from awpo_tools.retail import phrases
from awpo_tools.retail.backend import money
from awpo_tools.retail.catalogue import CITIES, PRODUCTS, STATUSES
from awpo_tools.retail.desk import Desk

from awpo_env.types import Fact


def order_status(desk: Desk) -> None:
    """The user asks for the status of one order."""
    known = {order["status"] for order in desk.world.tables["orders"] if order["customer_id"] == desk.customer_id}
    order, item = desk.order(desk.world.pick([status for status in STATUSES if status not in known] or STATUSES))
    status, name, order_id = order["status"], item["name"], order["order_id"]
    words = desk.order_words(order, item)
    desk.say(phrases.STATUS_MESSAGES, order=words)
    desk.list_orders(words)
    desk.tell(
        f"The list of orders shows that {name} order {order_id} is {status}, so tell the user.",
        f"Your {name} order {order_id} is {status}.",
        Fact(status, tuple(sorted(known - {status}))),
    )


def track(desk: Desk) -> None:
    """The user asks about a shipment while another one is under way."""
    order, item = desk.order("shipped")
    desk.order("shipped")
    shipments = {row["order_id"]: row for row in desk.world.tables["shipments"]}
    column, name, order_id = desk.world.pick(tuple(phrases.TRACK_MESSAGES)), item["name"], order["order_id"]
    noun, value = phrases.TRACK_NOUNS[column], shipments[order_id][column]
    words = desk.order_words(order, item)
    desk.say(phrases.TRACK_MESSAGES[column], order=words)
    desk.list_orders(words)
    desk.call(
        f"The {name} order {order_id} is shipped; its {noun} is missing, so call track_shipment.",
        "track_shipment",
        order_id=order_id,
    )
    desk.tell(
        f"The tracking of order {order_id} gives {value} as its {noun}, so tell the user.",
        f"Your {name} order {phrases.TRACK_ANSWERS[column].format(value=value)}.",
        Fact(value, tuple(row[column] for row in shipments.values() if row[column] != value)),
    )


def price(desk: Desk) -> None:
    """The user asks what one item of an order has cost."""
    order, item = desk.order(desk.world.pick(("pending", "delivered")))
    others = [desk.item(order) for _ in range(1 + desk.world.below(2))]
    name, paid = item["name"], money(item["price_cents"])
    words = desk.item_words(order, item)
    desk.say(phrases.PRICE_MESSAGES, item=words)
    desk.read_order(order, item, words, "the price")
    desk.tell(
        f"Order {order['order_id']} shows that item {item['item_id']}, the {name}, has cost {paid}, so tell the user.",
        f"You paid {paid} for the {name}.",
        Fact(paid, tuple(money(other["price_cents"]) for other in others)),
    )


def stock(desk: Desk) -> None:
    """The user asks how many pieces of one colour of a product there are; no order is involved."""
    name = desk.world.unused(PRODUCTS)
    variants = desk.world.add_product(name)
    variant = desk.world.pick(variants)
    product_id, variant_id, option, count = (variant[key] for key in ("product_id", "variant_id", "option", "stock"))
    desk.say(phrases.STOCK_MESSAGES, name=name, option=option)
    desk.call(
        f"The user wants a {name}; its product id is missing, so call search_products.", "search_products", query=name
    )
    desk.call(
        f"The {name} is product {product_id}; the id of its {option} variant is missing, so call get_product.",
        "get_product",
        product_id=product_id,
    )
    desk.call(
        f"The {option} {name} is variant {variant_id}; its stock is missing, so call check_stock.",
        "check_stock",
        variant_id=variant_id,
    )
    desk.tell(
        f"The stock of variant {variant_id}, the {option} {name}, is {count}, so tell the user.",
        f"There are {count} pieces of the {option} {name} in stock.",
        Fact(str(count), tuple(str(other["stock"]) for other in variants if other is not variant)),
    )


def store(desk: Desk) -> None:
    """The user asks when one of two stores in a city closes."""
    city, times = (
        desk.world.pick(CITIES),
        [f"{hour}:{minute}" for hour in range(17, 23) for minute in ("00", "15", "30")],
    )
    stores = [
        desk.world.add(
            "stores",
            store_id=desk.world.new_id("S", 2),
            city=city,
            street=desk.world.new_street(),
            closes=desk.world.unused(times),
        )
        for _ in range(2)
    ]
    street, closes = stores[0]["street"], stores[0]["closes"]
    desk.say(phrases.STORE_MESSAGES, street=street, city=city)
    desk.call(f"The closing time of {street} in {city} is missing, so call list_stores.", "list_stores", city=city)
    desk.tell(
        f"The list shows that the store at {street} in {city} closes at {closes}, so tell the user.",
        f"The store at {street} closes at {closes}.",
        Fact(closes, (stores[1]["closes"],)),
    )
