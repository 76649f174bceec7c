"""Every exception that the SDK raises on purpose.

    XTraceError
    ├── UserError                   what was asked for cannot be done as asked
    │   ├── InvalidArgument         a parameter is missing or out of range
    │   ├── InvalidVector           a vector of another length or with other elements than expected
    │   ├── InvalidFilter           a metadata filter, or metadata, that the filter language does not know
    │   └── InvalidFile             a file that is not there, cannot be written, or is no text
    ├── KeyFault                    keys and execution contexts
    │   ├── WrongKey                the passphrase or key does not open this context
    │   ├── InvalidContext          a context that was cut off, changed, or written by other software
    │   ├── UnknownScheme           a scheme or type that this version does not know
    │   └── WeakParameters          parameters that do not protect
    ├── IntegrityError              what came back is not what was stored: do not trust it
    │   ├── InvalidRows             search answers that are no sum of a chunk and the query
    │   ├── ContentTampered         content that cannot be authenticated
    │   ├── ChangedSinceSearch      a chunk replaced between search and retrieval
    │   └── FaultDetected           this machine computed something wrongly
    ├── EmbeddingError              the embedding model or its provider
    ├── NetworkError                no answer, or none that makes sense
    │   ├── ServerUnreachable       nothing answers there
    │   ├── ServerTimeout           no answer in time
    │   └── InvalidAnswer           an answer that the HTTP contract does not allow
    └── ServerError                 the server's refusals, one class for each status
        ├── InvalidRequest          400, 415, 422
        ├── Unauthorized            401
        ├── PermissionDenied        403
        ├── NotFound                404
        ├── Conflict                409
        ├── TooLarge                413
        ├── RateLimited             429
        ├── Unavailable             503, 507
        └── ServerFault             any other 5xx

No message holds a key, a passphrase, a token, or text or vectors of the user's.
"""


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


class NetworkError(XTraceError):
    """No answer came, or none that makes sense."""


class ServerUnreachable(NetworkError):
    """Nothing answers at the server's address."""


class ServerTimeout(NetworkError):
    """The server did not answer in time."""


class InvalidAnswer(NetworkError):
    """The server answered something that the HTTP contract does not allow."""


class ServerError(XTraceError):
    """The server refused or failed; the text is the server's own sentence."""

    def __init__(self, message: str, *, status: int, code: str = "") -> None:
        """`code` is the server's stable name for the error, empty if it gave none."""
        super().__init__(message)
        self.status = status
        self.code = code


class InvalidRequest(ServerError):
    """400, 415 or 422: the request is malformed or not valid."""


class Unauthorized(ServerError):
    """401: the key is missing, wrong, revoked or of another organisation."""


class PermissionDenied(ServerError):
    """403: the key is good, but not for this."""


class NotFound(ServerError):
    """404: there is no such knowledge base, context or chunk."""


class Conflict(ServerError):
    """409: what is there already does not allow it."""


class TooLarge(ServerError):
    """413: more than the server takes at once."""


class RateLimited(ServerError):
    """429: too many requests."""

    def __init__(self, message: str, *, status: int, code: str = "", retry_after: float | None = None) -> None:
        """`retry_after` is the server's advice in seconds, if it gave any."""
        super().__init__(message, status=status, code=code)
        self.retry_after = retry_after


class Unavailable(ServerError):
    """503 or 507: the server cannot answer now; nothing was stored."""


class ServerFault(ServerError):
    """Any other 5xx: the server failed; nothing was stored."""
