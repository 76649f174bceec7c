"""What is encrypted as the content of a chunk: its text alone, or an envelope with more of the chunk beside it.

An envelope begins with a byte that UTF-8 never holds, so the two are told apart without trying (docs/formats.md,
"Content").
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from xtrace_core import metadata
from xtrace_core.wire import MetaData
from xtrace_sdk.errors import InvalidArgument, UnknownContent

VectorCopy = NDArray[np.int8] | NDArray[np.float32]
"""One vector `(dim,)`, finite: its elements, or a positive multiple of them rounded to -127…127."""

_MARK: Final = b"\xff"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Content:
    """What a chunk's content holds; what is None it does not have."""

    text: str
    meta_data: dict[str, Any] | None = None
    """Tags and facets that the service does not see, in the form of the service's `meta_data`."""
    vector_copy: VectorCopy | None = None
    """The vector before it was reduced to bits; its dtype says which copy it is."""
    name: str | None = None
    """What the user calls the chunk; the service has a pseudonym."""


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    meta_data: MetaData | UnsetType = UNSET
    int8: bytes | UnsetType = UNSET
    float32: bytes | UnsetType = UNSET
    name: str | UnsetType = UNSET


def pack(content: Content) -> bytes:
    """The plaintext for the content cipher; a text alone is its UTF-8, as every client of the format writes it.

    Raises `InvalidArgument` for text or metadata that UTF-8 cannot hold.
    """
    try:
        if content.meta_data is None and content.vector_copy is None and content.name is None:
            return content.text.encode()
        return _MARK + msgspec.msgpack.encode(_envelope(content))
    except UnicodeEncodeError:  # its attributes hold the text
        raise InvalidArgument("the content holds unpaired surrogates, expected text that UTF-8 can hold") from None


def unpack(plaintext: bytes) -> Content:
    """The content of a decrypted, authenticated plaintext.

    Raises `UnknownContent` for what neither is UTF-8 nor an envelope as this version knows it.
    """
    try:
        if not plaintext.startswith(_MARK):
            return Content(plaintext.decode())
        envelope = msgspec.msgpack.decode(plaintext[len(_MARK) :], type=_Envelope)
        name = None if envelope.name is UNSET else envelope.name
        return Content(envelope.text, _meta_data(envelope), _vector_copy(envelope), name)
    except ValueError:  # also of msgspec, of the metadata and of UTF-8; their sentences hold parts of the text
        raise UnknownContent(
            "the content is genuine, but neither text nor an envelope of a form that this version knows: "
            "it was written by a newer version, or by other software; update this one"
        ) from None


def _envelope(content: Content) -> _Envelope:
    envelope = _Envelope(content.text)
    if content.meta_data is not None:
        envelope.meta_data = metadata.parse_meta_data(content.meta_data)
    if content.name is not None:
        envelope.name = content.name
    if content.vector_copy is not None:
        if content.vector_copy.dtype == np.int8:
            envelope.int8 = content.vector_copy.tobytes()
        else:
            envelope.float32 = content.vector_copy.astype("<f4").tobytes()
    return envelope


def _meta_data(envelope: _Envelope) -> dict[str, Any] | None:
    if envelope.meta_data is UNSET:
        return None
    checked: dict[str, Any] = msgspec.to_builtins(metadata.parse_meta_data(msgspec.to_builtins(envelope.meta_data)))
    return checked


def _vector_copy(envelope: _Envelope) -> VectorCopy | None:
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
