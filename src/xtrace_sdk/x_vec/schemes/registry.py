"""The schemes by name: the one place that lists them."""

from collections.abc import Mapping
from typing import Any

from xtrace_sdk.errors import UnknownScheme
from xtrace_sdk.x_vec.schemes.paillier.full_noise import PaillierClient
from xtrace_sdk.x_vec.schemes.paillier.lookup import PaillierLookupClient
from xtrace_sdk.x_vec.schemes.paillier.scheme import HomomorphicClient

SCHEMES: Mapping[str, type[PaillierClient | PaillierLookupClient]] = {
    "paillier": PaillierClient,
    "paillier_lookup": PaillierLookupClient,
}
"""The names that `homomorphic_client_type` may take."""


def generate_client(
    scheme: str, embed_len: int, key_len: int, alpha_len: int | None, insecure_allow_weak_parameters: bool
) -> HomomorphicClient:
    """A client of that scheme with a new key. Raises `UnknownScheme`, `WeakParameters`, `InvalidArgument`."""
    if scheme not in SCHEMES:
        raise UnknownScheme(f"the scheme is {scheme!r}, expected one of {', '.join(SCHEMES)}")
    if scheme == "paillier_lookup":
        return PaillierLookupClient.generate(embed_len, key_len, alpha_len, insecure_allow_weak_parameters)
    return PaillierClient.generate(embed_len, key_len, insecure_allow_weak_parameters)


def load_client(type_: str, config: Mapping[str, Any], secret: Mapping[str, str]) -> HomomorphicClient:
    """The client of a stored context. Raises `UnknownScheme` or `InvalidContext`."""
    for client in SCHEMES.values():
        if client.type == type_:
            return client.load(config, secret)
    raise UnknownScheme(f"the context's type is {type_!r}, which this version does not know: update the software")
