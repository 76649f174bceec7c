"""Every exception that the SDK raises on purpose.

XTraceError
├── InputError                     the caller's input is not valid (also a ValueError)
│   ├── InvalidArgument            a parameter, a setting or a key is missing or not valid
│   ├── InvalidCall                a synchronous call that would deadlock, or during interpreter shutdown
│   ├── InvalidVector              a vector of the wrong length, shape or kind
│   ├── OtherModel                 an embedding model other than the context's
│   ├── InvalidFilter              a metadata filter that is not valid
│   │   └── NotOnPrivateField      an operator or a sort order that hashed values do not support
│   ├── InvalidMetaData            metadata with unknown fields or values of the wrong type
│   ├── InvalidRecord              a record that a collection cannot store
│   ├── RecordNotFound             a record to update that does not exist
│   ├── RecordsExist               records to insert that already exist
│   ├── OtherCollection            a collection that was created with other filterable fields
│   ├── InvalidDocument            a file or folder that does not contain text to load
│   ├── DecoyGroupTooLarge         decoys would require too many chunks to be fetched together
│   ├── OtherRotation              a rotation into another context has begun
│   ├── InvalidManifest            a file that is not the expected manifest
│   └── InaccessibleFile           a file that cannot be read or written
├── KeyMaterialError               keys and execution contexts
│   ├── WrongKey                   the key or passphrase is not the one of this context
│   ├── KeyProviderFault           a key service or key file that cannot provide the key now
│   ├── InvalidContext             a context that is truncated, changed, foreign or not the requested one
│   ├── UnknownScheme              a context with a scheme that this version does not support
│   └── WeakParameters             key parameters that are too weak
├── TamperedData                   the service returned something other than what was stored
│   ├── InvalidRows                rows of a search that are not the sum of a stored vector and the query
│   ├── ContentTampered            content that cannot be authenticated
│   ├── ChangedSinceSearch         content that was replaced after the search that found it
│   ├── OtherRecord                a different record than the one requested
│   ├── ForeignNameSalt            a salt for names that was not made for this knowledge base
│   └── ServiceRolledBack          an older state of the knowledge base than this client has seen
├── NothingToSearch                nothing is stored under this context in the knowledge base, only under others
├── UnknownContent                 authentic content in a format that this version does not support
├── FaultDetected                  this machine computed incorrectly
├── ServerError                    an error answer of the server: one class for each code, or for the status
│   ├── InvalidRequest             422
│   │   ├── MalformedRequest       400
│   │   ├── UnsupportedMediaType   415
│   │   ├── FilterRefused          422 invalid_filter
│   │   ├── CiphertextRefused      422 invalid_ciphertext
│   │   ├── LimitExceeded          422 limit_exceeded
│   │   └── IdempotencyKeyReused   422 idempotency_key_reused
│   ├── Unauthenticated            401
│   │   └── KeyExpired             401 key_expired
│   ├── PermissionDenied           403
│   │   ├── OrganisationSuspended  403 suspended
│   │   └── QuotaExceeded          403 quota_exceeded
│   ├── NotFound                   404
│   │   ├── KnowledgeBaseNotFound  404 knowledge_base_not_found
│   │   ├── ContextNotFound        404 context_not_found
│   │   ├── ChunksNotFound         404 chunks_not_found
│   │   ├── SegmentNotFound        404 segment_not_found
│   │   ├── KeyNotFound            404 key_not_found
│   │   └── OrganisationNotFound   404 organisation_not_found
│   ├── MethodNotAllowed           405
│   ├── Conflict                   409
│   │   ├── ContextDiffers         409 context_differs
│   │   ├── ContextInUse           409 context_in_use
│   │   ├── ContextRetired         409 context_retired
│   │   ├── ChunksChanged          409 chunks_changed
│   │   ├── BlockOutdated          409 block_outdated
│   │   ├── SharedIndexOutdated    409 shared_index_outdated
│   │   └── NamesTaken             409 names_taken
│   ├── RequestTooSlow             408
│   ├── TooLarge                   413
│   │   ├── LineTooLong            414
│   │   └── HeadersTooLarge        431
│   ├── RateLimited                429
│   ├── Unavailable                502, 503, 504
│   │   ├── Overloaded             503 overloaded
│   │   ├── DeadlineExceeded       503 deadline_exceeded
│   │   ├── StorageReadOnly        503 storage_read_only
│   │   └── StorageFull            507
│   └── ServerFault                any other 5xx
│       └── BlockDamaged           500 block_damaged
├── NetworkError                   the service did not send a usable answer
│   ├── ServerUnreachable          no connection, or the connection was lost
│   ├── ServerTimeout              no answer in time
│   └── InvalidAnswer              an answer that violates the HTTP contract
│       └── AnswerTooLarge         an answer larger than this client accepts
├── PartlyStored                   a load that stopped before its end: what is stored, and why it stopped
├── EmbeddingError                 a model does not return a usable vector
│   ├── MissingPackage             an optional package is not installed
│   └── ProviderFault              the model or its service failed
│       └── TextRefused            it rejected texts, but may embed others
└── InferenceError                 a language model does not return a usable answer

The message of each is one or two sentences: what happened, what was expected, and what to do. It never contains a key,
a passphrase, a token, plaintext or the elements of a vector.
"""

