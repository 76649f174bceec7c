"""The client's half of every scheme, by name. No other list exists."""

from collections.abc import Mapping
from typing import Any, Protocol

from xtrace_sdk.errors import InvalidArgument, UnknownScheme
from xtrace_sdk.x_vec.schemes.interface import HomomorphicClient, SchemeParameters
from xtrace_sdk.x_vec.schemes.lattice.scheme import LatticeClient
from xtrace_sdk.x_vec.schemes.paillier.full_noise import PaillierClient
from xtrace_sdk.x_vec.schemes.paillier.lookup import PaillierLookupClient


class SchemeClass(Protocol):
    """Creates clients of a scheme."""

    type: str
    parameters: frozenset[str]
    """The `SchemeParameters` that the scheme uses."""

    def create(self, embed_len: int, parameters: SchemeParameters) -> HomomorphicClient:
        """Creates a client with a new key."""

    def load(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> HomomorphicClient:
        """Creates the client from the results of `config` and `secrets`."""


SCHEMES: dict[str, SchemeClass] = {
    "paillier": PaillierClient,
    "paillier_lookup": PaillierLookupClient,
    "lattice": LatticeClient,
}
"""The valid values of `homomorphic_client_type`."""


def create_client(scheme: str, embed_len: int, parameters: SchemeParameters) -> HomomorphicClient:
    """Creates a client of this scheme with a new key.

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
    """Creates the client of a stored context. Raises `UnknownScheme` or `InvalidContext`."""
    for client in SCHEMES.values():
        if client.type == type_:
            return client.load(config, secret)
    raise UnknownScheme(f"the context's type is {type_!r}, which this version does not support: update XTrace")


def scheme_name(type_: str) -> str:
    """Returns the name of the scheme of a stored type; the type itself if this version does not know it."""
    return next((name for name, client in SCHEMES.items() if client.type == type_), type_)
