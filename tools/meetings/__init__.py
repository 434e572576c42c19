"""Meetings suite: a shared calendar with conflicts, working hours and fixed time zones."""
