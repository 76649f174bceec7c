"""Execution contexts: every key of one body of data, created, saved and restored."""
