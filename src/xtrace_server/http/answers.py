"""JSON answers."""

from typing import Any, Final

import msgspec
from fastapi import Response

JSON: Final = "application/json"

_encoder = msgspec.json.Encoder()


def json_answer(value: Any) -> Response:
    """Returns status 200 with the value as JSON."""
    return Response(_encoder.encode(value), media_type=JSON)
