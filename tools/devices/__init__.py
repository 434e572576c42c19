"""Devices suite: the devices of a home, with modes, preconditions, scenes, schedules and house rules."""