from collections.abc import Sequence
from typing import ClassVar

_SHOWN_IDS = 10
_LONGEST_MESSAGE = 2000


class XTraceError(Exception):
    """The root of the tree.

    Messages are truncated to 2,000 characters, because a service or a file may put text of any length into one.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_cut(arg) if isinstance(arg, str) else arg for arg in args))


def _cut(message: str) -> str:
    if len(message) <= _LONGEST_MESSAGE:
        return message
    return f"{message[:_LONGEST_MESSAGE]}… (and {len(message) - _LONGEST_MESSAGE:,} more characters)"


# The caller's input


class InputError(XTraceError, ValueError):
    """The caller's input is not valid."""


class InvalidArgument(InputError):
    """A parameter, a setting or a key is missing or not valid."""


class InvalidCall(InputError):
    """A synchronous call that would deadlock, or during interpreter shutdown."""


class InvalidVector(InputError):
    """A vector of the wrong length, shape or kind."""


class OtherModel(InputError):
    """The embedding model is not the one that the context was created for; nothing was embedded or sent."""


class InvalidFilter(InputError):
    """The metadata filter is not valid; nothing was sent."""


class NotOnPrivateField(InvalidFilter):
    """The operator or sort order needs the values of a private field, of which the service has only hashes.

    Nothing was sent.
    """


class InvalidMetaData(InputError):
    """Metadata with unknown fields or values of the wrong type; nothing was sent."""


class InvalidRecord(InputError):
    """A record has no id, has metadata that is not JSON, or is too large; nothing was sent."""


class RecordNotFound(InputError):
    """The record to update does not exist; nothing was changed."""


class RecordsExist(InputError):
    """Some of the records already exist, and `on_conflict` is `fail`; nothing was stored.

    `positions` are their positions in the input, from 0.
    """

    def __init__(self, positions: Sequence[int], count: int) -> None:
        self.positions = list(positions)
        super().__init__(
            f"{len(self.positions)} of {count} records are in the collection already, or were given twice (positions "
            f"{shown_ids(self.positions)}), and on_conflict is fail: nothing was stored"
        )


class OtherCollection(InputError):
    """The collection was created with other filterable fields, which cannot be changed."""


class InvalidDocument(InputError):
    """A file or folder that does not contain text to load."""


class DecoyGroupTooLarge(InputError):
    """Decoys would require too many chunks to be fetched together; nothing was fetched."""


class OtherRotation(InputError):
    """The context is already being rotated into another one, whose id is `successor`; nothing was moved."""

    def __init__(self, context_id: str, successor: str) -> None:
        self.successor = successor
        super().__init__(
            f"the context {context_id} is being rotated into {successor}: continue with that one. If its keys, and "
            "with them the moved chunks, are lost, name it as instead_of (--instead-of) to rotate the rest again"
        )


