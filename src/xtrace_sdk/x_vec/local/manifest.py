"""What a shared index says of itself, sealed: which segments it has, which of their rows count, and how old it is."""

from typing import Final

import msgspec

from xtrace_sdk.x_vec.local.codec import CODEC
from xtrace_sdk.x_vec.local.columns import deflated, inflated
from xtrace_sdk.x_vec.local.index_file import Damaged, IndexFile
from xtrace_sdk.x_vec.local.state import VERSION, SegmentEntry, State
from xtrace_sdk.x_vec.local.tokens import TOKENISER

_PLACE: Final = b"xtrace/local-index/2 manifest"
_DIGEST_BYTES: Final = 32


class Manifest(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The manifest of a shared index. The key binds it to the knowledge base, the context and the kind."""

    version: int
    codec: str
    tokeniser: int
    dim: int
    revisions: dict[str, int]
    """By context: everything up to this revision is in the index."""
    segments: list[SegmentEntry]

    @classmethod
    def of(cls, state: State) -> "Manifest":
        """The manifest of an index as it is now; nothing may be in progress."""
        return cls(VERSION, CODEC, TOKENISER, state.dim, state.revisions, state.segments)

    @classmethod
    def opened(cls, sealed: bytes, file: IndexFile) -> "Manifest":
        """Opens a manifest with the key of an index. Raises `Damaged` unless a client with this key and version made
        it."""
        try:
            found = msgspec.msgpack.decode(inflated(file.unsealed(sealed, _PLACE)), type=cls)
        except ValueError:
            raise Damaged from None
        if (found.version, found.codec, found.tokeniser) != (VERSION, CODEC, TOKENISER):
            raise Damaged
        if not all(
            len(one.digest) == _DIGEST_BYTES and one.rows > 0 and len(one.dead) == -(-one.rows // 8)
            for one in found.segments
        ):
            raise Damaged
        return found

    def sealed(self, file: IndexFile) -> bytes:
        """Returns what `opened` takes."""
        return file.sealed(deflated(msgspec.msgpack.encode(self)), _PLACE)

    @property
    def count(self) -> int:
        """How many chunks the index has."""
        return sum(int(one.alive().sum()) for one in self.segments)

    def is_ahead_of(self, revisions: dict[str, int]) -> bool:
        """Whether it has everything that an index of these revisions has, and more."""
        return self.covers(revisions) and self.revisions != revisions

    def covers(self, revisions: dict[str, int]) -> bool:
        """Whether it has everything that an index of these revisions has."""
        return all(self.revisions.get(context_id, -1) >= revision for context_id, revision in revisions.items())
