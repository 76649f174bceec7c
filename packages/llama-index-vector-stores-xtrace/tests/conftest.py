"""Fixtures of these tests."""

pytest_plugins = ["support.frameworks"]
