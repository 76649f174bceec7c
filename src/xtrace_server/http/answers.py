"""JSON answers, and answers that are sent part by part."""

import asyncio
from typing import Any, Final

import msgspec
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

JSON: Final = "application/json"
FOREVER: Final = "private, max-age=31536000, immutable"
"""The `Cache-Control` of an answer that never changes."""

_encoder = msgspec.json.Encoder()


def json_answer(value: Any) -> Response:
    """Returns status 200 with the value as JSON."""
    return Response(_encoder.encode(value), media_type=JSON)


class StreamedAnswer(StreamingResponse):
    """An answer that is sent part by part, until its end or until the client disconnects.

    The protocol reports that, so unlike the base class this needs no second task to wait for it.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        when_gone = scope["extensions"]["xtrace.when_gone"]
        try:
            async with asyncio.timeout(None) as until:
                when_gone(lambda: until.reschedule(0))
                await self.stream_response(send)
        except TimeoutError:
            if not until.expired():
                raise
        finally:
            when_gone(None)
