"""What every object that holds a secret has in common: it is never shown and never pickled."""

from typing import NoReturn


class Secretive:
    """Base of the classes that hold secrets: `repr` shows the class alone, pickling and copying are refused."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and cannot be pickled or copied")
