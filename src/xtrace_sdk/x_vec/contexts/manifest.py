"""Manifests: which chunks were stored under a context while its keys were safe (docs/formats.md, "Manifests").

Someone who has stolen the keys of a context can forge chunks that pass every check. A manifest that was written before
the theft distinguishes the genuine ones. Nothing in it is secret. Its digest is sealed in the successor, so it cannot
be exchanged later. `xtrace_sdk.x_vec.upkeep.manifest` writes them.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import InaccessibleFile, InvalidArgument, InvalidManifest
from xtrace_sdk.x_vec.contexts.saved_context import canonical_json
from xtrace_sdk.x_vec.schemes.ciphertexts import DIGEST_BYTES, row_digest

MAX_MANIFEST_BYTES: Final = 1 << 30
"""About 26 million chunks."""
_MAGIC: Final = b"xtrace-manifest-1 "
_MAX_HEAD_BYTES: Final = 4096
_RECORD: Final = np.dtype([("chunk_id", ">u8"), ("row", "u1", DIGEST_BYTES), ("content", "u1", DIGEST_BYTES)])

Flags = NDArray[np.bool_]


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    context_id: str
    kb_id: str


def manifest_head(context_id: str, kb_id: str) -> bytes:
    """Returns the head of a manifest for a knowledge base under a context."""
    return _MAGIC + canonical_json({"context_id": context_id, "kb_id": kb_id}) + b"\n"


def manifest_record(chunk: Mapping[str, Any]) -> bytes:
    """Returns the record of a chunk with its `index`, `nonce` and `chunk_content`; records are sorted by ascending
    id."""
    row = row_digest(chunk["index"], chunk.get("nonce"))
    return int(chunk["chunk_id"]).to_bytes(8) + row + content_digest(chunk["chunk_content"])


def content_digest(stored: str) -> bytes:
    """Identifies a stored, encrypted content."""
    return hashlib.sha256(stored.encode("utf-8", "surrogatepass")).digest()[:DIGEST_BYTES]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Manifest:
    """A manifest in memory: 40 bytes per chunk."""

    context_id: str
    kb_id: str
    digest: str
    """The SHA-256 of the whole file, in hexadecimal."""
    _records: NDArray[Any]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Manifest":
        """Reads the manifest in a file. Raises `InaccessibleFile`, and `InvalidManifest` if it is not complete and
        valid."""
        try:
            with Path(path).open("rb") as file:
                data = file.read(MAX_MANIFEST_BYTES + 1)
        except OSError as error:
            raise InaccessibleFile(f"the manifest {path} cannot be read: {error.strerror}") from None
        head, newline, records = data[:_MAX_HEAD_BYTES].partition(b"\n")
        if not data.startswith(_MAGIC) or not newline:
            raise InvalidManifest(f"{path} is not a manifest as `xtrace kb manifest` writes it")
        records = data[len(head) + 1 :]
        if len(data) > MAX_MANIFEST_BYTES or len(records) % _RECORD.itemsize:
            raise InvalidManifest(f"the manifest {path} was cut off, or is longer than {MAX_MANIFEST_BYTES} bytes")
        try:
            described = msgspec.json.decode(head.removeprefix(_MAGIC), type=_Head)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidManifest(f"the manifest {path} does not name its context and knowledge base") from None
        parsed = np.frombuffer(records, dtype=_RECORD)
        if (parsed["chunk_id"][1:] <= parsed["chunk_id"][:-1]).any():
            raise InvalidManifest(f"the chunks of the manifest {path} are not sorted by ascending id: it was changed")
        return cls(described.context_id, described.kb_id, hashlib.sha256(data).hexdigest(), parsed)

    def __len__(self) -> int:
        return len(self._records)

    def lists(self, chunk_ids: Sequence[int] | NDArray[Any]) -> Flags:
        """Returns which of the chunks it lists, regardless of their contents."""
        return self._matching(chunk_ids, None, ())

    def lists_rows(self, chunk_ids: Sequence[int] | NDArray[Any], digests: Sequence[bytes]) -> Flags:
        """Returns which of the chunks it lists with these `row_digest`s."""
        return self._matching(chunk_ids, "row", digests)

    def lists_contents(self, chunk_ids: Sequence[int] | NDArray[Any], digests: Sequence[bytes]) -> Flags:
        """Returns which of the chunks it lists with these `content_digest`s."""
        return self._matching(chunk_ids, "content", digests)

    def _matching(self, chunk_ids: Sequence[int] | NDArray[Any], field: str | None, digests: Sequence[bytes]) -> Flags:
        wanted = np.asarray(chunk_ids, dtype=np.int64).astype(np.uint64)
        listed = self._records["chunk_id"]
        if not len(listed):
            return np.zeros(len(wanted), dtype=np.bool_)
        places = np.minimum(np.searchsorted(listed, wanted), len(listed) - 1)
        found = listed[places] == wanted
        if field is None:
            return np.asarray(found)
        given = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(wanted), DIGEST_BYTES)
        return np.asarray(found & (self._records[field][places] == given).all(axis=1))


class Accepted:
    """The accepted chunks of a context: all of them, or those that sealed manifests list."""

    def __init__(self, sealed: Mapping[str, str] | None = None) -> None:
        """`sealed` contains the digest of each knowledge base's manifest; without it, everything is accepted."""
        self._sealed = sealed
        self._open: dict[str, Manifest] = {}

    @property
    def is_everything(self) -> bool:
        """Whether every chunk is accepted, because there are no manifests."""
        return self._sealed is None

    def open(self, context_id: str, manifests: Iterable[Manifest]) -> None:
        """Opens the manifests whose digests are sealed. Raises `InvalidManifest` for any other."""
        for manifest in manifests:
            if manifest.context_id != context_id or (self._sealed or {}).get(manifest.kb_id) != manifest.digest:
                raise InvalidManifest(
                    f"the manifest of the knowledge base {manifest.kb_id} is not the one that the new context was "
                    "created with: it was changed, or written at another time"
                )
            self._open[manifest.kb_id] = manifest

    def check_open(self, kb_ids: Iterable[str]) -> None:
        """Raises `InvalidArgument` if the sealed manifest of one of the knowledge bases is not open."""
        if not self.is_everything:
            for kb_id in kb_ids:
                self._of(kb_id)

    def ids(self, kb_id: str, chunk_ids: Sequence[int]) -> Flags:
        """Returns which of the chunks may be accepted, judging only by their ids."""
        return _all(chunk_ids) if self.is_everything or not len(chunk_ids) else self._of(kb_id).lists(chunk_ids)

    def rows(self, kb_id: str, chunk_ids: Sequence[int] | NDArray[Any], digests: Sequence[bytes]) -> Flags:
        """Returns which of the chunks are accepted with these vectors, given by `row_digest`."""
        if self.is_everything or not len(chunk_ids):
            return _all(chunk_ids)
        return self._of(kb_id).lists_rows(chunk_ids, digests)

    def contents(self, kb_id: str, chunks: Sequence[Mapping[str, Any]]) -> Flags:
        """Returns which of the chunks are accepted with these contents."""
        if self.is_everything or not chunks:
            return _all(chunks)
        ids = [chunk["chunk_id"] for chunk in chunks]
        return self._of(kb_id).lists_contents(ids, [content_digest(chunk["chunk_content"]) for chunk in chunks])

    def chunks(self, kb_id: str, chunks: Sequence[Mapping[str, Any]]) -> Flags:
        """Returns which of the chunks are accepted, both vector and content."""
        if self.is_everything or not chunks:
            return _all(chunks)
        digests = [row_digest(chunk["index"], chunk.get("nonce")) for chunk in chunks]
        return self.rows(kb_id, [chunk["chunk_id"] for chunk in chunks], digests) & self.contents(kb_id, chunks)

    def _of(self, kb_id: str) -> Manifest:
        if kb_id in self._open:
            return self._open[kb_id]
        if kb_id not in (self._sealed or {}):
            return _NOTHING
        raise InvalidArgument(
            "this context accepts only old chunks listed in a manifest, and the manifest of the knowledge base "
            f"{kb_id} is not open: pass it to open_manifests, or with --manifest"
        )


_NOTHING: Final = Manifest("", "", "", np.empty(0, dtype=_RECORD))


def _all(chunks: Sequence[Any] | NDArray[Any]) -> Flags:
    return np.ones(len(chunks), dtype=np.bool_)