class InvalidManifest(InputError):
    """The file is not a manifest, was changed, or is not the manifest that the context was created with."""


class InaccessibleFile(InputError):
    """A file that cannot be read or written."""


# Keys and contexts


class KeyMaterialError(XTraceError):
    """A problem with keys or execution contexts."""


class WrongKey(KeyMaterialError):
    """The key or passphrase is not the one that the context was created with."""


class KeyProviderFault(KeyMaterialError):
    """A key service or a key file cannot provide the key now; the message says why, and what to do."""


class InvalidContext(KeyMaterialError):
    """The context is truncated, changed, foreign or not the requested one."""


class UnknownScheme(KeyMaterialError):
    """The context has a scheme that this version does not support."""


class WeakParameters(KeyMaterialError):
    """The key parameters are too weak."""


# Integrity


class TamperedData(XTraceError):
    """The service returned something other than what was stored. It was not used; retrying does not help."""


class InvalidRows(TamperedData):
    """Rows of a search's answer that are not the sum of a stored vector and the query.

    `positions` counts from the first row of the answer; `chunk_ids` is None if the ids are not known. Both list the
    first bad rows; `count` is the total.
    """

    def __init__(
        self, positions: Sequence[int], chunk_ids: Sequence[int] | None = None, count: int | None = None
    ) -> None:
        self.positions = list(positions)
        self.count = len(self.positions) if count is None else count
        self.chunk_ids = None if chunk_ids is None else list(chunk_ids)
        what, named = ("rows", self.positions) if self.chunk_ids is None else ("chunks", self.chunk_ids)
        shown = shown_ids(named, self.count)
        super().__init__(
            f"the search failed: the service's answer is not valid for {self.count} {what} ({shown}): they "
            "were stored under another context, damaged or substituted. No result was used; "
            "`xtrace kb verify` finds every bad chunk, so that it can be replaced or deleted"
        )


class ContentTampered(TamperedData):
    """Content that cannot be authenticated: changed, foreign, or of another vector."""


class ChangedSinceSearch(TamperedData):
    """Content was replaced after the search that found it; search again. `chunk_id` is its id, if known."""

    def __init__(self, *args: object, chunk_id: int | None = None) -> None:
        super().__init__(*args)
        self.chunk_id = chunk_id


class OtherRecord(TamperedData):
    """The service returned a different record than the one requested, or one from another namespace."""


class ServiceRolledBack(TamperedData):
    """The service has an earlier state of a knowledge base than a local index has seen: it lost or withholds writes."""


class ForeignNameSalt(TamperedData):
    """The salt for names was not made for this knowledge base: it belongs to a copy, or was replaced."""


class NothingToSearch(XTraceError):
    """Nothing is stored under this context in the knowledge base, but chunks of other contexts may be."""


class UnknownContent(XTraceError):
    """The content is authentic, but was written by a newer version or other software in an unknown format."""


class FaultDetected(XTraceError):
    """This machine computed incorrectly; the result was discarded, because a wrong one can reveal a key."""


# The service


class ServerError(XTraceError):
    """The server rejected the request or failed; the message is the server's."""

    codes: ClassVar[tuple[str, ...]] = ()
    """The server's stable error codes that this class represents."""
    statuses: ClassVar[tuple[int, ...]] = ()
    """The HTTP statuses that it represents if the answer does not have a known code."""

    def __init__(self, message: str, *, status: int, code: str = "", retry_after: float | None = None) -> None:
        """`code` is empty, and `retry_after` (seconds) is None, if the server did not send them."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class InvalidRequest(ServerError):
    """The request is not valid; the server says which field, and why."""

    codes = ("invalid",)
    statuses = (422,)


class MalformedRequest(InvalidRequest):
    """The server could not read the request."""

    codes = ("malformed",)
    statuses = (400,)


class UnsupportedMediaType(InvalidRequest):
    """The server does not accept bodies of this type."""

    codes = ("unsupported_media_type",)
    statuses = (415,)


class FilterRefused(InvalidRequest):
    """The server rejected the metadata filter."""

    codes = ("invalid_filter",)


class CiphertextRefused(InvalidRequest):
    """An index or query does not fit the context's public key."""

    codes = ("invalid_ciphertext",)


