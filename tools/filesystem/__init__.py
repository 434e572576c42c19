"""Filesystem suite: a tree of directories and text files in memory, with quotas and read-only files."""
