"""The bodies of answers in JSON."""

from typing import Any, Final

import msgspec
from fastapi import Response

JSON: Final = "application/json"

_encoder = msgspec.json.Encoder()


def json_answer(value: Any) -> Response:
    """200 with the value as JSON."""
    return Response(_encoder.encode(value), media_type=JSON)
