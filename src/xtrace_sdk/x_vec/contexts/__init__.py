"""Execution contexts: creating, saving and restoring all keys of one set of data."""
