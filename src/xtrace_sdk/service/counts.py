"""The number of chunks that a call changed, or would change."""

from collections.abc import KeysView
from typing import Any, Literal, Self

CountName = Literal["deleted_count", "would_delete_count", "updated_count", "would_update_count"]
"""The name of the count in the service's answer."""


class ChunkCount(int):
    """A number of chunks that also supports the keys of the service's JSON object: `result["deleted_count"]`.

    In all other respects it is an integer.
    """

    name: CountName

    def __new__(cls, name: CountName, count: int) -> Self:
        made = super().__new__(cls, count)
        made.name = name
        return made

    def __getnewargs__(self) -> tuple[CountName, int]:  # type: ignore[override]
        return self.name, int(self)

    @property
    def count(self) -> int:
        """The plain integer."""
        return int(self)

    def __getitem__(self, key: str) -> int:
        if key != self.name:
            raise KeyError(f"{key}: this call answers {self.name}")
        return int(self)

    def __contains__(self, key: object) -> bool:
        return key == self.name

    def get(self, key: str, default: Any = None) -> Any:
        """The count under its name, or the default."""
        return int(self) if key == self.name else default

    def keys(self) -> KeysView[str]:
        """The one name."""
        return {self.name: int(self)}.keys()
