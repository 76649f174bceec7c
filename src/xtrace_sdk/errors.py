"""Every exception that the SDK raises on purpose.

XTraceError
├── InputError                     what the caller gave cannot be used (also a ValueError)
│   ├── InvalidArgument            a parameter, a setting or a key is missing or has a wrong value
│   ├── InvalidCall                a synchronous call where it would wait for itself, or at the interpreter's end
│   ├── InvalidVector              a vector of the wrong length, shape or kind
│   ├── OtherModel                 an embedding model other than the one that the context remembers
│   ├── InvalidFilter              a metadata filter that the language does not have
│   │   └── NotOnPrivateField      an operator or sorting that needs values of which the service has hashes
│   ├── InvalidMetaData            metadata with unknown fields or values of the wrong type
│   ├── InvalidRecord              a record that a collection cannot hold
│   ├── RecordNotFound             a record to change that the collection does not have
│   ├── RecordsExist               records to insert that the collection has already
│   ├── OtherCollection            a collection that was created with other filterable fields
│   ├── InvalidDocument            a file or folder that does not contain text to load
│   ├── DecoyGroupTooLarge         decoys would have to be fetched together with too many chunks
│   ├── OtherRotation              a rotation into another context has begun
│   ├── InvalidManifest            a file that is not the manifest it should be
│   └── InaccessibleFile           a file that cannot be read or written
├── KeyMaterialError               keys and execution contexts
│   ├── WrongKey                   the key or passphrase is not the one of this context
│   ├── KeyProviderFault           a key service or key file that cannot give the key now
│   ├── InvalidContext             a context that is cut off, changed, foreign or not the one asked for
│   ├── UnknownScheme              a context of a scheme that this version does not have
│   └── WeakParameters             parameters of a key that would not protect anything
├── TamperedData                   what came back is not what was stored
│   ├── InvalidRows                rows of a search that are not the sum of a stored vector and the query
│   ├── ContentTampered            content that cannot be authenticated
│   ├── ChangedSinceSearch         content that was replaced after the search that found it
│   ├── OtherRecord                another record than the one that was asked for
│   └── ForeignNameSalt            a salt for names that was not made for this knowledge base
├── NothingToSearch                a knowledge base in which nothing is stored under this context, but under others
├── UnknownContent                 genuine content in a form that this version does not have
├── FaultDetected                  this machine computed wrongly
├── ServerError                    the server's refusals: one class for each of its codes, or for the status
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
│   │   ├── KeyNotFound            404 key_not_found
│   │   └── OrganisationNotFound   404 organisation_not_found
│   ├── MethodNotAllowed           405
│   ├── Conflict                   409
│   │   ├── ContextDiffers         409 context_differs
│   │   ├── ContextInUse           409 context_in_use
│   │   ├── ContextRetired         409 context_retired
│   │   ├── ChunksChanged          409 chunks_changed
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
├── NetworkError                   the service did not give a usable answer
│   ├── ServerUnreachable          no connection, or one that broke
│   ├── ServerTimeout              no answer in time
│   └── InvalidAnswer              an answer that the HTTP contract does not know
│       └── AnswerTooLarge         an answer larger than this client accepts
├── PartlyStored                   a load that stopped half way: what is stored, and why it stopped
├── EmbeddingError                 a model does not return a usable vector
│   ├── MissingPackage             an optional package is not installed
│   └── ProviderFault              the model or the service behind it failed
│       └── TextRefused            it refused texts, and may embed others
└── InferenceError                 a language model does not return a usable answer

`str` of each is one sentence or two: what was got, what was expected, what to do. No message holds a key, a
passphrase, a token, plaintext or the elements of a vector.
"""

from collections.abc import Sequence
from typing import ClassVar

_SHOWN_IDS = 10
_LONGEST_MESSAGE = 2000


