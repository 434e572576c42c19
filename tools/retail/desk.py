"""A script of the full preset: who was identified, what was read already, and the look-ups still needed."""

from __future__ import annotations

from collections.abc import Sequence

from awpo_tools.retail.catalogue import EMAIL_DOMAINS, PRODUCTS, STATUSES
from awpo_tools.retail.script import Script
from awpo_tools.retail.world import Row, World

_EMAIL_INTRODUCTIONS = ("I am {email}.", "My email is {email}.", "My account is {email}.")
_NAME_INTRODUCTIONS = ("I am {first_name} {last_name}, zip {zip}.", "My name is {first_name} {last_name}, zip {zip}.")
_LATER_OPENINGS = ("", "Thanks. ", "One more thing. ", "Good. ")


class Desk(Script):
    """The service desk during one task: requests are served one after the other, nothing is looked up twice.

    Args:
        world: The shop; gets a second customer and some orders nobody asks about.
        wrong_email: Whether the user starts with an email the shop does not know.
    """

    def __init__(self, world: World, wrong_email: bool = False) -> None:
        super().__init__()
        self.world = world
        self.customer = world.customer
        self.customer_id = world.customer["customer_id"]
        self.unlocked: tuple[str, ...] = ()
        self._wrong_email = f"{self.customer['email'].split('@')[0]}@{EMAIL_DOMAINS[1]}" if wrong_email else None
        self._speaks_email = wrong_email or world.below(3) > 0
        self._is_introduced = self._is_identified = self._has_listed = False
        self._read: set[str] = set()
        self.stranger = world.add_customer(world.pick(EMAIL_DOMAINS))
        self.order("pending", customer=self.stranger)
        for _ in range(1 + world.below(2)):
            self.order(world.pick(STATUSES))

    # -- rows ----------------------------------------------------------------------------------------------------

    def order(
        self, status: str, days: int | None = None, name: str | None = None, customer: Row | None = None
    ) -> tuple[Row, Row]:
        """Add an order with one or two items; return it and the item it is known by.

        Args:
            status: Its status.
            days: Days since its delivery; by default within what can be returned.
            name: Product of that item; by default one that nobody here has ordered.
            customer: Whose it is; by default the one who is being served.
        """
        days = 2 + self.world.below(27) if days is None else days
        order = self.world.add_order(status, days, customer)
        item = self.item(order, name)
        if self.world.below(3) == 0:
            self.item(order)
        if status == "shipped":
            self.world.add_shipment(order)
        return order, item

    def item(self, order: Row, name: str | None = None) -> Row:
        """Add an item, with a product and variants of its own, to an order."""
        name = name or self.world.unused(PRODUCTS)
        variants = self.world.add_product(name)
        return self.world.add_item(order, name, self.world.new_cents(), self.world.pick(variants)["variant_id"])

    def variants_of(self, item: Row) -> tuple[Row, list[Row]]:
        """Return the variant an item is, and the other variants of its product."""
        variants = self.world.tables["variants"]
        own = next(row for row in variants if row["variant_id"] == item["variant_id"])
        return own, [row for row in variants if row["product_id"] == own["product_id"] and row is not own]

    # -- the user ------------------------------------------------------------------------------------------------

    def say(self, messages: Sequence[str], **words: str) -> None:
        """Open a turn with a request; the first one says who is speaking."""
        message = self.world.pick(messages).format(**words)
        if not self._is_introduced:
            self._is_introduced = True
            introduction = self._introduction()
            message = self.world.pick((f"{introduction} {message}", f"{message} {introduction}"))
        else:
            message = self.world.pick(_LATER_OPENINGS) + message
        self.user(message, self.unlocked)
        self.unlocked = ()

    def ask(self, reasoning: str, question: str, answers: Sequence[str], **words: str) -> None:
        """Close the turn with a question and open the next one with its answer."""
        self.tell(reasoning, question)
        self.user(self.world.pick(answers).format(**words))

    def order_words(self, order: Row, item: Row) -> str:
        """Return how the user names an order."""
        return self.world.pick((f"my {item['name']} order", f"order {order['order_id']}"))

    def item_words(self, order: Row, item: Row) -> str:
        """Return how the user names an item."""
        return self.world.pick((f"my {item['name']}", f"the {item['name']} from order {order['order_id']}"))

    def _introduction(self) -> str:
        words = self.customer | ({"email": self._wrong_email} if self._wrong_email else {})
        return self.world.pick(_EMAIL_INTRODUCTIONS if self._speaks_email else _NAME_INTRODUCTIONS).format(**words)

    # -- look-ups ------------------------------------------------------------------------------------------------

    def identify(self) -> None:
        """Find the customer, unless that is done."""
        if self._is_identified:
            return
        self._is_identified = True
        if self._speaks_email:
            email = self._wrong_email or self.customer["email"]
            self.call(f"Need the customer id for {email}, so call find_customer.", "find_customer", email=email)
        if self._wrong_email:
            self.ask(
                f"The error says no customer has {self._wrong_email}, so the name and zip are needed; ask for them.",
                f"I cannot find {self._wrong_email}. What are your full name and zip?",
                _NAME_INTRODUCTIONS,
                **self.customer,
            )
        if self._wrong_email or not self._speaks_email:
            person = {key: self.customer[key] for key in ("first_name", "last_name", "zip")}
            self.call(
                f"Need the customer id for {' '.join(person.values())}, so call find_customer_by_name.",
                "find_customer_by_name",
                **person,
            )

    def list_orders(self, wanted: str) -> None:
        """List the customer's orders, unless that is done; `wanted` is what the user calls the order."""
        self.identify()
        if self._has_listed:
            return
        self._has_listed = True
        self.call(
            f"The customer is {self.customer_id}, so call list_orders to find {wanted.replace('my ', 'the ')}.",
            "list_orders",
            customer_id=self.customer_id,
        )

    def read_order(self, order: Row, item: Row, wanted: str, needed: str) -> None:
        """Read an order, unless that is done, after listing the orders."""
        order_id = order["order_id"]
        self.list_orders(wanted)
        if order_id in self._read:
            return
        self._read.add(order_id)
        self.call(
            f"The {item['name']} is in order {order_id}, which is {order['status']}; call get_order to learn {needed}.",
            "get_order",
            order_id=order_id,
        )

    def read_product(self, item: Row, needed: str) -> None:
        """Read the product of an item of an order that was read."""
        product_id = self.variants_of(item)[0]["product_id"]
        self.call(
            f"The {item['name']} is product {product_id}; {needed} is missing, so call get_product.",
            "get_product",
            product_id=product_id,
        )
