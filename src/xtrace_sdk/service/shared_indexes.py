"""The calls for shared indexes: sealed copies of local indexes, which clients leave for each other on the service."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final

from xtrace_core import wire
from xtrace_sdk.arguments import Count, checked_calls
from xtrace_sdk.errors import InvalidAnswer
from xtrace_sdk.limits import MAX_COUNT_BYTES
from xtrace_sdk.service.contract import Parameters, Service
from xtrace_sdk.service.payloads import encode

_DESCRIPTION_BYTES: Final = 2 * wire.MAX_INDEX_MANIFEST_BYTES + 128 * wire.MAX_SEGMENTS
"""The largest description: a manifest in base64, and for each segment its hash and size with their names."""


@checked_calls
class SharedIndexes:
    """The calls of `XTraceIntegration` for shared indexes. Each call may raise `ServerError` and `NetworkError`.

    The service stores what it gets: authenticate every manifest and every segment that you read.
    """

    _service: Service

    async def shared_index(self, kb_id: str, context_id: str, kind: str) -> wire.SharedIndex:
        """Returns the shared index of this kind: its version, its manifest, and the hashes and sizes of its segments.

        Without a shared index, the version is 0 and the rest is empty. Raises `ContextNotFound`, and `NotFound` if the
        service does not support shared indexes.
        """
        place = _place(kb_id, context_id, kind)
        found = await self._service.data(
            "GET", "local/index", wire.SharedIndex, parameters=place, max_bytes=_DESCRIPTION_BYTES
        )
        if len({one.sha256 for one in found.segments}) < len(found.segments):
            raise InvalidAnswer("the server listed a segment of a shared index twice")
        if not found.version and (found.manifest or found.segments):
            raise InvalidAnswer("the server returned parts of a shared index that does not exist")
        return found

    async def get_index_segment(self, kb_id: str, context_id: str, kind: str, sha256: str) -> bytes:
        """Returns the segment with this SHA-256, 64 hexadecimal digits.

        Raises `SegmentNotFound` if the shared index was replaced since it listed the segment.
        """
        got = await self._service.octets(
            "GET",
            "local/segment",
            wire.SEGMENT_MEDIA_TYPE,
            parameters=[*_place(kb_id, context_id, kind), ("sha256", sha256)],
            max_bytes=wire.MAX_SEGMENT_BYTES,
        )
        if await _hash(got.body) != sha256:
            raise InvalidAnswer("the server returned a segment of a shared index with another SHA-256 than requested")
        return got.body

    async def add_index_segment(self, kb_id: str, context_id: str, kind: str, segment: bytes) -> str:
        """Stores a segment for the next shared index, and returns its SHA-256. The same one again changes nothing.

        The service deletes it after six hours if no shared index lists it. Raises `ContextRetired`, `QuotaExceeded`.
        """
        place = _place(kb_id, context_id, kind)
        stored = await self._service.store_octets("local/segment", wire.IndexSegment, segment, place)
        if (stored.sha256, stored.bytes) != (await _hash(segment), len(segment)):
            raise InvalidAnswer("the server stored a segment of a shared index with other bytes than sent")
        return stored.sha256

    async def put_shared_index(
        self, kb_id: str, context_id: str, kind: str, replaces: Count, manifest: bytes, segments: Sequence[str]
    ) -> int:
        """Stores a shared index of stored segments, given by their SHA-256, and returns its version.

        `replaces` is the version that it replaces, 0 for none. Segments of the replaced one that are not listed are
        deleted. Raises `SharedIndexOutdated` if another version is stored or a segment is missing; then nothing
        changed. Raises `ContextRetired`, `QuotaExceeded`.
        """
        payload = wire.PutSharedIndex(kb_id, context_id, kind, replaces, manifest, list(segments))
        body = await asyncio.to_thread(encode, payload)
        answer = await self._service.data(
            "PUT", "local/index", wire.SharedIndexVersion, body=body, max_bytes=MAX_COUNT_BYTES
        )
        return answer.version

    async def delete_shared_index(self, kb_id: str, context_id: str, kind: str) -> None:
        """Deletes the shared index, if any, and every segment of its kind."""
        place = _place(kb_id, context_id, kind)
        await self._service.data(
            "DELETE", "local/index", wire.Acknowledgement, parameters=place, max_bytes=MAX_COUNT_BYTES
        )


def _place(kb_id: str, context_id: str, kind: str) -> Parameters:
    return [("kb_id", kb_id), ("context_id", context_id), ("kind", kind)]


async def _hash(body: bytes) -> str:
    return await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())
