"""Every exception that the SDK raises on purpose.

XTraceError
├── InputError                 what the caller gave cannot be used (also a ValueError)
│   ├── InvalidArgument            a parameter, a setting or a key is missing or has a wrong value
│   ├── InvalidVector              a vector of the wrong length, shape or kind
│   ├── InvalidFilter              a metadata filter that the language does not have
│   ├── InvalidMetaData            metadata with unknown fields or values of the wrong type
│   ├── InvalidDocument            a file or folder that holds no text to load
│   └── InaccessibleFile           a file that cannot be read or written
├── KeyMaterialError           keys and execution contexts
│   ├── WrongKey                   the key or passphrase is not the one of this context
│   ├── InvalidContext             a context that is cut off, changed, foreign or not the one asked for
│   ├── UnknownScheme              a context of a scheme that this version does not have
│   └── WeakParameters             parameters of a key that would not protect anything
├── TamperedData               what came back is not what was stored
│   ├── InvalidRows                rows of a search that are no sum of a stored vector and the query
│   ├── ContentTampered            content that cannot be authenticated
│   └── ChangedSinceSearch         content that was replaced after the search that found it
├── FaultDetected              this machine computed wrongly
├── ServerError                the service refused or failed: its sentence, `status` and `code`
│   ├── MalformedRequest           400
│   ├── Unauthorized               401
│   ├── PermissionDenied           403
│   ├── NotFound                   404
│   ├── MethodNotAllowed           405
│   ├── Conflict                   409
│   ├── TooLarge                   413, 414, 431
│   ├── UnsupportedMediaType       415
│   ├── InvalidRequest             422
│   ├── RateLimited                429; `retry_after` in seconds
│   ├── InternalServerError        500
│   ├── Unavailable                502, 503, 504; `retry_after` in seconds
│   └── StorageFull                507
├── NetworkError               no answer of the service to go by
│   ├── ServerUnreachable          no connection, or one that broke
│   ├── ServerTimeout              no answer in time
│   └── InvalidAnswer              an answer that the HTTP contract does not know
├── PartlyStored               a load that stopped half way: `stored` of `total`, `chunk_ids`
└── EmbeddingError             a model gives no vector that can be used
    ├── MissingPackage             an optional package is not installed
    └── ProviderFault              the model or the service behind it failed

`str` of each is one sentence or two: what was got, what was expected, what to do. No message holds a key, a
passphrase, a token, plaintext or the elements of a vector.
"""

from collections.abc import Sequence
from typing import ClassVar

_SHOWN_IDS = 10


class XTraceError(Exception):
    """The root of the tree."""


# The caller's input


class InputError(XTraceError, ValueError):
    """What the caller gave cannot be used."""


class InvalidArgument(InputError):
    """A parameter, a setting or a key is missing or has a wrong value."""


class InvalidVector(InputError):
    """A vector of the wrong length, shape or kind."""


class InvalidFilter(InputError):
    """A metadata filter that the language does not have; nothing was sent."""


class InvalidMetaData(InputError):
    """Metadata with unknown fields or values of the wrong type; nothing was sent."""


class InvalidDocument(InputError):
    """A file or folder that holds no text to load."""


class InaccessibleFile(InputError):
    """A file that cannot be read or written."""


# Keys and contexts


class KeyMaterialError(XTraceError):
    """Something about keys or execution contexts."""


class WrongKey(KeyMaterialError):
    """The key or passphrase is not the one that the context was created with."""


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
    """Rows of a search's answer that are no sum of a stored vector and the query.

    `positions` counts from the first row of the answer; `chunk_ids` is None where ids are not known.
    """

    def __init__(self, positions: Sequence[int], chunk_ids: Sequence[int] | None = None) -> None:
        self.positions = list(positions)
        self.chunk_ids = None if chunk_ids is None else list(chunk_ids)
        what, named = ("rows", self.positions) if self.chunk_ids is None else ("chunks", self.chunk_ids)
        super().__init__(
            f"the search failed: the service's answer is not valid for {len(named)} {what} ({_shown(named)}): they "
            "were stored under another context, damaged or substituted. No result was used; check the knowledge base"
        )


