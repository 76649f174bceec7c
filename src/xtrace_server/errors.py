"""The errors that the service answers with: one tree, with the class names of `xtrace_sdk.errors`.

    ServiceError
    ├── MalformedRequest       400 malformed               not valid HTTP, JSON or MessagePack
    ├── Unauthenticated        401 unauthenticated         the key is missing, wrong, revoked or another's
    │   └── KeyExpired             key_expired                 the API key was good until a time that has passed
    ├── PermissionDenied       403 forbidden               the key lacks the permission
    │   ├── OrganisationSuspended  suspended                   the operator has suspended the organisation
    │   └── QuotaExceeded          quota_exceeded              the organisation's quota does not allow it
    ├── NotFound               404 not_found               unknown route
    │   ├── KnowledgeBaseNotFound  knowledge_base_not_found    does not exist, or is another organisation's
    │   ├── ContextNotFound        context_not_found
    │   ├── ChunksNotFound         chunks_not_found            an update or patch of unknown chunks
    │   ├── SegmentNotFound        segment_not_found           deleted since the shared index listed it
    │   ├── KeyNotFound            key_not_found
    │   └── OrganisationNotFound   organisation_not_found
    ├── MethodNotAllowed       405 method_not_allowed
    ├── RequestTooSlow         408 request_timeout         the header or the body arrived too slowly
    ├── Conflict               409
    │   ├── ContextDiffers         context_differs             saved before with another public part
    │   ├── ContextInUse           context_in_use              chunks are stored under it
    │   ├── ContextRetired         context_retired             nothing more is stored under it
    │   ├── ChunksChanged          chunks_changed              written since the caller read them
    │   ├── BlockOutdated          block_outdated              its chunks have changed since the block was made
    │   ├── SharedIndexOutdated    shared_index_outdated       another one is stored, or a segment is missing
    │   └── NamesTaken             names_taken                 another chunk has the name, which is to be unique
    ├── TooLarge               413 too_large               the body, or what can be sent in several requests
    ├── LineTooLong            414 line_too_long           the request line
    ├── UnsupportedMediaType   415 unsupported_media_type
    ├── InvalidRequest         422 invalid                 well-formed, but a field is not valid
    │   ├── FilterRefused          invalid_filter
    │   ├── CiphertextRefused      invalid_ciphertext
    │   ├── LimitExceeded          limit_exceeded              one value is larger than a limit
    │   └── IdempotencyKeyReused   idempotency_key_reused      with another body
    ├── RateLimited            429 rate_limited            try again after `Retry-After` seconds
    ├── HeadersTooLarge        431 headers_too_large
    ├── ServerFault            500 internal                a bug or a fault; only the server's log has the details
    │   └── BlockDamaged           block_damaged               a block in the database is not what was stored
    └── Unavailable            503 unavailable             try again after `Retry-After` seconds
        ├── Overloaded             overloaded                  more requests or connections than the server accepts
        ├── DeadlineExceeded       deadline_exceeded           the request took too long and was cancelled
        ├── StorageReadOnly        storage_read_only           the disk cannot be written
        └── StorageFull        507 storage_full            the disk is full

The body of every error is `application/problem+json` (RFC 9457), as `xtrace_core.wire.Problem` defines it.
Messages never contain a key, a ciphertext, or anything of another organisation.
"""

from typing import ClassVar, Self

import msgspec

from xtrace_core.wire import Problem

RETRY_AFTER_S = 2


class ServiceError(Exception):
    """A request failed; the client gets the message."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def headers(self) -> dict[str, str]:
        """Additional headers of the answer."""
        return {}

    def body(self) -> bytes:
        """Returns the problem as JSON."""
        problem = Problem(
            type=f"urn:xtrace:problem:{self.code}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            message=self.detail,
        )
        return msgspec.json.encode(problem)


class MalformedRequest(ServiceError):
    status = 400
    code = "malformed"
    title = "Malformed request"


class Unauthenticated(ServiceError):
    status = 401
    code = "unauthenticated"
    title = "Not authenticated"

    def __init__(self, detail: str, key_hash: str = "") -> None:
        """`key_hash` is the key's hash if it belongs to the organisation."""
        super().__init__(detail)
        self.key_hash = key_hash


class KeyExpired(Unauthenticated):
    code = "key_expired"
    title = "API key expired"

    def __init__(self, expired_at: str, key_hash: str) -> None:
        super().__init__(
            f"the API key expired at {expired_at}: an admin key makes a new one with POST /api/v1/keys "
            "(xtrace keys create)",
            key_hash,
        )


class PermissionDenied(ServiceError):
    status = 403
    code = "forbidden"
    title = "Not permitted"

    def __init__(self, detail: str, kb_id: str = "", key_hash: str = "") -> None:
        """`key_hash` is the key's hash if the caller is not yet known."""
        super().__init__(detail)
        self.kb_id = kb_id
        self.key_hash = key_hash


