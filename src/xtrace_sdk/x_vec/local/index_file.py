"""The file of a local index: a SQLite database in which everything is sealed under a key of the context's.

SQLite gives what an index of several processes needs: a change is whole or not there, whatever crashes, and readers and
a writer do not disturb each other. It sees numbers and sealed bytes. The state and each content are bound to their
place, and the state names every segment by its digest, so none can be exchanged for another or for an older one.
A segment is bound to nothing but the key, so that it can be shared as it is.
"""

import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from cryptography.exceptions import InvalidTag

from xtrace_core.secrecy import Secretive
from xtrace_sdk.x_vec.keys.aead import seal, unseal
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.local.segment import Segment
from xtrace_sdk.x_vec.local.state import VERSION, SegmentEntry, State

MAX_SEGMENT_BYTES: Final = 7 << 20
"""Of a segment before it is sealed, unless it has one row only: the service takes 8 MiB."""
_BUSY_S: Final = 60.0
_AT_ONCE: Final = 500
_STATE: Final = b"xtrace/local-index/2 state"
_SEGMENT: Final = b"xtrace/local-index/2 segment"
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), sealed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS segment (digest BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS content (chunk_id INTEGER PRIMARY KEY, sealed BLOB NOT NULL);
"""


class Damaged(Exception):
    """The file is not what this key and this version wrote; it is built again."""


class Outpaced(Exception):
    """Another process has changed the index meanwhile."""


class IndexFile(Secretive):
    """Reads and writes one index. Calls may come from any thread; one at a time goes on."""

    __slots__ = ("_connection", "_hedge", "_key", "_lock", "path")

    def __init__(self, path: Path, key: bytes, hedge: Hedge) -> None:
        """Opens the file, or creates it with mode 0600. Raises `OSError`, `Damaged`."""
        self.path = path
        self._key = key
        self._hedge = hedge
        self._lock = threading.RLock()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        self._connection.text_factory = bytes  # what a damaged file has as text fails to open as well
        with self._damage(), self._lock:
            self._connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _TABLES)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def __del__(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.close()

    @property
    def size(self) -> int:
        """Bytes of the index, those in SQLite's log included, without those that were dropped."""
        with self._damage(), self._lock:
            pragmas = ("page_count", "freelist_count", "page_size")
            pages, free, page_bytes = (self._connection.execute(f"PRAGMA {one}").fetchone()[0] for one in pragmas)
        return int((pages - free) * page_bytes)

    # State

    def state(self) -> State:
        """The state as last written. Raises `Damaged`."""
        with self._damage(), self._lock:
            row = self._connection.execute("SELECT sealed FROM state").fetchone()
        if row is None:
            return State.empty()
        state = self._opened(row[0], _STATE, State)
        if state.version != VERSION:
            raise Damaged
        return state

    @contextmanager
    def changing(self, generation: int) -> Iterator[None]:
        """A transaction on top of the state of that generation. Raises `Outpaced` if there is a later one.

        Nothing is changed if the block raises.
        """
        with self._damage(), self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if self.state().generation != generation:
                    raise Outpaced
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def write_state(self, state: State) -> None:
        """Replaces the state, inside `changing`, and removes the segments that it does not list.

        Raises `Outpaced` if a segment that it lists is not there.
        """
        stored = {digest for (digest,) in self._connection.execute("SELECT digest FROM segment")}
        listed = {entry.digest for entry in state.segments}
        if not listed <= stored:
            raise Outpaced
        self._connection.executemany("DELETE FROM segment WHERE digest = ?", [(one,) for one in stored - listed])
        sealed = self.sealed(msgspec.msgpack.encode(state), _STATE)
        self._connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (sealed,))

    # Segments

    def segment(self, entry: SegmentEntry) -> Segment:
        """The segment of an entry of the state. Raises `Damaged`."""
        with self._damage():
            return Segment.from_bytes(self.unsealed(self.sealed_segment(entry), _SEGMENT))

    def sealed_segment(self, entry: SegmentEntry) -> bytes:
        """The segment of an entry as it is stored, and shared. Raises `Damaged`."""
        with self._damage(), self._lock:
            row = self._connection.execute("SELECT sealed FROM segment WHERE digest = ?", (entry.digest,)).fetchone()
        if row is None or hashlib.sha256(row[0]).digest() != entry.digest:
            raise Damaged
        return bytes(row[0])

    def add_segments(self, segment: Segment) -> list[tuple[SegmentEntry, Segment]]:
        """Writes a segment, inside `changing`, and returns its entry, in which all rows count.

        A segment that is too large to be shared is cut into several.
        """
        plain = segment.to_bytes()
        if len(plain) > MAX_SEGMENT_BYTES and len(segment) > 1:
            lower = np.arange(len(segment)) < len(segment) // 2
            return [one for half in (lower, ~lower) for one in self.add_segments(Segment.merged([segment], [half]))]
        sealed = self.sealed(plain, _SEGMENT)
        entry = SegmentEntry(hashlib.sha256(sealed).digest(), len(sealed), len(segment), bytes(-(-len(segment) // 8)))
        self._connection.execute("INSERT INTO segment VALUES (?, ?)", (entry.digest, sealed))
        return [(entry, segment)]

    def has_segment(self, entry: SegmentEntry) -> bool:
        """Whether the segment is in the file, whatever its bytes are."""
        with self._damage(), self._lock:
            query = "SELECT 1 FROM segment WHERE digest = ?"
            return self._connection.execute(query, (entry.digest,)).fetchone() is not None

    def receive_segment(self, entry: SegmentEntry, sealed: bytes, dim: int) -> Segment:
        """Keeps a segment that was fetched, for the state that will list it, and returns it.

        `dim` is that of the index. Raises `Damaged` for one that is not that of the entry.
        """
        with self._damage():
            segment = Segment.from_bytes(self.unsealed(sealed, _SEGMENT))
        if hashlib.sha256(sealed).digest() != entry.digest or len(segment) != entry.rows or segment.dim not in (0, dim):
            raise Damaged
        with self._damage(), self._lock:
            self._connection.execute("INSERT OR IGNORE INTO segment VALUES (?, ?)", (entry.digest, sealed))
        return segment

    # Contents

    def contents(self, chunk_ids: Sequence[int]) -> dict[int, bytes]:
        """Those of the contents that are kept. Raises `Damaged`."""
        found: dict[int, bytes] = {}
        with self._damage(), self._lock:
            for start in range(0, len(chunk_ids), _AT_ONCE):
                some = chunk_ids[start : start + _AT_ONCE]
                places = ",".join("?" * len(some))
                query = f"SELECT chunk_id, sealed FROM content WHERE chunk_id IN ({places})"  # noqa: S608 - question marks
                for chunk_id, sealed in self._connection.execute(query, some):
                    found[chunk_id] = self.unsealed(sealed, _content(chunk_id))
        return found

    def keep_contents(self, contents: Mapping[int, bytes]) -> None:
        """Keeps contents, inside `changing`."""
        sealed = [(chunk_id, self.sealed(content, _content(chunk_id))) for chunk_id, content in contents.items()]
        self._connection.executemany("INSERT OR REPLACE INTO content VALUES (?, ?)", sealed)

    def drop_contents(self, chunk_ids: Iterable[int]) -> None:
        """Drops contents that are kept, inside `changing`."""
        self._connection.executemany("DELETE FROM content WHERE chunk_id = ?", [(one,) for one in chunk_ids])

    def drop_all_contents(self) -> None:
        """Drops all contents that are kept, inside `changing`."""
        self._connection.execute("DELETE FROM content")

    def give_back(self) -> None:
        """Gives the space of what was dropped back to the disk."""
        with self._damage(), self._lock, suppress(sqlite3.OperationalError):  # another process is reading
            self._connection.execute("VACUUM")

    # Sealing

    def sealed(self, plain: bytes, place: bytes) -> bytes:
        """Seals bytes for a place under the key of the index."""
        return seal(self._key, plain, place, self._hedge)

    def unsealed(self, sealed: bytes, place: bytes) -> bytes:
        """Opens what was sealed for a place. Raises `Damaged`."""
        try:
            return unseal(self._key, sealed, place)
        except InvalidTag:
            raise Damaged from None

    def _opened(self, sealed: bytes, place: bytes, form: type[State]) -> State:
        with self._damage():
            return msgspec.msgpack.decode(self.unsealed(sealed, place), type=form)

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Turns what a damaged file leads to into `Damaged`; a full disk stays an error of the disk."""
        try:
            yield
        except (sqlite3.NotSupportedError, ValueError) as error:
            raise Damaged from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError):
                raise OSError(f"{self.path}: {error}") from None
            raise Damaged from error


def _content(chunk_id: int) -> bytes:
    return b"xtrace/local-index/2 content %d" % chunk_id
