"""Checks callers' arguments and converts them to the payloads of `xtrace_core.wire`."""

import base64
import binascii
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from xtrace_core import limits, metadata, metadata_filter, wire
from xtrace_core.write_cost import write_cost
from xtrace_sdk.errors import InvalidArgument, InvalidFilter, InvalidMetaData

T = TypeVar("T")
C = TypeVar("C", wire.NewChunk, wire.ChunkUpdate, wire.ChunkPatch)

LARGEST_BODY_BYTES: Final = 32 * 1024 * 1024
"""Writes with larger bodies are split: services accept 64 MiB by default, proxies often less."""

_NEW_CHUNK_KEYS: Final = frozenset(("chunk_content", "index", "meta_data", "name", "nonce"))
_UPDATE_KEYS: Final = _NEW_CHUNK_KEYS | {"chunk_id", "if_updated_at"}


def ciphertexts(index: Any) -> list[bytes]:
    """Returns an encrypted vector in its wire format.

    Accepts an iterable of ciphertexts (integers, their little-endian bytes or the base64 of these), or an object with
    an attribute or method `ciphertexts` that returns such bytes.
    """
    fast = getattr(index, "ciphertexts", index)
    try:
        if isinstance(fast, bytes | bytearray | str | Mapping):  # their elements would look like ciphertexts
            raise TypeError
        return [_ciphertext(element) for element in (fast() if callable(fast) else fast)]
    except (TypeError, OverflowError, binascii.Error, ValueError):
        raise InvalidArgument(
            f"an index or query is {type(index).__name__}, expected a list of positive integers, of their "
            "little-endian bytes, or of the base64 of these, as the execution context returns it"
        ) from None


def _ciphertext(element: Any) -> bytes:
    if isinstance(element, str):
        return base64.b64decode(element, validate=True)
    return element if isinstance(element, bytes) else wire.ciphertext_to_bytes(operator.index(element))


