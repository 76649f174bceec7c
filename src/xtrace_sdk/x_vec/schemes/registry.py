"""The client's half of every scheme, by name: the one place that lists them."""

from collections.abc import Mapping
from typing import Any, Protocol

from xtrace_sdk.errors import InvalidArgument, UnknownScheme
from xtrace_sdk.x_vec.schemes.interface import HomomorphicClient, SchemeParameters
from xtrace_sdk.x_vec.schemes.paillier.full_noise import PaillierClient
from xtrace_sdk.x_vec.schemes.paillier.lookup import PaillierLookupClient


class SchemeClass(Protocol):
    """How clients of a scheme are made."""

    type: str
    parameters: frozenset[str]
    """Which of `SchemeParameters` the scheme has."""

    def create(self, embed_len: int, parameters: SchemeParameters) -> HomomorphicClient:
        """A client with a new key."""

    def load(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> HomomorphicClient:
        """The client from what `config` and `secrets` gave."""


SCHEMES: dict[str, SchemeClass] = {
    "paillier": PaillierClient,
    "paillier_lookup": PaillierLookupClient,
}
"""The names that `homomorphic_client_type` may take."""


def create_client(scheme: str, embed_len: int, parameters: SchemeParameters) -> HomomorphicClient:
    """A client of that scheme with a new key.

    Raises `UnknownScheme`, `WeakParameters`, and `InvalidArgument` for parameters that the scheme does not have.
    """
    chosen = _scheme_class(scheme)
    for name in ("key_len", "alpha_len"):
        value = getattr(parameters, name)
        if value is not None and name not in chosen.parameters:
            raise InvalidArgument(f"{name} is {value}, but the scheme {scheme} does not use it: omit it")
    return chosen.create(embed_len, parameters)


def has_parameter(scheme: str, name: str) -> bool:
    """Whether a scheme has the parameter. Raises `UnknownScheme`."""
    return name in _scheme_class(scheme).parameters


def _scheme_class(scheme: str) -> SchemeClass:
    if scheme not in SCHEMES:
        raise UnknownScheme(f"the scheme is {scheme!r}, expected one of {', '.join(SCHEMES)}")
    return SCHEMES[scheme]


def load_client(type_: str, config: Mapping[str, Any], secret: Mapping[str, str]) -> HomomorphicClient:
    """The client of a stored context. Raises `UnknownScheme` or `InvalidContext`."""
    for client in SCHEMES.values():
        if client.type == type_:
            return client.load(config, secret)
    raise UnknownScheme(f"the context's type is {type_!r}, which this version does not support: update XTrace")


def scheme_name(type_: str) -> str:
    """The name of the scheme of a stored type; the type itself if this version does not know it."""
    return next((name for name, client in SCHEMES.items() if client.type == type_), type_)
