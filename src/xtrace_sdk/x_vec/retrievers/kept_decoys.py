"""The groups of decoys of one knowledge base in a file, so that they outlast a process and several share them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Self

import msgspec
from cryptography.exceptions import InvalidTag

from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import InaccessibleFile
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.keys.aead import seal, unseal
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.retrievers.decoys import ChunkIds, Decoys, Groups

SUFFIX: Final = ".decoys"
_NAME: Final = "decoys"
_PLACE: Final = b"xtrace/decoys/1"
_BUSY_S: Final = 60.0
_TABLE: Final = "CREATE TABLE IF NOT EXISTS groups (one INTEGER PRIMARY KEY CHECK (one = 1), sealed BLOB NOT NULL)"


class KeptGroups(Secretive):
    """Groups as `decoys.Groups` has them, read from a sealed file before each retrieval and written after it."""

    __slots__ = ("_hedge", "_key", "path")

    def __init__(self, path: Path, key: bytes, hedge: Hedge) -> None:
        """Opens nothing yet."""
        self.path = path
        self._key = key
        self._hedge = hedge

    @classmethod
    def of(cls, context: ExecutionContext, folder: Path, kb_id: str) -> Self:
        """The groups of a knowledge base in a folder. The file's name is a pseudonym."""
        name = context.pseudonym(_NAME, context.id, kb_id) + SUFFIX
        return cls(folder / name, context.derived_key(_NAME, kb_id), context.homomorphic.hedge)

    def together_with(self, wanted: set[int], candidates: ChunkIds, decoys: int) -> list[int]:
        """Does what `Groups.together_with` does. Raises `DecoyGroupTooLarge` and `InaccessibleFile`."""
        with self._changing() as connection:
            row = connection.execute("SELECT sealed FROM groups").fetchone()
            before: list[list[int]] = [] if row is None else self._opened(row[0])
            groups = Groups(before)
            members = groups.together_with(wanted, candidates, decoys)
            if (after := [list(group) for group in groups]) != before:
                sealed = seal(self._key, msgspec.msgpack.encode(after), _PLACE, self._hedge)
                connection.execute("INSERT OR REPLACE INTO groups VALUES (1, ?)", (sealed,))
        return members

    def _opened(self, sealed: bytes) -> list[list[int]]:
        try:
            return msgspec.msgpack.decode(unseal(self._key, sealed, _PLACE), type=list[list[int]])
        except (InvalidTag, ValueError):
            raise self._unusable("it is damaged") from None

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, one process after the other. Nothing changes if the block raises."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.touch(mode=0o600)
            with closing(sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)) as connection:
                connection.text_factory = bytes  # a damaged file may have a text, which fails to open as well
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_TABLE)
                yield connection
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(str(error)) from None

    def _unusable(self, why: str) -> InaccessibleFile:
        # New groups would reveal what the old ones hid, so they are not begun without being asked for.
        return InaccessibleFile(
            f"the groups of decoys cannot be kept in {self.path}: {why}; search without decoys, or delete the file to "
            "begin new groups, which may reveal what the old ones hid"
        )


def kept_decoys(context: ExecutionContext, folder: Path) -> Decoys:
    """Decoys whose groups are kept in a folder."""
    return Decoys(lambda kb_id: KeptGroups.of(context, folder, kb_id))
