"""The plaintext of a chunk's content: only its text, or an envelope that also contains other parts of the chunk.

An envelope begins with a byte that never occurs in UTF-8 and that names its version, so that the forms can be
distinguished without trial (docs/formats.md, "Content"). Records of a collection have an envelope of the second
version; all other chunks are written as before.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from xtrace_core import metadata
from xtrace_core.wire import MetaData
from xtrace_sdk.errors import InvalidArgument, UnknownContent

VectorCopy = NDArray[np.int8] | NDArray[np.float32]
"""One finite vector `(dim,)`: its elements, or a positive multiple of them, rounded to -127…127."""

_MARK: Final = b"\xff"
_RECORD_MARK: Final = b"\xfe"
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True, repr=False)
class RecordPart:
    """The parts of a record's chunk besides its text and the copy of its vector."""

    id: str
    """The user's id; empty for the collection's own chunk."""
    namespace: str
    attributes: str
    """The record's metadata, a JSON object, as JSON."""
    visible: bytes
    """The digest of its tags and facets on the service: see `metadata_digest`."""
    has_text: bool = True
    has_vector: bool = True
    """Whether it has a vector; if not, the stored one is a placeholder."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Content:
    """The parts of a chunk's content; None for those that it lacks."""

    text: str
    meta_data: dict[str, Any] | None = None
    """Tags and facets that the service does not see, in the form of the service's `meta_data`."""
    vector_copy: VectorCopy | None = None
    """The vector before it was reduced to bits; its dtype shows the kind of copy."""
    name: str | None = None
    """The user's name for the chunk; the service has a pseudonym."""
    record: RecordPart | None = None
    """The parts of a record, whose `meta_data` and `name` are None, because the service stores its hashes unchanged."""


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    meta_data: MetaData | UnsetType = UNSET
    int8: bytes | UnsetType = UNSET
    float32: bytes | UnsetType = UNSET
    name: str | UnsetType = UNSET


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    namespace: str
    attributes: str
    visible: Annotated[bytes, msgspec.Meta(min_length=_DIGEST_BYTES, max_length=_DIGEST_BYTES)]
    vector: bool
    text: str | UnsetType = UNSET
    int8: bytes | UnsetType = UNSET
    float32: bytes | UnsetType = UNSET


E = TypeVar("E", _Envelope, _Record)


def pack(content: Content) -> bytes:
    """Returns the plaintext for the content cipher; a text alone is its UTF-8, as every client of the format writes it.

    Raises `InvalidArgument` for text or metadata that cannot be encoded as UTF-8.
    """
    try:
        if content.record is not None:
            return _RECORD_MARK + msgspec.msgpack.encode(_with_copy(_record(content, content.record), content))
        if content.meta_data is None and content.vector_copy is None and content.name is None:
            return content.text.encode()
        return _MARK + msgspec.msgpack.encode(_with_copy(_envelope(content), content))
    except UnicodeEncodeError:  # its attributes hold the text
        raise InvalidArgument(
            "the content contains unpaired surrogates, expected text that can be encoded as UTF-8"
        ) from None


def unpack(plaintext: bytes) -> Content:
    """Parses a decrypted, authenticated plaintext.

    Raises `UnknownContent` if it is neither UTF-8 nor an envelope of a known version.
    """
    try:
        if plaintext.startswith(_RECORD_MARK):
            return _content_of(msgspec.msgpack.decode(plaintext[len(_RECORD_MARK) :], type=_Record))
        if not plaintext.startswith(_MARK):
            return Content(plaintext.decode())
        envelope = msgspec.msgpack.decode(plaintext[len(_MARK) :], type=_Envelope)
        name = None if envelope.name is UNSET else envelope.name
        return Content(envelope.text, _meta_data(envelope), _vector_copy(envelope), name)
    except ValueError:  # also from msgspec, the metadata and UTF-8; their messages contain parts of the text
        raise UnknownContent(
            "the content is authentic, but its format is unknown: it was written by a newer version or other "
            "software; update XTrace"
        ) from None


def _envelope(content: Content) -> _Envelope:
    envelope = _Envelope(content.text)
    if content.meta_data is not None:
        envelope.meta_data = metadata.parse_meta_data(content.meta_data)
    if content.name is not None:
        envelope.name = content.name
    return envelope


def metadata_digest(meta_data: Mapping[str, Any]) -> bytes:
    """Returns a digest (16 bytes) of the tags and facets of a chunk that are set on the service."""
    return hashlib.sha256(msgspec.json.encode(meta_data, order="sorted")).digest()[:_DIGEST_BYTES]


def _record(content: Content, record: RecordPart) -> _Record:
    packed = _Record(record.id, record.namespace, record.attributes, record.visible, record.has_vector)
    if record.has_text:
        packed.text = content.text
    return packed


def _content_of(packed: _Record) -> Content:
    has_text = packed.text is not UNSET
    record = RecordPart(
        packed.id, packed.namespace, packed.attributes, packed.visible, has_text=has_text, has_vector=packed.vector
    )
    return Content(packed.text if packed.text is not UNSET else "", None, _vector_copy(packed), None, record)


def _with_copy(packed: E, content: Content) -> E:
    if content.vector_copy is not None:
        if content.vector_copy.dtype == np.int8:
            packed.int8 = content.vector_copy.tobytes()
        else:
            packed.float32 = content.vector_copy.astype("<f4").tobytes()
    return packed


def _meta_data(envelope: _Envelope) -> dict[str, Any] | None:
    if envelope.meta_data is UNSET:
        return None
    checked: dict[str, Any] = msgspec.to_builtins(metadata.parse_meta_data(msgspec.to_builtins(envelope.meta_data)))
    return checked


def _vector_copy(envelope: _Envelope | _Record) -> VectorCopy | None:
    if envelope.int8 is not UNSET and envelope.float32 is not UNSET:
        raise ValueError("two copies of one vector")
    copy: VectorCopy
    if envelope.int8 is not UNSET:
        copy = np.frombuffer(envelope.int8, np.int8)
    elif envelope.float32 is not UNSET:
        copy = np.frombuffer(envelope.float32, "<f4").astype(np.float32)
    else:
        return None
    if not len(copy) or not np.isfinite(copy).all():
        raise ValueError("a vector of no elements, or of some that are not finite numbers")
    return copy
