"""What users of the full preset say, by request."""

from __future__ import annotations

STATUS_MESSAGES = (
    "What is the status of {order}?",
    "How far is {order}?",
    "Please check where {order} stands.",
    "Any news on {order}?",
)
TRACK_MESSAGES = {
    "expected_on": (
        "When will {order} arrive?",
        "On which day do I get {order}?",
        "What is the arrival day of {order}?",
    ),
    "location": ("In which city is {order} right now?", "Where is the parcel of {order} at the moment?"),
    "carrier": ("Who carries {order}?", "Which carrier brings {order}?"),
    "progress": ("What does the tracking of {order} say?", "Please track {order}. What is its progress?"),
}
TRACK_NOUNS = {
    "expected_on": "arrival day",
    "location": "location",
    "carrier": "carrier",
    "progress": "progress",
}
TRACK_ANSWERS = {
    "expected_on": "is expected on {value}",
    "location": "is in {value} now",
    "carrier": "is carried by {value}",
    "progress": "is {value}",
}
PRICE_MESSAGES = (
    "What did I pay for {item}?",
    "How much was {item}?",
    "I need the price I paid for {item}.",
    "Please tell me the price of {item} when I bought it.",
)
STOCK_MESSAGES = (
    "How many pieces of the {option} {name} do you have?",
    "I look for a {option} {name}. How many are in stock?",
    "Please count the stock of the {option} {name}.",
)
STORE_MESSAGES = (
    "When does your store at {street} in {city} close?",
    "What is the closing time of the {city} store at {street}?",
    "How long is the store at {street} in {city} open?",
)
CANCEL_REASONS = {
    "mistake": ("I ordered it by mistake", "it was a mistake", "I clicked the wrong button"),
    "delay": ("it takes too long", "the delay is too long", "I cannot wait any longer"),
    "price": ("it is too expensive", "I found it cheaper elsewhere", "the price is too high"),
}
REFUND_REASONS = {
    "damaged": ("it arrived damaged", "it is broken", "it has a crack"),
    "wrong": ("you sent the wrong one", "it is not what I ordered", "it is the wrong model"),
    "unwanted": ("I do not need it any more", "I changed my mind", "it is unwanted"),
}
TOPICS = {
    "complaint": ("your driver was rude", "I have a complaint about your service"),
    "legal": ("my lawyer has a question", "this is a legal matter"),
    "business": ("my company wants to buy in bulk", "I want to sell you my products"),
}
CANCEL_MESSAGES = (
    "Please cancel {order}, {why}.",
    "I want to cancel {order}, {why}.",
    "Can you cancel {order}? The reason: {why}.",
)
OPEN_CANCEL_MESSAGES = ("Please cancel {order}.", "I want to cancel {order}.", "Can you cancel {order} for me?")
ADDRESS_MESSAGES = (
    "Please send {order} to {address} instead.",
    "I moved. Please change the address of {order} to {address}.",
    "Can {order} go to {address}?",
)
OPEN_ADDRESS_MESSAGES = (
    "I moved. Please change the address of {order}.",
    "Please send {order} to another address.",
    "The address of {order} is outdated, please change it.",
)
REFUND_MESSAGES = (
    "I want a refund for {item}, {why}.",
    "Please refund {item}, {why}.",
    "Can I get my money back for {item}? The reason: {why}.",
)
OPEN_REFUND_MESSAGES = ("I want a refund for {item}.", "Please refund {item}.", "Can I get my money back for {item}?")
EXCHANGE_MESSAGES = (
    "Please exchange {item} for the {option} one.",
    "I want to swap {item} for {option}.",
    "Can I have {item} in {option} instead?",
)
OPEN_EXCHANGE_MESSAGES = ("I want another colour of {item}.", "Please exchange {item} for another colour.")
COUPON_MESSAGES = (
    "Please use coupon {code} for {order}. What is the new total?",
    "Apply coupon {code} to {order} and tell me the new total.",
)
OPEN_COUPON_MESSAGES = (
    "I have a coupon for {order}. What is the new total with it?",
    "Please apply my coupon to {order} and tell me the new total.",
)
EMAIL_MESSAGES = ("Please change my email to {email}.", "My new email is {email}, please update it.")
OPEN_EMAIL_MESSAGES = ("I have a new email, please update it.", "Please change my email.")
SUBSCRIBE_MESSAGES = ("Please sign me up for your newsletter.", "I want to get your newsletter.")
UNSUBSCRIBE_MESSAGES = ("Please take me off your newsletter.", "I do not want your newsletter any more.")
HANDOVER_MESSAGES = (
    "Please let me talk to a person, {about}.",
    "I want to speak to a human, {about}.",
    "Connect me to one of your people, {about}.",
)
REASON_ANSWERS = ("Because {why}.", "The reason: {why}.", "Well, {why}.")
CANCEL_BOTH_REASONS = {
    "mistake": ("I ordered both by mistake", "both were a mistake"),
    "delay": ("both take too long", "I cannot wait any longer"),
    "price": ("both are too expensive", "I found both cheaper elsewhere"),
}
REFUND_BOTH_REASONS = {
    "damaged": ("both arrived damaged", "both are broken"),
    "wrong": ("both are not what I ordered", "both are the wrong model"),
    "unwanted": ("I do not need them any more", "both are unwanted"),
}