class LimitExceeded(InvalidRequest):
    """One value exceeds a limit of the server, which the message names."""

    codes = ("limit_exceeded",)


class IdempotencyKeyReused(InvalidRequest):
    """The idempotency key was already used with a different body."""

    codes = ("idempotency_key_reused",)


class Unauthenticated(ServerError):
    """The key is missing, wrong, revoked or belongs to another organisation."""

    codes = ("unauthenticated",)
    statuses = (401,)


class KeyExpired(Unauthenticated):
    """The API key has expired; an administrator can create a new one."""

    codes = ("key_expired",)


class PermissionDenied(ServerError):
    """The key is valid, but lacks the permission."""

    codes = ("forbidden",)
    statuses = (403,)


class OrganisationSuspended(PermissionDenied):
    """The server's operator has suspended the organisation: its keys do not work until it is resumed."""

    codes = ("suspended",)


class QuotaExceeded(PermissionDenied):
    """The organisation has reached a quota, which the message names; nothing was stored."""

    codes = ("quota_exceeded",)


class NotFound(ServerError):
    """The object does not exist in this organisation."""

    codes = ("not_found",)
    statuses = (404,)


class KnowledgeBaseNotFound(NotFound):
    """The knowledge base does not exist."""

    codes = ("knowledge_base_not_found",)


class ContextNotFound(NotFound):
    """The server does not have this execution context."""

    codes = ("context_not_found",)


class ChunksNotFound(NotFound):
    """Some of the chunks do not exist; nothing was changed."""

    codes = ("chunks_not_found",)


class SegmentNotFound(NotFound):
    """The segment of a shared index was deleted, because the index was replaced: read the current one."""

    codes = ("segment_not_found",)


class KeyNotFound(NotFound):
    """The API key does not exist."""

    codes = ("key_not_found",)


class OrganisationNotFound(NotFound):
    """The organisation does not exist on this server; only the operator gets this error."""

    codes = ("organisation_not_found",)


class MethodNotAllowed(ServerError):
    """The address does not support this call: check whether it belongs to an XTrace server."""

    codes = ("method_not_allowed",)
    statuses = (405,)


class Conflict(ServerError):
    """The request conflicts with stored data."""

    codes = ("conflict",)
    statuses = (409,)


class ContextDiffers(Conflict):
    """The context was already saved with a different public part."""

    codes = ("context_differs",)


class ContextInUse(Conflict):
    """The context cannot be deleted while chunks are stored under it."""

    codes = ("context_in_use",)


class ContextRetired(Conflict):
    """The context was retired: the server does not store new data under it."""

    codes = ("context_retired",)


class ChunksChanged(Conflict):
    """Some of the chunks were changed after the given `if_updated_at`; nothing was changed."""

    codes = ("chunks_changed",)


class BlockOutdated(Conflict):
    """The chunks of a block have changed since it was made; nothing was stored. Make one from the current chunks."""

    codes = ("block_outdated",)


class SharedIndexOutdated(Conflict):
    """Another shared index is stored than the one to replace, or a segment is missing; nothing was changed."""

    codes = ("shared_index_outdated",)


class NamesTaken(Conflict):
    """Another chunk has the same name, which must be unique; nothing was stored or changed."""

    codes = ("names_taken",)


class RequestTooSlow(ServerError):
    """The request did not arrive within the server's time limit."""

    codes = ("request_timeout",)
    statuses = (408,)


class TooLarge(ServerError):
    """The request is larger than the server accepts."""

    codes = ("too_large",)
    statuses = (413,)


class LineTooLong(TooLarge):
    """The URL with its parameters is longer than the server accepts."""

    codes = ("line_too_long",)
    statuses = (414,)