class XTraceError(Exception):
    """The root of the tree.

    A message longer than 2,000 characters is cut: a service or a file may put text of any length into one.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_cut(arg) if isinstance(arg, str) else arg for arg in args))


def _cut(message: str) -> str:
    if len(message) <= _LONGEST_MESSAGE:
        return message
    return f"{message[:_LONGEST_MESSAGE]}… (and {len(message) - _LONGEST_MESSAGE:,} more characters)"


# The caller's input


class InputError(XTraceError, ValueError):
    """What the caller gave cannot be used."""


class InvalidArgument(InputError):
    """A parameter, a setting or a key is missing or has a wrong value."""


class InvalidCall(InputError):
    """A synchronous call where it would wait for itself, or at the interpreter's end."""


class InvalidVector(InputError):
    """A vector of the wrong length, shape or kind."""


class OtherModel(InputError):
    """An embedding model other than the one that the context remembers; nothing was embedded or sent."""


class InvalidFilter(InputError):
    """A metadata filter that the language does not have; nothing was sent."""


class NotOnPrivateField(InvalidFilter):
    """An operator or sorting that needs the values of a field of which the service has hashes; nothing was sent."""


class InvalidMetaData(InputError):
    """Metadata with unknown fields or values of the wrong type; nothing was sent."""


class InvalidRecord(InputError):
    """A record without an id, with metadata that is not JSON, or larger than a collection takes; nothing was sent."""


class RecordNotFound(InputError):
    """The collection does not have the record that was to be changed; nothing was changed."""


class RecordsExist(InputError):
    """The collection has some of the records already, and was told to fail then; nothing was stored.

    `positions` says which, from 0 in the order in which they were given.
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
    """Decoys would have to be fetched together with too many chunks; nothing was fetched."""


class OtherRotation(InputError):
    """A rotation of the context into another one has begun; nothing was moved. `successor` is that one's id."""

    def __init__(self, context_id: str, successor: str) -> None:
        self.successor = successor
        super().__init__(
            f"the context {context_id} is being rotated into {successor}: go on with that one. If its keys are lost, "
            "and with them what was moved to it, name it as instead_of (--instead-of) to rotate the rest anew"
        )


class InvalidManifest(InputError):
    """A file that is not a manifest, was changed, or is another one than a context was made with."""


class InaccessibleFile(InputError):
    """A file that cannot be read or written."""


# Keys and contexts


class KeyMaterialError(XTraceError):
    """Something about keys or execution contexts."""


class WrongKey(KeyMaterialError):
    """The key or passphrase is not the one that the context was created with."""


class KeyProviderFault(KeyMaterialError):
    """A key service or a key file cannot give the key now; the message says why, and what to do."""


class InvalidContext(KeyMaterialError):
    """A context that is cut off, changed, foreign or not the one asked for."""


class UnknownScheme(KeyMaterialError):
    """A context of a scheme that this version does not have."""


class WeakParameters(KeyMaterialError):
    """Parameters for a key that would not protect anything."""


# Integrity


class TamperedData(XTraceError):
    """What came back is not what was stored. It was not used, and asking again is not the remedy."""


class InvalidRows(TamperedData):
    """Rows of a search's answer that are not the sum of a stored vector and the query.

    `positions` counts from the first row of the answer; `chunk_ids` is None where ids are not known. Both have the
    first bad rows, `count` is the number of all.
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
    """Content that was replaced after the search that found it; search again. `chunk_id` says which, where known."""

    def __init__(self, *args: object, chunk_id: int | None = None) -> None:
        super().__init__(*args)
        self.chunk_id = chunk_id


class OtherRecord(TamperedData):
    """The service gave another record than the one that was asked for, or one of another namespace."""


class ForeignNameSalt(TamperedData):
    """A salt for the names of chunks that was not made for this knowledge base: of a copy, or exchanged."""


class NothingToSearch(XTraceError):
    """A search of a knowledge base in which nothing is stored under this context, but chunks of others may be."""


class UnknownContent(XTraceError):
    """Genuine content in a form that this version does not have; a newer one, or other software, wrote it."""


class FaultDetected(XTraceError):
    """This machine computed wrongly; the result was not used, because a wrong one can reveal a key."""


# The service


class ServerError(XTraceError):
    """The server refused or failed; the text is the server's own sentence."""

    codes: ClassVar[tuple[str, ...]] = ()
    """The server's stable names of the errors that this class stands for."""
    statuses: ClassVar[tuple[int, ...]] = ()
    """The statuses that it stands for where the answer has no known code."""

    def __init__(self, message: str, *, status: int, code: str = "", retry_after: float | None = None) -> None:
        """`code` is empty, and `retry_after` (seconds) None, where the server gave none."""
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
    """The server does not take bodies of this type."""

    codes = ("unsupported_media_type",)
    statuses = (415,)


