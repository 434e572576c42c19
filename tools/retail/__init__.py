"""The retail suite: a shop's customer service desk on a SQLite database, with orders, refunds and a policy."""
