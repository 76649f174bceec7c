"""The text that a reader types to confirm something that cannot be undone."""

from typing import Final

_TYPED_AT_MOST: Final = 64


def to_type(name: str, otherwise: str) -> str:
    """Returns the name if it can be typed exactly, otherwise `otherwise`, which is an ID."""
    is_plain = name.isprintable() and name == " ".join(name.split())
    return name if 0 < len(name) <= _TYPED_AT_MOST and is_plain else otherwise