class OrganisationSuspended(PermissionDenied):
    code = "suspended"
    title = "Organisation suspended"

    def __init__(self, key_hash: str) -> None:
        super().__init__(
            "the organisation is suspended: none of its keys opens anything until the server's operator resumes it",
            key_hash=key_hash,
        )


class QuotaExceeded(PermissionDenied):
    code = "quota_exceeded"
    title = "Quota exceeded"

    @classmethod
    def of_stored(cls, what: str, quota: int, has: int, more: int) -> Self:
        """Returns the error for a write that would add `more` to the `has` that count against `quota`."""
        return cls(
            f"the organisation may store {quota:,} {what} and has {has:,}; this would add {more:,}, so nothing was "
            "stored: delete some, or ask the server's operator for a larger quota"
        )

    @classmethod
    def of_requests(cls, quota: int, window: str, key_hash: str) -> Self:
        return cls(
            f"the organisation has used its {quota:,} requests of this {window}, which ends by UTC: wait, or ask the "
            "server's operator for a larger quota",
            key_hash=key_hash,
        )


class NotFound(ServiceError):
    status = 404
    code = "not_found"
    title = "Not found"


class KnowledgeBaseNotFound(NotFound):
    code = "knowledge_base_not_found"
    title = "Knowledge base not found"

    def __init__(self, kb_id: str) -> None:
        super().__init__(f"the organisation does not have a knowledge base {kb_id[:64]!r}")


class ContextNotFound(NotFound):
    code = "context_not_found"
    title = "Execution context not found"

    def __init__(self, context_id: str) -> None:
        super().__init__(
            f"the execution context {context_id[:64]!r} is not stored in this organisation: save the context first, "
            "with POST /v1/exec_context/{org}; clients call that store_exec_context or save_to_remote"
        )


class ChunksNotFound(NotFound):
    code = "chunks_not_found"
    title = "Chunks not found"

    def __init__(self, chunk_ids: list[int]) -> None:
        super().__init__(f"the knowledge base does not have chunk {_some(chunk_ids)}; nothing was changed")


class KeyNotFound(NotFound):
    code = "key_not_found"
    title = "Key not found"

    def __init__(self, kind: str) -> None:
        super().__init__(f"the organisation does not have an {kind} with this hash")


class SegmentNotFound(NotFound):
    code = "segment_not_found"
    title = "Segment not found"

    def __init__(self, sha256: str) -> None:
        super().__init__(
            f"the segment {sha256} is not stored: if a shared index listed it, it was replaced; read the current one"
        )


class OrganisationNotFound(NotFound):
    code = "organisation_not_found"
    title = "Organisation not found"

    def __init__(self, organisation_id: str) -> None:
        super().__init__(f"the organisation {organisation_id[:64]!r} does not exist: see `xtrace org list`")


class MethodNotAllowed(ServiceError):
    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"

    def __init__(self, detail: str, allowed: str) -> None:
        super().__init__(detail)
        self.allowed = allowed

    def headers(self) -> dict[str, str]:
        return {"allow": self.allowed}


class RequestTooSlow(ServiceError):
    status = 408
    code = "request_timeout"
    title = "Request too slow"

    def headers(self) -> dict[str, str]:
        return {"connection": "close"}


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


class ContextRetired(Conflict):
    code = "context_retired"
    title = "Execution context retired"

    def __init__(self, context_id: str) -> None:
        super().__init__(
            f"the execution context {context_id[:64]!r} is retired, so nothing new can be stored under it: "
            "use the context that replaced it"
        )


class ChunksChanged(Conflict):
    code = "chunks_changed"
    title = "Chunks changed"

    def __init__(self, chunk_ids: list[int]) -> None:
        super().__init__(
            f"someone else changed chunk {_some(chunk_ids)} after the given if_updated_at; nothing was changed"
        )


class BlockOutdated(Conflict):
    code = "block_outdated"
    title = "Block outdated"

    @classmethod
    def of_slots(cls, free: int, count: int) -> Self:
        """Returns the error for a block of whose `count` chunks only `free` are as they were, and in no other block."""
        return cls(
            f"only {free} of the block's {count} chunks are unchanged and in no other block, expected at least three "
            "quarters; nothing was stored: make a block from the current chunks"
        )

    @classmethod
    def of_replaced(cls, block_id: int) -> Self:
        """Returns the error for a block that replaces one that does not exist."""
        return cls(
            f"the block {block_id}, which is to be replaced, no longer exists; nothing was stored: make a block from "
            "the current chunks"
        )