class HeadersTooLarge(TooLarge):
    """The request's headers are larger than the server accepts."""

    codes = ("headers_too_large",)
    statuses = (431,)


class RateLimited(ServerError):
    """Too many requests, even after waiting as long as the settings allow."""

    codes = ("rate_limited",)
    statuses = (429,)


class Unavailable(ServerError):
    """The server, or a proxy in front of it, cannot answer now."""

    codes = ("unavailable",)
    statuses: ClassVar[tuple[int, ...]] = (502, 503, 504)


class Overloaded(Unavailable):
    """The server has reached its limit of requests or connections."""

    codes = ("overloaded",)


class DeadlineExceeded(Unavailable):
    """The request took too long, and the server cancelled it; nothing was changed."""

    codes = ("deadline_exceeded",)


class StorageReadOnly(Unavailable):
    """The server cannot write to its disk; nothing was changed."""

    codes = ("storage_read_only",)


class StorageFull(Unavailable):
    """The server's disk is full; nothing was changed."""

    codes = ("storage_full",)
    statuses = (507,)


class ServerFault(ServerError):
    """The server failed; the request's data was not stored."""

    codes = ("internal",)
    statuses = (500,)


class BlockDamaged(ServerFault):
    """A block of vectors is damaged in the server's database; the message says which. No chunk is affected.

    Searches by it fail until it is replaced: `seal_chunks` with `remake`, or `xtrace kb seal --remake`.
    """

    codes = ("block_damaged",)


# The network


class NetworkError(XTraceError):
    """The service did not send a usable answer."""


class ServerUnreachable(NetworkError):
    """The connection failed, or was lost before the answer."""


class ServerTimeout(NetworkError):
    """No answer arrived in time. The request may or may not have been carried out."""


class InvalidAnswer(NetworkError):
    """The answer violates the HTTP contract; check that the URL belongs to an XTrace server."""


class AnswerTooLarge(InvalidAnswer):
    """The answer is larger than this client accepts; it was not read completely."""


class PartlyStored(XTraceError):
    """A load stopped before its end; the reason is its `__cause__`.

    `chunk_ids` are the ids of the stored chunks in the order of the input, with None for each that was not stored.
    """

    def __init__(self, chunk_ids: Sequence[int | None], reason: BaseException) -> None:
        self.chunk_ids = list(chunk_ids)
        self.stored = sum(chunk_id is not None for chunk_id in self.chunk_ids)
        super().__init__(f"{self.stored} of {len(self.chunk_ids)} chunks are stored, then the load stopped: {reason}")


# Embedding


class EmbeddingError(XTraceError):
    """A model did not return a usable vector.

    `status` is the HTTP status of an API's error answer, `chunk_len` the length in characters of the longest text
    sent. Both are None if not applicable.
    """

    def __init__(self, *args: object, status: int | None = None, chunk_len: int | None = None) -> None:
        super().__init__(*args)
        self.status = status
        self.chunk_len = chunk_len


class MissingPackage(EmbeddingError):
    """An optional package is not installed; the message names the command that installs it."""


class ProviderFault(EmbeddingError):
    """The model or its service failed; the message is the provider's, if it sent one."""


def shown_ids(ids: Sequence[int], count: int | None = None) -> str:
    """Returns the first ids as text, and the number of others; `count` is the total, by default the number of `ids`."""
    more = (len(ids) if count is None else count) - len(ids[:_SHOWN_IDS])
    listed = ", ".join(str(i) for i in ids[:_SHOWN_IDS])
    return f"{listed} and {more} more" if more else listed


class TextRefused(ProviderFault):
    """The model or its service rejected one of the texts, but may embed others."""


# Language models


class InferenceError(XTraceError):
    """A language model did not return a usable answer; the message is its service's, if it sent one.

    `status` is the HTTP status of the service's error answer, else None.
    """

    def __init__(self, *args: object, status: int | None = None) -> None:
        super().__init__(*args)
        self.status = status
