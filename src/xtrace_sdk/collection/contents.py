"""Converts records to encrypted chunks and back, with the context's keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_sdk.collection.filterable import FilterableFields
from xtrace_sdk.collection.metadata import MetaData, from_text
from xtrace_sdk.collection.record import CheckedRecord, Record
from xtrace_sdk.collection.tokens import Tokens
from xtrace_sdk.errors import InvalidAnswer, InvalidRecord, InvalidVector, OtherRecord, UnknownContent
from xtrace_sdk.x_vec.chunks.envelope import Content, RecordPart, VectorCopy, metadata_digest, pack
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind, as_floats, copy_kind, vector_copies
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.inference.model import EmbeddingModel, vector_form
from xtrace_sdk.x_vec.retrievers.closeness import similarities_to
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch

RECORD_FIELDS = ("chunk_content", "created_at", "updated_at")
"""The fields of a chunk that are fetched to read a record."""

_SHORT: Final = 400
"""JSON up to this length cannot need too many hashes: at most 14, for a number with a range (`"a":1,`)."""

EncryptedRecords = list[dict[str, Any]]
"""Chunks for `ChunkStore`: each has `chunk_content`, `meta_data` and `base_name`."""


@dataclass(frozen=True, slots=True, repr=False)
class ReadRecord:
    """A stored record after decryption."""

    id: str
    text: str | None
    metadata: MetaData
    content: Content
    created_at: datetime | None
    updated_at: datetime | None
    has_vector: bool

    def as_record(self, include_vector: bool) -> Record:
        """Returns the record for the caller."""
        vector = _as_vector(self.content.vector_copy) if include_vector else None
        return Record(self.id, self.text, self.metadata, vector, self.created_at, self.updated_at)


class RecordCipher(Secretive):
    """Encrypts and reads the records of one namespace under one context."""

    __slots__ = ("_context", "_tokens", "_vector_copy", "form", "namespace")

    def __init__(
        self,
        context: ExecutionContext,
        namespace: str,
        tokens: Tokens,
        vector_copy: CopyKind | None,
        model: EmbeddingModel | None,
    ) -> None:
        """Raises `InvalidArgument` for an unknown kind of copy, `OtherModel` for a model with a different number of
        bits."""
        self._context = context
        self.namespace = namespace
        self._tokens = tokens
        self._vector_copy = copy_kind(vector_copy)
        self.form = vector_form(context.embed_len(), model)

    def base_name(self, record_id: str) -> str:
        """Returns the base name, from which a record's name in the knowledge base is derived."""
        return self._context.pseudonym("record", self.namespace, record_id)

    # Encrypting

    def encrypt(
        self, records: Sequence[CheckedRecord], vectors: Sequence[Any], fields: FilterableFields
    ) -> tuple[EncryptedIndexBatch, EncryptedRecords]:
        """Returns `(index, db)` in the order of the records; a vector that is None or empty means no vector.

        Raises `InvalidVector` and `InvalidRecord`, which name the position.
        """
        given = [self._elements(record, vector) for record, vector in zip(records, vectors, strict=True)]
        copies = self._copies(records, given)
        index = self._context.homomorphic.encrypt_vec_batch(self._bits(given))
        db = [
            self._encrypted(record, copy, fields, has_vector=vector is not None, nonce=encrypted.nonce)
            for record, vector, copy, encrypted in zip(records, given, copies, index, strict=True)
        ]
        return index, db

    def content(
        self,
        record: CheckedRecord,
        copy: VectorCopy | None,
        fields: FilterableFields,
        *,
        base_name: str,
        has_vector: bool,
    ) -> tuple[bytes, dict[str, Any]]:
        """Returns the encrypted part of a record, and its tags and facets for the service. Raises `InvalidRecord`."""
        meta_data: dict[str, Any] = {"tag1": self._tokens.all_records}
        if has_vector:
            meta_data["tag2"] = self._tokens.with_vector
        if facets := self._facets(record, base_name, fields):
            meta_data["facets"] = facets
        return self._packed(record.id, record.text, record.attributes, meta_data, copy, has_vector), meta_data

    def check_sizes(self, records: Sequence[CheckedRecord], fields: FilterableFields) -> None:
        """Raises `InvalidRecord` if a record needs too many hashes."""
        for record in records:
            if len(record.attributes) > _SHORT:
                self._facets(record, "", fields)

    def _facets(self, record: CheckedRecord, base_name: str, fields: FilterableFields) -> list[str]:
        try:
            return self._tokens.of(record.metadata, fields, base_name)
        except InvalidRecord as error:
            raise InvalidRecord(f"record {record.position}: {error}") from None

    def kept_by_collection(self, attributes: str) -> tuple[EncryptedIndexBatch, EncryptedRecords]:
        """Returns `(index, db)` of the collection's own chunk, under the empty id."""
        index = self._context.homomorphic.encrypt_vec_batch(self._bits([None]))
        meta_data = {"tag3": self._tokens.kept}
        packed = self._packed("", None, attributes, meta_data, None, False)
        content = self._context.aes.encrypt(packed, index[0].nonce)
        return index, [{"chunk_content": content, "meta_data": meta_data, "base_name": self.base_name("")}]

    def _packed(
        self,
        record_id: str,
        text: str | None,
        attributes: str,
        meta_data: Mapping[str, Any],
        copy: VectorCopy | None,
        has_vector: bool,
    ) -> bytes:
        part = RecordPart(
            record_id,
            self.namespace,
            attributes,
            metadata_digest(meta_data),
            has_text=text is not None,
            has_vector=has_vector,
        )
        return pack(Content(text or "", None, copy, None, part))

    def _encrypted(
        self,
        record: CheckedRecord,
        copy: VectorCopy | None,
        fields: FilterableFields,
        *,
        has_vector: bool,
        nonce: bytes,
    ) -> dict[str, Any]:
        base_name = self.base_name(record.id)
        packed, meta_data = self.content(record, copy, fields, base_name=base_name, has_vector=has_vector)
        content = self._context.aes.encrypt(packed, nonce)
        return {"chunk_content": content, "meta_data": meta_data, "base_name": base_name}

    def _elements(self, record: CheckedRecord, vector: Any) -> NDArray[Any] | None:
        if vector is None or (hasattr(vector, "__len__") and not len(vector)):
            return None
        try:
            if self._vector_copy is not None and not _are_bits(vector):
                return as_floats(np.asarray(vector, np.float32), self.form.dim)
            return self.form.elements(vector)
        except (InvalidVector, ValueError, TypeError) as error:
            why = error if isinstance(error, InvalidVector) else f"expected {self.form.dim} floats"
            raise InvalidVector(f"the vector of record {record.position}: {why}") from None

    def _copies(
        self, records: Sequence[CheckedRecord], vectors: Sequence[NDArray[Any] | None]
    ) -> list[VectorCopy | None]:
        copies: list[VectorCopy | None] = [None] * len(records)
        floats = {i: one for i, one in enumerate(vectors) if one is not None and one.dtype.kind == "f"}
        if self._vector_copy is not None and floats:
            for i, copy in zip(floats, vector_copies(np.stack(list(floats.values())), self._vector_copy), strict=True):
                copies[i] = copy
        return copies

    def _bits(self, vectors: Sequence[NDArray[Any] | None]) -> NDArray[np.uint8]:
        """Returns the bits `(n, embed_len)`, with zeros for records without a vector."""
        bits = np.zeros((len(vectors), self.form.embed_len), dtype=np.uint8)
        floats = {i: one for i, one in enumerate(vectors) if one is not None and one.dtype.kind == "f"}
        if floats:
            bits[list(floats)] = self.form.bits(np.stack(list(floats.values())))
        for i, one in enumerate(vectors):
            if one is not None and i not in floats:
                bits[i] = one
        return bits

    # Reading

    def read_kept(self, chunk: Mapping[str, Any], content: Content) -> MetaData:
        """Reads the collection's own chunk. Raises `OtherRecord` for a different one, `UnknownContent`."""
        part = content.record
        if part is None or part.id or part.namespace != self.namespace:
            raise OtherRecord(
                f"the service returned chunk {chunk['chunk_id']} as the collection's own chunk, but it is a different "
                "one: do not trust its answer"
            )
        return _metadata(chunk, part)

    def read(self, chunk: Mapping[str, Any], content: Content | None) -> ReadRecord:
        """Reads the record from a chunk with `RECORD_FIELDS` and its decrypted content.

        Raises `OtherRecord` for a chunk that is not a record of the namespace, `UnknownContent`.
        """
        part = None if content is None else content.record
        if content is None or part is None or part.namespace != self.namespace or not part.id:
            raise OtherRecord(
                f"chunk {chunk['chunk_id']} is not a record of this collection and namespace, but the service "
                "returned it as one: do not trust its answer"
            )
        return ReadRecord(
            part.id,
            content.text if part.has_text else None,
            _metadata(chunk, part),
            content,
            _time(chunk.get("created_at")),
            _time(chunk.get("updated_at")),
            part.has_vector,
        )

    def query(self, vector: Any) -> NDArray[Any]:
        """Returns a query's checked vector: floats `(dim,)` or bits. Raises `InvalidVector`."""
        return self.form.elements(vector if _are_bits(vector) else np.asarray(vector, np.float32))

    def query_bits(self, query: NDArray[Any]) -> NDArray[np.uint8]:
        """Returns the bits of a checked query."""
        return self.form.as_bits(query)

    def similarities(self, query: NDArray[Any], found: Sequence[ReadRecord], distances: Sequence[int]) -> list[float]:
        """The cosine similarity of each record to a query: see `similarities_to`."""
        return similarities_to(self.form, query, [one.content.vector_copy for one in found], distances)


def _are_bits(vector: Any) -> bool:
    """Whether the elements are integers or booleans; everything else counts as floats."""
    try:
        return np.asarray(vector).dtype.kind in "biu"
    except ValueError:
        return False


def _as_vector(copy: VectorCopy | None) -> NDArray[np.float32] | None:
    if copy is None or copy.dtype != np.int8:
        return None if copy is None else copy.astype(np.float32)
    floats: NDArray[np.float32] = copy.astype(np.float32)
    return floats / (np.float32(np.linalg.norm(floats)) or np.float32(1))


def _metadata(chunk: Mapping[str, Any], part: RecordPart) -> MetaData:
    try:
        return from_text(part.attributes)
    except ValueError:  # its attributes contain the metadata
        raise UnknownContent(f"chunk {chunk['chunk_id']}: its metadata is not a JSON object") from None


def _time(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise InvalidAnswer("the server returned a time that is not in ISO 8601") from None