class FilterRefused(InvalidRequest):
    """The server does not know this metadata filter."""

    codes = ("invalid_filter",)


class CiphertextRefused(InvalidRequest):
    """An index or query is not in the form that the context's public key asks for."""

    codes = ("invalid_ciphertext",)


class LimitExceeded(InvalidRequest):
    """One value is larger than the server takes; it names the limit."""

    codes = ("limit_exceeded",)


class IdempotencyKeyReused(InvalidRequest):
    """The idempotency key was used before, with another body."""

    codes = ("idempotency_key_reused",)


class Unauthenticated(ServerError):
    """The key is missing, wrong, revoked or of another organisation."""

    codes = ("unauthenticated",)
    statuses = (401,)


class KeyExpired(Unauthenticated):
    """The API key was good until a time that has passed; the holder of an admin key makes a new one."""

    codes = ("key_expired",)


class PermissionDenied(ServerError):
    """The key is good, but not for this."""

    codes = ("forbidden",)
    statuses = (403,)


class OrganisationSuspended(PermissionDenied):
    """The server's operator has suspended the organisation: no key of it opens anything until it is resumed."""

    codes = ("suspended",)


class QuotaExceeded(PermissionDenied):
    """The organisation may not store or ask for more; the sentence says of what, and nothing was stored."""

    codes = ("quota_exceeded",)


class NotFound(ServerError):
    """It does not exist in this organisation."""

    codes = ("not_found",)
    statuses = (404,)


class KnowledgeBaseNotFound(NotFound):
    """The knowledge base does not exist."""

    codes = ("knowledge_base_not_found",)


class ContextNotFound(NotFound):
    """The server does not have this execution context."""

    codes = ("context_not_found",)


class ChunksNotFound(NotFound):
    """Some of the chunks are not there; nothing was changed."""

    codes = ("chunks_not_found",)


class KeyNotFound(NotFound):
    """The API key does not exist."""

    codes = ("key_not_found",)


class OrganisationNotFound(NotFound):
    """The server does not have this organisation; only its operator hears that."""

    codes = ("organisation_not_found",)


class MethodNotAllowed(ServerError):
    """The address does not take such a call: it is hardly an XTrace server's."""

    codes = ("method_not_allowed",)
    statuses = (405,)


class Conflict(ServerError):
    """What is there already does not allow it."""

    codes = ("conflict",)
    statuses = (409,)


class ContextDiffers(Conflict):
    """The context was saved before with another public part."""

    codes = ("context_differs",)


class ContextInUse(Conflict):
    """The context cannot be deleted while chunks are stored under it."""

    codes = ("context_in_use",)


class ContextRetired(Conflict):
    """The context was replaced by another, and the server stores nothing more under it."""

    codes = ("context_retired",)


class ChunksChanged(Conflict):
    """Some of the chunks were changed since the `if_updated_at` that was given; nothing was changed."""

    codes = ("chunks_changed",)


class NamesTaken(Conflict):
    """Another chunk has the name, which is to be unique; nothing was stored or changed."""

    codes = ("names_taken",)


class RequestTooSlow(ServerError):
    """The request did not arrive in the time that the server gives it."""

    codes = ("request_timeout",)
    statuses = (408,)


