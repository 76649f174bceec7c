"""A user's chunks before encryption: their required form, and the names by which a later load recognises them."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np

from xtrace_core import metadata
from xtrace_sdk.arguments import shown
from xtrace_sdk.errors import InvalidArgument, InvalidMetaData
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.inference.model import EmbeddingModel

_KEYS = frozenset({"chunk_content", "meta_data", "chunk_id", "name"})


@dataclass(frozen=True, slots=True)
class PlainChunk:
    """A checked chunk, not yet encrypted."""

    position: int
    """Its place in the collection, from 0."""
    content: str
    meta_data: dict[str, Any]
    name: str | None
    """The user's name for it, encrypted with the text."""
    base_name: str
    """It is the same in every knowledge base, so it is never sent; with a salt, it gives the chunk's name."""


class PassedOverText(NamedTuple):
    """A chunk that a load did not store, and why."""

    position: int
    """Its place in the collection, from 0."""
    reason: str


class UnreadableText(InvalidArgument):
    """A text, or a text in the metadata, cannot be encoded as UTF-8."""


def plain_chunks(
    collection: Iterable[Mapping[str, Any]],
    context: ExecutionContext,
    vector_copy: CopyKind | None = None,
) -> list[PlainChunk]:
    """Returns all chunks of a collection from `ChunkReader`."""
    reader = ChunkReader(context, vector_copy)
    return [reader.read(item) for item in collection]


class ChunkReader:
    """Checks the chunks of one collection (`{"chunk_content": str, "meta_data": {…}}`), in order, and names them.

    A base name is a pseudonym of the metadata, the text, the user's name, and the number of equal chunks before it in
    the collection. So the same collection gives the same base names, and inserting a paragraph changes no others. A
    chunk with a copy of its vector has a different base name than the same chunk without, and so does one whose vector
    is from a different model, if models are known.
    """

    def __init__(
        self, context: ExecutionContext, vector_copy: CopyKind | None = None, model: EmbeddingModel | None = None
    ) -> None:
        """`model` is the model of the vectors, by default the context's."""
        model = model or context.embedding_model
        self.passed_over: list[PassedOverText] = []
        self.base_names: set[str] = set()
        """The base names of the chunks so far: all that is kept of a chunk."""
        self._position = 0
        self._context = context
        self._vector = (
            *(() if vector_copy is None else (vector_copy,)),
            *(() if model is None else (model.as_text(),)),
        )
        """The part of a base name that depends on the vector."""
        self._repeated: Counter[str] = Counter()
        """How often a chunk with this base name was repeated."""

    def read(self, item: Mapping[str, Any]) -> PlainChunk:
        """Returns the next chunk. Raises `InvalidArgument` for the wrong form, `InvalidMetaData` for wrong metadata."""
        position, self._position = self._position, self._position + 1
        content, meta_data, name = _checked(position, item)
        try:
            base_name = self._base_name(msgspec.json.encode(meta_data, order="sorted").decode(), content, name)
        except UnicodeEncodeError:  # its attributes contain the text
            raise UnreadableText(
                f"chunk {position} of the collection contains unpaired surrogates, expected text that can be "
                f"encoded as UTF-8"
            ) from None
        return PlainChunk(position, content, meta_data, name, base_name)

    def read_or_pass_over(self, item: Mapping[str, Any], *, is_strict: bool) -> PlainChunk | None:
        """Returns the next chunk; None for a blank one or one that is not valid Unicode, which is added to
        `passed_over`.

        Raises what `read` raises and, if strict, also for those.
        """
        position = self._position
        if is_blank(item):
            self._position += 1
            reason = "its text is blank"
        else:
            try:
                return self.read(item)
            except UnreadableText:
                reason = "its text or metadata contains unpaired surrogates"
        if is_strict:
            raise InvalidArgument(f"chunk {position} of the collection cannot be loaded: {reason}")
        self.passed_over.append(PassedOverText(position, reason))
        return None

    def _base_name(self, meta_data: str, content: str, name: str | None) -> str:
        parts = (*self._vector, *(() if name is None else ("name", name)))
        given = self._context.pseudonym("chunk name", meta_data, content, "0", *parts)
        if given in self.base_names:
            self._repeated[given] += 1
            given = self._context.pseudonym("chunk name", meta_data, content, str(self._repeated[given]), *parts)
        self.base_names.add(given)
        return given


def chunk_id_of(item: Any) -> int:
    """Returns the id of the stored chunk to replace. Raises `InvalidArgument` if it is missing."""
    chunk_id = item.get("chunk_id") if isinstance(item, Mapping) else None
    if isinstance(chunk_id, bool) or not isinstance(chunk_id, int | np.integer):
        raise InvalidArgument(
            'an update does not have a chunk_id, expected {"chunk_id": 7, "chunk_content": a text, "meta_data": {…}}'
        )
    return int(chunk_id)


def is_blank(item: Any) -> bool:
    """Whether a chunk's text is blank: a search would find it for any question."""
    content = item.get("chunk_content") if isinstance(item, Mapping) else None
    return isinstance(content, str) and not content.strip()


def _checked(position: int, item: Mapping[str, Any]) -> tuple[str, dict[str, Any], str | None]:
    if not isinstance(item, Mapping):
        raise InvalidArgument(
            f"chunk {position} of the collection is a {type(item).__name__}, "
            'expected {"chunk_content": a text, "meta_data": {…}}'
        )
    if "chunk_id" in item:
        warnings.warn("chunk_id is ignored in chunks to load: the service assigns the ids of new chunks", stacklevel=2)
    name = item.get("name")
    if name is not None and not isinstance(name, str):
        raise InvalidArgument(f"chunk {position} of the collection has a name that is {shown(name)}, expected a text")
    if set(item) - _KEYS or not isinstance(item.get("chunk_content"), str):
        raise InvalidArgument(
            f"chunk {position} of the collection has the keys {', '.join(sorted(map(str, item)))}, "
            "expected chunk_content (a text), and optionally meta_data and name"
        )
    try:
        meta_data = msgspec.to_builtins(metadata.parse_meta_data(item.get("meta_data")))
    except metadata.InvalidMetaData as error:
        raise InvalidMetaData(f"chunk {position} of the collection: {error}") from None
    return (
        str(item["chunk_content"]),
        meta_data,
        None if name is None else str(name),
    )  # also for subclasses such as NumPy's
