"""Gymnasium wrappers around tool environments."""