class TooLarge(ServerError):
    """More than the server takes at once."""

    codes = ("too_large",)
    statuses = (413,)


class LineTooLong(TooLarge):
    """The address with its parameters is longer than the server takes."""

    codes = ("line_too_long",)
    statuses = (414,)


class HeadersTooLarge(TooLarge):
    """The request's headers are larger than the server takes."""

    codes = ("headers_too_large",)
    statuses = (431,)


class RateLimited(ServerError):
    """Too many requests, also after waiting as long as the settings allow."""

    codes = ("rate_limited",)
    statuses = (429,)


class Unavailable(ServerError):
    """The server, or a proxy before it, cannot answer now."""

    codes = ("unavailable",)
    statuses: ClassVar[tuple[int, ...]] = (502, 503, 504)


class Overloaded(Unavailable):
    """The server has as many requests or connections as it takes."""

    codes = ("overloaded",)


class DeadlineExceeded(Unavailable):
    """The request took too long, and the server gave it up; nothing was changed."""

    codes = ("deadline_exceeded",)


class StorageReadOnly(Unavailable):
    """The server's disk cannot be written; nothing was changed."""

    codes = ("storage_read_only",)


class StorageFull(Unavailable):
    """The server's disk is full; nothing was changed."""

    codes = ("storage_full",)
    statuses = (507,)


class ServerFault(ServerError):
    """The server failed; what it was asked to store is not stored."""

    codes = ("internal",)
    statuses = (500,)


# The network


class NetworkError(XTraceError):
    """The service did not give a usable answer."""


class ServerUnreachable(NetworkError):
    """No connection, or one that broke before the answer."""


class ServerTimeout(NetworkError):
    """No answer in time. Whether the request was carried out is not known."""


class InvalidAnswer(NetworkError):
    """An answer that the HTTP contract does not know; is the URL that of an XTrace service?"""


class AnswerTooLarge(InvalidAnswer):
    """An answer larger than this client accepts; it was not read to its end."""


class PartlyStored(XTraceError):
    """A load that stopped half way; what stopped it is the `__cause__`.

    `chunk_ids` are those of the stored chunks in the order of the input, None for each that was not stored.
    """

    def __init__(self, chunk_ids: Sequence[int | None], reason: BaseException) -> None:
        self.chunk_ids = list(chunk_ids)
        self.stored = sum(chunk_id is not None for chunk_id in self.chunk_ids)
        super().__init__(f"{self.stored} of {len(self.chunk_ids)} chunks are stored, then the load stopped: {reason}")


# Embedding


class EmbeddingError(XTraceError):
    """A model does not return a usable vector.

    `status` is the HTTP status of an API that refused, `chunk_len` the length in characters of the longest text that
    it was given; both are None where there is none.
    """

    def __init__(self, *args: object, status: int | None = None, chunk_len: int | None = None) -> None:
        super().__init__(*args)
        self.status = status
        self.chunk_len = chunk_len


class MissingPackage(EmbeddingError):
    """An optional package is not installed; the message names the command that installs it."""


class ProviderFault(EmbeddingError):
    """The model, or the service behind it, failed; the message is the provider's own where it gave one."""


def shown_ids(ids: Sequence[int], count: int | None = None) -> str:
    """The first ids, and how many more there are of `count`, by default all that are given."""
    more = (len(ids) if count is None else count) - len(ids[:_SHOWN_IDS])
    listed = ", ".join(str(i) for i in ids[:_SHOWN_IDS])
    return f"{listed} and {more} more" if more else listed


class TextRefused(ProviderFault):
    """The model, or the service behind it, refused one of the texts that it was given, and may embed others."""


# Language models


class InferenceError(XTraceError):
    """A language model does not return a usable answer; the message is its service's own where it gave one.

    `status` is the HTTP status of a service that refused, else None.
    """

    def __init__(self, *args: object, status: int | None = None) -> None:
        super().__init__(*args)
        self.status = status
