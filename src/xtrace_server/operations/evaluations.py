"""Finds what the service can compute for a stored context."""

from xtrace_core.schemes.interface import Evaluation, InvalidPublicKey
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_server.errors import InvalidRequest


def evaluation_of(schemes: SchemeRegistry, type_: str, pk: str) -> Evaluation:
    """Returns the evaluation for a context's public part. Raises `InvalidRequest`."""
    try:
        return schemes.evaluation(type_, pk)
    except InvalidPublicKey as error:
        raise InvalidRequest(f"data: {error}") from None