class SharedIndexOutdated(Conflict):
    code = "shared_index_outdated"
    title = "Shared index outdated"

    @classmethod
    def of_version(cls, version: int, replaces: int) -> Self:
        """Returns the error for one that replaces another version than the stored one; 0 stands for none."""
        stored = f"has version {version}" if version else "does not exist"
        expected = f"version {replaces}" if replaces else "none"
        return cls(
            f"the stored shared index {stored}, expected {expected} (replaces); nothing was changed: read the stored "
            "one, and try again"
        )

    @classmethod
    def of_segment(cls, sha256: str) -> Self:
        """Returns the error for one that lists a segment that is not stored."""
        return cls(
            f"the segment {sha256} is not stored; nothing was changed: read the stored shared index, upload the "
            "segments that are missing, and try again"
        )


class NamesTaken(Conflict):
    code = "names_taken"
    title = "Names taken"

    @classmethod
    def of_positions(cls, positions: list[int]) -> Self:
        """Returns the error for an insertion whose names exist; `positions` are positions in `chunks`."""
        return cls(f"the names of chunks[{_some(positions)}] are stored already; nothing was stored")

    @classmethod
    def of_chunks(cls, chunk_ids: list[int]) -> Self:
        """Returns the error for a write that would give stored chunks names that other chunks have."""
        return cls(
            f"chunk {_some(chunk_ids)} was stored under a unique name, and another chunk has the one that it would get "
            "in this context; nothing was changed"
        )


class TooLarge(ServiceError):
    status = 413
    code = "too_large"
    title = "Request too large"

    def __init__(self, detail: str, *, body_is_read: bool = True) -> None:
        super().__init__(detail)
        self._body_is_read = body_is_read

    def headers(self) -> dict[str, str]:
        return {} if self._body_is_read else {"connection": "close"}


class LineTooLong(ServiceError):
    status = 414
    code = "line_too_long"
    title = "Request line too long"


class UnsupportedMediaType(ServiceError):
    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"


class InvalidRequest(ServiceError):
    status = 422
    code = "invalid"
    title = "Invalid request"


class FilterRefused(InvalidRequest):
    code = "invalid_filter"
    title = "Invalid metadata filter"


class CiphertextRefused(InvalidRequest):
    code = "invalid_ciphertext"
    title = "Invalid ciphertext"


class LimitExceeded(InvalidRequest):
    code = "limit_exceeded"
    title = "Limit exceeded"


class IdempotencyKeyReused(InvalidRequest):
    code = "idempotency_key_reused"
    title = "Idempotency key reused"


class RateLimited(ServiceError):
    status = 429
    code = "rate_limited"
    title = "Too many requests"

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self._retry_after_s = retry_after_s

    def headers(self) -> dict[str, str]:
        return {"retry-after": str(self._retry_after_s)}


class HeadersTooLarge(ServiceError):
    status = 431
    code = "headers_too_large"
    title = "Request headers too large"


class ServerFault(ServiceError):
    def __init__(self, request_id: str) -> None:
        super().__init__(f"the service failed to answer; the cause is in its log, under the request id {request_id}")


class BlockDamaged(ServerFault):
    code = "block_damaged"
    title = "Block damaged"

    def __init__(self, kb_id: str, block_id: int) -> None:
        ServiceError.__init__(
            self,
            f"the block {block_id} of the knowledge base {kb_id} is damaged in the server's database: the SHA-256 of "
            "its body is not the one that was stored; no chunk is affected, but searches by this block fail until it "
            f"is replaced: run `xtrace kb seal` with --remake {block_id}",
        )


class Unavailable(ServiceError):
    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"

    def headers(self) -> dict[str, str]:
        return {"retry-after": str(RETRY_AFTER_S)}


class Overloaded(Unavailable):
    code = "overloaded"
    title = "Overloaded"


class DeadlineExceeded(Unavailable):
    code = "deadline_exceeded"
    title = "Deadline exceeded"

    def __init__(self, seconds: float) -> None:
        limit = f"{seconds:g} seconds (request_timeout_s)"
        super().__init__(f"the request was cancelled after {limit}; nothing was changed")


class StorageReadOnly(Unavailable):
    code = "storage_read_only"
    title = "Storage is read-only"

    def __init__(self) -> None:
        super().__init__("the server cannot write to its disk at the moment; nothing was changed")


class StorageFull(Unavailable):
    status = 507
    code = "storage_full"
    title = "Storage is full"

    def __init__(self) -> None:
        super().__init__("the server's disk is full; nothing was changed")


def _some(chunk_ids: list[int]) -> str:
    more = f" and {len(chunk_ids) - 20} more" if len(chunk_ids) > 20 else ""
    return ", ".join([_short(chunk_id) for chunk_id in chunk_ids[:20]]) + more


def _short(number: int) -> str:
    # Python refuses to convert integers of more than 4,300 digits to text.
    return str(number) if abs(number) < 2**64 else "(a number of more than 64 bits)"
