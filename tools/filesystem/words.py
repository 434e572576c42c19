"""Words of the filesystem tasks: names of folders and files, what stands in them, and the keys of records."""

FOLDERS = (
    "taxes", "travel", "recipes", "garden", "music", "letters", "photos", "budget", "school", "health",
    "house", "archive", "projects", "reports", "meetings", "contracts", "drafts", "sports", "books", "plans",
    "clients", "orders", "stock", "research", "events", "training", "lessons", "poems", "maps", "designs",
)  # fmt: skip
TOPICS = (
    "harbor", "cedar", "falcon", "river", "amber", "violet", "copper", "meadow", "thunder", "island",
    "orchid", "granite", "lantern", "marble", "willow", "comet", "saffron", "pebble", "glacier", "velvet",
)  # fmt: skip
FORMS = ("notes", "list", "summary", "memo", "outline", "review", "agenda", "draft", "journal", "minutes")
LINES = (
    "call the plumber", "water the plants", "buy paint and tape", "check the old pump", "ask for a second offer",
    "renew the library card", "clean the attic", "order new filters", "return the ladder", "print the tickets",
    "sort the receipts", "book a table for four", "repair the fence", "measure the shelf", "wash the curtains",
)  # fmt: skip
COMPANIES = ("Works", "Trading", "Supply", "Partners")
