"""What every object that holds a secret has in common: it is never shown, pickled or copied."""

from typing import Any, NoReturn


class Secretive:
    """Base of the classes that hold secrets: `repr` shows the class alone, pickling and copying are refused.

    A subclass has `__slots__`, so that there is no dictionary which a debugger or a logger would print.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        _refuse(self)

    def __copy__(self) -> NoReturn:
        _refuse(self)

    def __deepcopy__(self, memo: object) -> NoReturn:
        _refuse(self)


def _refuse(secretive: Secretive) -> NoReturn:
    raise TypeError(
        f"{type(secretive).__name__} holds secrets and cannot be pickled or copied: create it in each process"
    )
