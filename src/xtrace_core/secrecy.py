"""The base class of objects with secrets, which are never shown, pickled or copied."""

from typing import Any, NoReturn


class Secretive:
    """Base of the classes that hold secrets: `repr` shows only the class, and pickling and copying raise `TypeError`.

    A subclass has `__slots__`, so that a debugger or a logger has no `__dict__` to print.
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
