"""Every exception that the SDK raises on purpose.

    XTraceError
    ├── UserError                       what was asked for cannot be done as asked
    │   ├── InvalidArgument             a parameter or setting is missing or out of range
    │   ├── InvalidVector               a vector of another length or with other elements than expected
    │   ├── InvalidFilter               a metadata filter, or metadata, that the filter language does not know
    │   └── InvalidFile                 a file that is not there, cannot be written, or is no text
    ├── KeyFault                        keys and execution contexts
    │   ├── WrongKey                    the passphrase or key does not open this context
    │   ├── InvalidContext              a context that was cut off, changed, or written by other software
    │   ├── UnknownScheme               a scheme or type that this version does not know
    │   └── WeakParameters              parameters that do not protect
    ├── IntegrityError                  what came back is not what was stored: do not trust it
    │   ├── InvalidRows                 search answers that are no sum of a chunk and the query
    │   ├── ContentTampered             content that cannot be authenticated
    │   ├── ChangedSinceSearch          a chunk replaced between search and retrieval
    │   └── FaultDetected               this machine computed something wrongly
    ├── EmbeddingError                  the embedding model or its provider
    │   ├── MissingPackage              an optional package is not installed
    │   └── ProviderFault               the model, or the service behind it, failed
    ├── NetworkError                    no answer, or none that makes sense
    │   ├── ServerUnreachable           nothing answers there, or the connection broke
    │   ├── ServerTimeout               no answer in time
    │   └── InvalidAnswer               an answer that the HTTP contract does not allow
    ├── ServerError                     the server's refusals: one class for each of its codes, or for the status
    │   ├── InvalidRequest              422
    │   │   ├── MalformedRequest        400
    │   │   ├── UnsupportedMediaType    415
    │   │   ├── FilterRefused           422 invalid_filter
    │   │   ├── CiphertextRefused       422 invalid_ciphertext
    │   │   └── IdempotencyKeyReused    422 idempotency_key_reused
    │   ├── Unauthorized                401
    │   ├── PermissionDenied            403
    │   ├── NotFound                    404
    │   │   ├── KnowledgeBaseNotFound   404 knowledge_base_not_found
    │   │   ├── ContextNotFound         404 context_not_found
    │   │   ├── ChunksNotFound          404 chunks_not_found
    │   │   └── KeyNotFound             404 key_not_found
    │   ├── MethodNotAllowed            405
    │   ├── Conflict                    409
    │   │   ├── ContextDiffers          409 context_differs
    │   │   └── ContextInUse            409 context_in_use
    │   ├── TooLarge                    413; 414 line_too_long; 431 headers_too_large
    │   ├── RateLimited                 429
    │   ├── Unavailable                 502, 503, 504, 507
    │   └── ServerFault                 any other 5xx
    └── PartlyStored                    a load that stopped half way: how many chunks are stored, and why it stopped

No message holds a key, a passphrase, a token, or text or vectors of the user's.
"""

from collections.abc import Sequence
from typing import ClassVar


class XTraceError(Exception):
    """The root of the tree; its text is one sentence for a person."""


class UserError(XTraceError):
    """What was asked for cannot be done as asked; the sentence says what was got and what is expected."""


class InvalidArgument(UserError, ValueError):
    """A parameter is missing, of another type than expected, or out of range."""


class InvalidVector(UserError, ValueError):
    """A vector of another length, shape or with other elements than expected."""


class InvalidFilter(UserError, ValueError):
    """A metadata filter, or metadata, that is outside the filter language or the schema."""


class InvalidFile(UserError):
    """A file or folder that is not there, cannot be read or written, or does not hold what it should."""


class KeyFault(XTraceError):
    """Something about keys or an execution context."""


class WrongKey(KeyFault):
    """The passphrase or key does not open this context."""


class InvalidContext(KeyFault):
    """A context that was cut off, changed since it was saved, or not written by this software."""


class UnknownScheme(KeyFault):
    """A scheme that this version does not know."""


class WeakParameters(KeyFault, ValueError):
    """Parameters that do not protect what they should."""