class ContentTampered(TamperedData):
    """Content that cannot be authenticated: changed, foreign, or of another vector."""


class ChangedSinceSearch(TamperedData):
    """Content that was replaced after the search that found it; search again."""


class FaultDetected(XTraceError):
    """This machine computed wrongly; the result was not used, because a wrong one can reveal a key."""


# The service


class ServerError(XTraceError):
    """The service refused or failed; the message is its own sentence."""

    code: str
    """The stable code of the service's error; empty where the answer had none (a proxy's, for example)."""
    status: int
    """The HTTP status."""
    retry_after: float | None
    """The seconds after which to try again, if the service said."""

    statuses: ClassVar[tuple[int, ...]] = ()

    def __init__(self, detail: str, *, status: int, code: str = "", retry_after: float | None = None) -> None:
        self.detail = detail
        self.status = status
        self.code = code
        self.retry_after = retry_after
        super().__init__(f"{detail} (status {status}, {code})" if code else f"{detail} (status {status})")


class MalformedRequest(ServerError):
    """The service could not read the request."""

    statuses = (400,)


class Unauthorized(ServerError):
    """The key is missing, wrong, revoked or of another organisation."""

    statuses = (401,)


class PermissionDenied(ServerError):
    """The API key has no permission for this in this knowledge base."""

    statuses = (403,)


class NotFound(ServerError):
    """The knowledge base, context, chunk or key does not exist, or belongs to another organisation."""

    statuses = (404,)


class MethodNotAllowed(ServerError):
    """The address does not take this kind of call; is the URL that of an XTrace service?"""

    statuses = (405,)


class Conflict(ServerError):
    """What is there already forbids it: a context in use, or saved before with other public parts."""

    statuses = (409,)


class TooLarge(ServerError):
    """The request exceeds a limit of the service."""

    statuses = (413, 414, 431)


class UnsupportedMediaType(ServerError):
    """The service does not take bodies of this type."""

    statuses = (415,)


class InvalidRequest(ServerError):
    """The service could read the request but found a value that is not valid."""

    statuses = (422,)


class RateLimited(ServerError):
    """Too many requests, also after waiting as often as the settings allow."""

    statuses = (429,)


class InternalServerError(ServerError):
    """A fault inside the service."""

    statuses = (500,)


class Unavailable(ServerError):
    """The service, or a proxy before it, cannot answer at the moment."""

    statuses = (502, 503, 504)


class StorageFull(ServerError):
    """The service has no space left."""

    statuses = (507,)


# The network


class NetworkError(XTraceError):
    """There is no answer of the service to go by."""


class ServerUnreachable(NetworkError):
    """No connection, or one that broke before the answer."""


class ServerTimeout(NetworkError):
    """No answer in time. Whether the request was carried out is not known."""


class InvalidAnswer(NetworkError):
    """An answer that the HTTP contract does not know; is the URL that of an XTrace service?"""


class PartlyStored(XTraceError):
    """A load that stopped half way; the fault that stopped it is the `__cause__`.

    `chunk_ids` are those of the stored chunks in the order of the input, with None for each that was not stored.
    """

    def __init__(self, chunk_ids: Sequence[int | None], reason: BaseException) -> None:
        self.chunk_ids = list(chunk_ids)
        self.stored = sum(chunk_id is not None for chunk_id in self.chunk_ids)
        self.total = len(self.chunk_ids)
        super().__init__(f"{self.stored} of {self.total} chunks are stored, then the load stopped: {reason}")


# Embedding


class EmbeddingError(XTraceError):
    """A model gives no vector that can be used."""


class MissingPackage(EmbeddingError):
    """An optional package is not installed; the message names the command that installs it."""


class ProviderFault(EmbeddingError):
    """The model, or the service behind it, failed; the message is the provider's own where it gave one."""


def _shown(ids: Sequence[int]) -> str:
    listed = ", ".join(str(i) for i in ids[:_SHOWN_IDS])
    return listed if len(ids) <= _SHOWN_IDS else f"{listed} and {len(ids) - _SHOWN_IDS} more"
