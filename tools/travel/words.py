"""Words of the travel tasks: cities with their airport codes, and the names of fares."""

CITIES = {
    "Lisbon": "LIS", "Oslo": "OSL", "Vienna": "VIE", "Dublin": "DUB", "Athens": "ATH", "Prague": "PRG",
    "Zurich": "ZRH", "Madrid": "MAD", "Warsaw": "WAW", "Geneva": "GVA", "Munich": "MUC", "Berlin": "BER",
    "Rome": "FCO", "Paris": "CDG", "Milan": "MXP", "Porto": "OPO", "Seville": "SVQ", "Malaga": "AGP",
    "Helsinki": "HEL", "Riga": "RIX", "Tallinn": "TLL", "Vilnius": "VNO", "Krakow": "KRK", "Bergen": "BGO",
    "Naples": "NAP", "Venice": "VCE", "Bilbao": "BIO", "Lyon": "LYS", "Nice": "NCE", "Hamburg": "HAM",
    "Basel": "BSL", "Split": "SPU", "Sofia": "SOF", "Larnaca": "LCA", "Tromso": "TOS", "Bari": "BRI",
}  # fmt: skip
FARES = ("light", "classic", "flex")
"""Every flight has these, dearer from left to right."""
