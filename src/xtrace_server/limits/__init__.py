"""Limits of what callers may send, and how often."""
