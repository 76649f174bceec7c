"""What an API key may do in a knowledge base."""

from enum import IntEnum


class Permission(IntEnum):
    """A bit mask; each level includes those before it."""

    NONE = 0
    READ = 1
    WRITE = 3
    DELETE = 7
