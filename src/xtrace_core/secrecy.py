"""What every object that holds a secret has in common: it is never shown, pickled or copied."""

from typing import NoReturn


class Secretive:
    """Base of the classes that hold secrets: `repr` shows the class alone, pickling and copying are refused.

    A subclass has `__slots__`, so that there is no dictionary which a debugger or a logger would print.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} holds secrets and cannot be pickled or copied: create it in each process"
        )

    def __copy__(self) -> NoReturn:
        self.__reduce_ex__(0)

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__reduce_ex__(0)