def own_indexes(chunks: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Returns the `index` of each chunk. Raises `InvalidArgument` for a chunk without one."""
    for position, chunk in enumerate(chunks):
        if chunk.get("index") is None:
            raise InvalidArgument(
                f"chunk {position} has no index: put its encrypted vector under that key, or pass all of them as index="
            )
    return [chunk["index"] for chunk in chunks]


class _Config(msgspec.Struct):
    version: Any = None


def is_native(config: str) -> bool:
    """Whether a context's public `config` names a version of this software's format."""
    try:
        return msgspec.json.decode(config, type=_Config).version is not None
    except (msgspec.DecodeError, UnicodeError):
        return False


def new_chunks(db: Sequence[Mapping[str, Any]], index: Sequence[Any]) -> list[wire.NewChunk]:
    """Returns encrypted chunks with their encrypted vectors, one for each, for insertion."""
    return [
        wire.NewChunk(**_fields(chunk, encrypted, _NEW_CHUNK_KEYS)) for chunk, encrypted in zip(db, index, strict=True)
    ]


def chunk_updates(updates: Sequence[Mapping[str, Any]], index: Sequence[Any]) -> list[wire.ChunkUpdate]:
    """Returns encrypted chunks with their ids and encrypted vectors, which replace stored ones."""
    return [
        wire.ChunkUpdate(
            chunk_id=_chunk_id_of(update),
            if_updated_at=update.get("if_updated_at"),
            **_fields(update, encrypted, _UPDATE_KEYS),
        )
        for update, encrypted in zip(updates, index, strict=True)
    ]


def chunk_patches(patches: Sequence[Mapping[str, Any]]) -> list[wire.ChunkPatch]:
    """Returns changes of single fields of stored chunks; an `index` includes its nonce."""
    return [_chunk_patch(patch) for patch in patches]


def _chunk_patch(patch: Mapping[str, Any]) -> wire.ChunkPatch:
    _refuse_unknown(patch, _UPDATE_KEYS)
    changed = wire.ChunkPatch(chunk_id=_chunk_id_of(patch))
    if "if_updated_at" in patch:
        changed.if_updated_at = patch["if_updated_at"]
    if "chunk_content" in patch:
        changed.chunk_content = _content(patch)
    if "name" in patch:
        changed.name = patch["name"]
    if "meta_data" in patch:
        changed.meta_data = meta_data_patch(patch["meta_data"])
    if "index" in patch:
        changed.index = ciphertexts(patch["index"])
    nonce = (patch["nonce"] if "nonce" in patch else getattr(patch.get("index"), "nonce", None)) or None
    if nonce is not None or "nonce" in patch:
        changed.nonce = nonce
    return changed


def _fields(chunk: Mapping[str, Any], index: Any, keys: frozenset[str]) -> dict[str, Any]:
    _refuse_unknown(chunk, keys)
    return {
        "chunk_content": _content(chunk),
        "index": ciphertexts(index),
        "meta_data": _meta_data(chunk.get("meta_data")),
        "name": chunk.get("name"),
        "nonce": chunk.get("nonce", getattr(index, "nonce", None)) or None,  # empty: the context does not use nonces
    }


def _content(chunk: Mapping[str, Any]) -> str:
    content = chunk.get("chunk_content")
    if not isinstance(content, str):
        raise InvalidArgument(f"chunk_content is {type(content).__name__}, expected the encrypted content, a text")
    return content


def _chunk_id_of(chunk: Mapping[str, Any]) -> int:
    return chunk_ids([chunk.get("chunk_id")])[0]


def _refuse_unknown(chunk: Mapping[str, Any], keys: frozenset[str]) -> None:
    if not isinstance(chunk, Mapping):
        raise InvalidArgument(f"a chunk is {type(chunk).__name__}, expected a dict")
    if "base_name" in chunk:
        raise InvalidArgument(
            "a chunk has a base_name, which is the same in every knowledge base: store it with DataLoader.dump_db "
            "or update_chunks, which derive the name for this one"
        )
    if unknown := set(chunk) - keys:
        named = ", ".join(sorted(map(str, unknown)))
        raise InvalidArgument(f"a chunk has the keys {named}, expected only {', '.join(sorted(keys))}")


def _meta_data(value: Any) -> wire.MetaData | None:
    try:
        return metadata.parse_meta_data(value)
    except metadata.InvalidMetaData as error:
        raise InvalidMetaData(str(error)) from None


def meta_data_patch(value: Any) -> wire.MetaData:
    """A change of metadata: None removes a field, an absent field stays."""
    try:
        return metadata.parse_patch(value)
    except metadata.InvalidMetaData as error:
        raise InvalidMetaData(str(error)) from None


def meta_filter(value: Any) -> Any:
    """Validates a filter, an object or its JSON text, and returns it for sending."""
    try:
        metadata_filter.parse_filter(value)
    except metadata_filter.InvalidFilter as error:
        raise InvalidFilter(str(error)) from None
    return {} if value is None else value


def chosen_filter(value: Any) -> Any:
    """The same for changes that cannot be undone: rejects None and JSON's null, which are probably mistakes."""
    try:
        metadata_filter.parse_chosen_filter(value)
    except metadata_filter.InvalidFilter as error:
        raise InvalidFilter(str(error)) from None
    return value


def projection(fields: Iterable[str] | None) -> list[str] | None:
    """The fields to return; None means the service's default."""
    if fields is None:
        return None
    if isinstance(fields, str):
        raise InvalidArgument("projection is a text, expected a list of field names")
    chosen = list(fields)
    unknown = [field for field in chosen if field not in wire.PROJECTION_FIELDS]
    if unknown:
        named = ", ".join(str(field)[:64] for field in unknown[:10])
        known = ", ".join(sorted(wire.PROJECTION_FIELDS))
        raise InvalidArgument(f"projection names {named}, expected some of {known}")
    return chosen


def chunk_ids(ids: Iterable[Any]) -> list[int]:
    """Returns chunk ids as plain integers, in the same order."""
    plain = []
    for chunk_id in ids:
        try:
            plain.append(operator.index(chunk_id))
        except TypeError:
            kind = type(chunk_id).__name__
            raise InvalidArgument(f"a chunk id is {kind}, expected an integer from the service") from None
    return plain


def id_range(bounds: Sequence[int] | None) -> tuple[int, int] | None:
    """Returns the lowest and highest chunk id of a search, inclusive."""
    if bounds is None:
        return None
    if len(bounds) != 2:
        raise InvalidArgument(f"range_filter has {len(bounds)} elements, expected (lowest, highest) chunk ids")
    lowest, highest = chunk_ids(bounds)
    return lowest, highest


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a write: as MessagePack, or as JSON if needed."""

    payload: msgspec.Struct
    msgpack: bytes
    chunks: int

    def json(self) -> bytes:
        """The body as JSON, for services that do not support MessagePack; a third longer."""
        return encode(self.payload)


def body(payload: msgspec.Struct, chunks: int) -> Body:
    """Returns the body that writes this number of chunks. Raises `InvalidArgument` for values that cannot be sent."""
    return Body(payload, encode_msgpack(payload), chunks)


def bodies(chunks: list[C], payload: Callable[[list[C]], msgspec.Struct]) -> list[Body]:
    """Yields the bodies that write these chunks, in order, each within the limits."""
    if len(chunks) == 1 or (len(chunks) <= limits.MAX_CHUNKS and write_cost(chunks) <= limits.MAX_WRITE_COST):
        whole = body(payload(chunks), len(chunks))
        # Nor must it be too long as JSON.
        if len(whole.msgpack) * 4 <= LARGEST_BODY_BYTES * 3 or len(chunks) == 1:
            return [whole]
    middle = len(chunks) // 2
    return bodies(chunks[:middle], payload) + bodies(chunks[middle:], payload)


def encode(payload: msgspec.Struct) -> bytes:
    """Returns the payload as JSON. Raises `InvalidArgument` for values that cannot be sent."""
    return _encoded(msgspec.json.encode, payload)


def encode_msgpack(payload: msgspec.Struct) -> bytes:
    """Returns the payload as MessagePack. Raises `InvalidArgument` for values that cannot be sent."""
    return _encoded(msgspec.msgpack.encode, payload)


def _plain_text(value: Any) -> str:
    """Returns a plain string for a subclass of str, such as NumPy's, which msgspec cannot encode."""
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError(f"objects of type {type(value).__name__} cannot be sent")


def _encoded(encoder: Callable[..., bytes], payload: msgspec.Struct) -> bytes:
    try:
        return encoder(payload, enc_hook=_plain_text)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidArgument(f"an argument cannot be sent: {error}") from None


def in_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yields the items in order, in batches of `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
