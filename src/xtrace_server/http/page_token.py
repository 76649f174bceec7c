"""Page tokens: where a page ended, and a digest of the query that it belongs to.

Clients treat it as opaque, but it is not secret: it contains the last chunk's key and sorting value, which the page
showed. An altered token can at worst start a page elsewhere in the same results, because the query comes from the
request; so a signature would protect nothing. Tokens that do not decode or belong to another query are rejected.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

import msgspec

from xtrace_server.errors import InvalidRequest
from xtrace_server.scope import SearchScope
from xtrace_server.storage.keyset import Position

_DIGEST_BYTES = 16
_MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where the next page begins, and the number of results before it."""

    digest: bytes
    position: Position
    offset: int


def query_digest(scope: SearchScope, sort_by: str, sort_order: str) -> bytes:
    """Returns a digest of the query that a page token belongs to."""
    query = repr((scope, sort_by, sort_order))
    return hashlib.sha256(query.encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES]


def encode_token(token: PageToken) -> str:
    fields = (1, token.digest, token.position.value, token.position.pk, token.offset)
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(fields)).decode().rstrip("=")


def decode_token(text: str, digest: bytes) -> PageToken:
    """Returns the decoded token of a query with this digest. Raises `InvalidRequest`."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        fields = msgspec.msgpack.decode(data, type=tuple[int, bytes, str, int, int])
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidRequest("page_token is not valid: it was not issued by this server") from None
    version, of, value, pk, offset = fields
    if version != 1 or "\0" in value or not (0 <= pk <= _MAX_INTEGER and 0 <= offset <= _MAX_INTEGER):
        raise InvalidRequest("page_token is not valid: it was not issued by this server")
    if of != digest:
        raise InvalidRequest(
            "page_token belongs to a different query: kb_id, context_id, meta_filter, sort_by and sort_order"
        )
    return PageToken(digest, Position(value, pk), offset)
