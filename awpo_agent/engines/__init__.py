"""Engines: where sampled tokens come from."""
