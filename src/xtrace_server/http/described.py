"""What a route declares for the OpenAPI document: its answer and query parameters.

Bodies describe themselves (`body_of`), and so do path parameters, keys, and the errors that follow from them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter; `schema` is JSON Schema, an array if the parameter may be repeated."""

    name: str
    schema: dict[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """`answers` are the possible types of the JSON; empty for answers of other media types."""

    answers: Sequence[Any]
    media_types: Sequence[str]
    query: Sequence[Parameter]
    headers: Sequence[Parameter]
    statuses: Sequence[int]


def describes(
    answer: Any,
    *query: Parameter,
    media_types: Sequence[str] = (JSON,),
    headers: Sequence[Parameter] = (),
    statuses: Sequence[int] = (),
) -> Callable[[_Endpoint], _Endpoint]:
    """Declares a route's answer: JSON of one of these types; None for other media types.

    `statuses` are those of errors that do not follow from its other declarations.
    """

    answers = answer if isinstance(answer, tuple) else () if answer is None else (answer,)

    def declare(endpoint: _Endpoint) -> _Endpoint:
        endpoint.__xtrace_description__ = Description(  # type: ignore[attr-defined]
            answers, media_types, query, headers, statuses
        )
        return endpoint

    return declare


def description_of(endpoint: Any) -> Description:
    """Returns what a route declares. Raises `LookupError` if it declares nothing."""
    description = getattr(endpoint, "__xtrace_description__", None)
    if not isinstance(description, Description):
        raise LookupError(f"the route {getattr(endpoint, '__qualname__', endpoint)!r} does not declare @describes")
    return description


KB_ID = Parameter("kb_id", {"type": "string", "minLength": 1}, required=True)
CHUNK_IDS = Parameter("chunk_ids", {"type": "array", "items": {"type": "integer"}})
CONTEXT_ID = Parameter("context_id", {"type": "string", "minLength": 1}, required=True)
BLOCK_IDS = Parameter("block_ids", {"type": "array", "items": {"type": "integer"}})
