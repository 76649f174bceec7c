"""What the service answers when it cannot do what was asked: one tree, each class with its status and stable
code.

    ServiceError
    ├── Malformed              400 malformed               not HTTP, not JSON
    ├── Unauthenticated        401 unauthenticated         no key, a wrong one, a revoked one, a foreign one
    ├── Forbidden              403 forbidden               the key has not the permission
    ├── NotFound               404 not_found               no such route
    │   ├── KnowledgeBaseNotFound  knowledge_base_not_found    does not exist, or is another organisation's
    │   ├── ContextNotFound        context_not_found
    │   ├── ChunksNotFound         chunks_not_found            an update or patch of unknown chunks
    │   └── KeyNotFound            key_not_found
    ├── MethodNotAllowed       405 method_not_allowed
    ├── Conflict               409
    │   ├── ContextDiffers         context_differs             saved before with another public part
    │   └── ContextInUse           context_in_use              chunks are stored under it
    ├── TooLarge               413 too_large               the body
    ├── LineTooLong            414 line_too_long           the request line
    ├── UnsupportedMediaType   415 unsupported_media_type
    ├── Invalid                422 invalid                 well-formed, but a field is not valid
    │   ├── FilterInvalid          invalid_filter
    │   ├── CiphertextInvalid      invalid_ciphertext
    │   └── IdempotencyKeyReused   idempotency_key_reused      with another body
    ├── HeadersTooLarge        431 headers_too_large
    ├── Internal               500 internal                our fault; the details are in the server's log only
    └── Unavailable            503 unavailable             try again after `Retry-After` seconds

The body of every answer is `application/problem+json` (RFC 9457) as `xtrace_core.wire.Problem` defines it.
Messages never hold a key, a ciphertext, or anything of another organisation.
"""

from typing import ClassVar

import msgspec

from xtrace_core.wire import Problem

RETRY_AFTER_S = 2


class ServiceError(Exception):
    """A request that failed; the message is what the client reads."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def headers(self) -> dict[str, str]:
        """The headers that go with the answer."""
        return {}

    def body(self) -> bytes:
        """The problem as JSON."""
        problem = Problem(
            type=f"urn:xtrace:problem:{self.code}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            message=self.detail,
        )
        return msgspec.json.encode(problem)


class Malformed(ServiceError):
    status = 400
    code = "malformed"
    title = "Malformed request"


class Unauthenticated(ServiceError):
    status = 401
    code = "unauthenticated"
    title = "Not authenticated"


class Forbidden(ServiceError):
    status = 403
    code = "forbidden"
    title = "Not permitted"


class NotFound(ServiceError):
    status = 404
    code = "not_found"
    title = "Not found"


class KnowledgeBaseNotFound(NotFound):
    code = "knowledge_base_not_found"
    title = "Knowledge base not found"

    def __init__(self, kb_id: str) -> None:
        super().__init__(f"there is no knowledge base {kb_id[:64]!r} in this organisation")


class ContextNotFound(NotFound):
    code = "context_not_found"
    title = "Execution context not found"

    def __init__(self, context_id: str) -> None:
        super().__init__(
            f"the execution context {context_id[:64]!r} is not stored in this organisation: save the context first"
        )


class ChunksNotFound(NotFound):
    code = "chunks_not_found"
    title = "Chunks not found"

    def __init__(self, chunk_ids: list[int]) -> None:
        shown = ", ".join([_short(chunk_id) for chunk_id in chunk_ids[:20]])
        more = f" and {len(chunk_ids) - 20} more" if len(chunk_ids) > 20 else ""
        super().__init__(f"the knowledge base has no chunk {shown}{more}; nothing was changed")


class KeyNotFound(NotFound):
    code = "key_not_found"
    title = "API key not found"

    def __init__(self) -> None:
        super().__init__("the organisation has no API key with this hash")


class MethodNotAllowed(ServiceError):
    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"

    def __init__(self, detail: str, allowed: str) -> None:
        super().__init__(detail)
        self.allowed = allowed

    def headers(self) -> dict[str, str]:
        return {"allow": self.allowed}


class Conflict(ServiceError):
    status = 409
    code = "conflict"
    title = "Conflict"


class ContextDiffers(Conflict):
    code = "context_differs"
    title = "Execution context differs"


class ContextInUse(Conflict):
    code = "context_in_use"
    title = "Execution context in use"


class TooLarge(ServiceError):
    status = 413
    code = "too_large"
    title = "Request too large"

    def headers(self) -> dict[str, str]:
        # The rest of the body is not read.
        return {"connection": "close"}


class LineTooLong(ServiceError):
    status = 414
    code = "line_too_long"
    title = "Request line too long"


class UnsupportedMediaType(ServiceError):
    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"


class Invalid(ServiceError):
    status = 422
    code = "invalid"
    title = "Invalid request"


class FilterInvalid(Invalid):
    code = "invalid_filter"
    title = "Invalid metadata filter"


class CiphertextInvalid(Invalid):
    code = "invalid_ciphertext"
    title = "Invalid ciphertext"


class IdempotencyKeyReused(Invalid):
    code = "idempotency_key_reused"
    title = "Idempotency key reused"


class HeadersTooLarge(ServiceError):
    status = 431
    code = "headers_too_large"
    title = "Request headers too large"


class Internal(ServiceError):
    def __init__(self) -> None:
        super().__init__("the service failed to answer; the cause is in its log")


class Unavailable(ServiceError):
    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"

    def headers(self) -> dict[str, str]:
        return {"retry-after": str(RETRY_AFTER_S)}


def _short(number: int) -> str:
    # Python refuses to write out integers of more than 4,300 digits.
    return str(number) if abs(number) < 2**64 else "(a number of more than 64 bits)"
