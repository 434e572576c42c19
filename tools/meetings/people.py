"""Words of the meetings tasks: names, departments, titles, time zones and working hours."""

FIRST_NAMES = (
    "Ana", "Bo", "Carla", "Dev", "Elif", "Femi", "Greta", "Hugo", "Ines", "Jonas",
    "Kira", "Liam", "Mei", "Nora", "Omar", "Priya", "Quinn", "Rosa", "Sven", "Tara",
)  # fmt: skip
LAST_NAMES = (
    "Adler", "Bauer", "Costa", "Duarte", "Evans", "Fonseca", "Gupta", "Haas", "Ito", "Jensen",
    "Khan", "Lind", "Moreau", "Novak", "Okafor", "Patel", "Rossi", "Silva", "Tanaka", "Weber",
)  # fmt: skip
DEPARTMENTS = ("sales", "legal", "design", "finance", "support")

TOPICS = ("Budget", "Launch", "Hiring", "Roadmap", "Security", "Contract", "Survey", "Training", "Website", "Quality")
FORMS = ("review", "workshop", "planning", "briefing", "follow-up")

UTC = "+00:00"
OFFSETS = (
    "-08:00", "-05:00", "-03:30", "+01:00", "+02:00", "+03:30",
    "+05:30", "+05:45", "+08:00", "+09:30", "+10:30", "+12:00",
)  # fmt: skip
WORKING_HOURS = ("08:00-16:00", "08:30-16:30", "09:00-17:00", "09:30-17:30", "10:00-18:00")


def is_test_name(first: int, last: int) -> bool:
    """Whether the person with these indices of FIRST_NAMES and LAST_NAMES belongs to the test split."""
    return (first + last) % 4 == 0