class IntegrityError(XTraceError):
    """What came back is not what was stored. Do not act on it; `xtrace kb verify` lists the bad chunks."""


class InvalidRows(IntegrityError):
    """Search answers that are no sum of a stored chunk and the query; nothing was fetched because of them."""

    def __init__(self, rows: list[int], what: str = "rows") -> None:
        """`rows` are the chunk ids (`what` is "chunks") or the positions in the batch of the bad answers."""
        self.rows = rows
        shown = ", ".join(str(row) for row in rows[:20]) + (", …" if len(rows) > 20 else "")
        super().__init__(
            f"the server's answers for {len(rows)} {what} are not sums of a stored vector and this query "
            f"({what}: {shown}): they were changed, exchanged, or stored under another context"
        )


class ContentTampered(IntegrityError):
    """Content that cannot be authenticated."""


class ChangedSinceSearch(IntegrityError):
    """A chunk whose vector was replaced between the search that found it and its retrieval: search again."""


class FaultDetected(IntegrityError):
    """This machine computed something wrongly; nothing was sent because of it."""


class EmbeddingError(XTraceError):
    """The embedding model is not there, or its provider refused or failed."""


class MissingPackage(EmbeddingError):
    """An optional package is not installed; the text names the command that installs it."""


class ProviderFault(EmbeddingError):
    """The model, or the service behind it, failed; the text is the provider's own where it gave one."""


class NetworkError(XTraceError):
    """No answer came, or none that makes sense."""


class ServerUnreachable(NetworkError):
    """Nothing answers at the server's address, or the connection broke before the answer."""


class ServerTimeout(NetworkError):
    """The server did not answer in time; whether it did what was asked is not known."""


class InvalidAnswer(NetworkError):
    """The server answered something that the HTTP contract does not allow."""


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


class IdempotencyKeyReused(InvalidRequest):
    """The idempotency key was used before, with another body."""

    codes = ("idempotency_key_reused",)


class Unauthorized(ServerError):
    """The key is missing, wrong, revoked or of another organisation."""

    codes = ("unauthenticated",)
    statuses = (401,)


class PermissionDenied(ServerError):
    """The key is good, but not for this."""

    codes = ("forbidden",)
    statuses = (403,)


class NotFound(ServerError):
    """There is no such thing in this organisation."""

    codes = ("not_found",)
    statuses = (404,)


class KnowledgeBaseNotFound(NotFound):
    """There is no such knowledge base."""

    codes = ("knowledge_base_not_found",)


class ContextNotFound(NotFound):
    """The server does not have this execution context."""

    codes = ("context_not_found",)


class ChunksNotFound(NotFound):
    """Some of the chunks are not there; nothing was changed."""

    codes = ("chunks_not_found",)


class KeyNotFound(NotFound):
    """There is no API key with this hash."""

    codes = ("key_not_found",)


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


class TooLarge(ServerError):
    """More than the server takes at once."""

    codes = ("too_large", "line_too_long", "headers_too_large")
    statuses = (413, 414, 431)


class RateLimited(ServerError):
    """Too many requests, also after waiting as long as the settings allow."""

    codes = ("rate_limited",)
    statuses = (429,)


class Unavailable(ServerError):
    """The server, or a proxy before it, cannot answer now."""

    codes = ("unavailable",)
    statuses = (502, 503, 504, 507)


class ServerFault(ServerError):
    """The server failed; what it was asked to store is not stored."""

    codes = ("internal",)
    statuses = (500,)


class PartlyStored(XTraceError):
    """A load that stopped half way; what stopped it is the `__cause__`.

    `chunk_ids` are those of the stored chunks in the order of the input, None for each that was not stored.
    """

    def __init__(self, chunk_ids: Sequence[int | None], reason: BaseException) -> None:
        self.chunk_ids = list(chunk_ids)
        self.stored = sum(chunk_id is not None for chunk_id in self.chunk_ids)
        super().__init__(f"{self.stored} of {len(self.chunk_ids)} chunks are stored, then the load stopped: {reason}")
