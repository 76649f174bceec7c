"""Keys, clients and a server for the tests of the cryptography; every key is made once a session.

Short keys, because the algebra is the same and primes of 256 bits cost nothing. They protect nothing.
"""

import json
import secrets
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from gmpy2 import is_prime
from numpy.typing import NDArray

from support import reference_paillier as reference
from xtrace_core.arithmetic import Rows
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndex, EncryptedIndexBatch
from xtrace_sdk.x_vec.schemes.paillier.encoding import Base, choose_base
from xtrace_sdk.x_vec.schemes.paillier.full_noise import FullNoisePrime, PaillierClient
from xtrace_sdk.x_vec.schemes.paillier.lookup import PaillierLookupClient, SubgroupPrime
from xtrace_sdk.x_vec.schemes.paillier.noise import NoiseKeys
from xtrace_sdk.x_vec.schemes.paillier.query import EncryptedQuery
from xtrace_sdk.x_vec.schemes.paillier.scheme import PaillierScheme

SCHEMES = ("paillier", "paillier_lookup")
Client = PaillierClient | PaillierLookupClient
CLIENTS: dict[str, type[Client]] = {"paillier": PaillierClient, "paillier_lookup": PaillierLookupClient}
Vectors = NDArray[np.uint8]
Row = list[bytes]


@cache
def generated(scheme: str, key_len: int) -> Client:
    """A client with a key as users get it, but for its length."""
    kind = PaillierClient if scheme == "paillier" else PaillierLookupClient
    made = kind.generate(8, key_len, insecure_allow_weak_parameters=True)
    _KEYS[scheme, key_len] = made.secrets()
    show_keys()
    return made


_KEYS: dict[tuple[str, int], dict[str, str]] = {}


def show_keys() -> None:
    """Prints the session's keys; pytest shows them with a test that fails, which can then be run with them again."""
    for (scheme, key_len), secret in _KEYS.items():
        print(f"{scheme}, key_len {key_len}: {secret}")  # noqa: T201


@cache
def client(scheme: str, key_len: int, embed_len: int) -> Client:
    """The same key for vectors of another length."""
    model = generated(scheme, key_len)
    return with_sides(model, model._sides, embed_len)


def with_sides(model: PaillierScheme, sides: Any, embed_len: int, base: Base | None = None) -> Client:
    """A client of the model's kind and noise keys over other sides or another length."""
    kind = PaillierLookupClient if isinstance(model, PaillierLookupClient) else PaillierClient
    chosen = base or choose_base(embed_len, model.key_len)
    if kind is PaillierLookupClient:
        return PaillierLookupClient(sides[0], sides[1], model._keys, embed_len, model.key_len, chosen)
    return PaillierClient(sides, model._keys, embed_len, model.key_len, chosen)


def first_prime_from(lowest: int, step: int = 2) -> int:
    """The first prime among lowest, lowest + step, …"""
    while not is_prime(lowest, 40):
        lowest += step
    return lowest


@cache
def smallest_sides(scheme: str, key_len: int) -> tuple[Any, Any]:
    """The two smallest primes that key generation may give (for `paillier_lookup`: with two fixed orders)."""
    floor = 3 << (key_len - 2)
    if scheme == "paillier":
        p = first_prime_from(floor + 1)
        q = first_prime_from(p + 2)
        return FullNoisePrime(p, q), FullNoisePrime(q, p)
    u_p = first_prime_from((1 << 223) + 1)
    u_q = first_prime_from(u_p + 2)
    p, q = (first_prime_from(-(-floor // (2 * u)) * 2 * u + 1, 2 * u) for u in (u_p, u_q))
    return SubgroupPrime.generate(p, q, u_p), SubgroupPrime.generate(q, p, u_q)


def reference_key(owner: PaillierScheme) -> reference.AnyKey:
    """The client's key for the reference implementation."""
    secret = owner.secrets()
    names = ("p", "q", "u_p", "u_q", "h_p", "h_q")
    numbers = {name: int(secret[name], 16) for name in names if name in secret}
    kind = reference.LookupKey if "u_p" in secret else reference.PaillierKey
    return kind(noise_key=bytes.fromhex(secret["noise_key"]), **numbers)


def random_vectors(count: int, embed_len: int) -> Vectors:
    return np.random.default_rng(count * 10_000 + embed_len).integers(0, 2, (count, embed_len), dtype=np.uint8)


def answers(owner: PaillierScheme, batch: Sequence[EncryptedIndex], query: EncryptedQuery) -> list[Row]:
    """What the service answers: it has the public key, the ciphertexts, and nothing else."""
    service = SchemeRegistry().evaluation(owner.type, json.dumps(owner.public_key()))
    stored = [service.row(index.ciphertexts()) for index in batch]
    rows: Rows = np.frombuffer(b"".join(stored), dtype=np.uint8).reshape(len(stored), -1)
    return [service.index(row.tobytes()) for row in service.evaluate(rows, [query.ciphertexts])]


def nonces_of(batch: EncryptedIndexBatch) -> list[bytes | None]:
    return [index.nonce for index in batch]


def hamming(vectors: Vectors, query: Vectors) -> list[int]:
    return [int(distance) for distance in (vectors != query).sum(axis=1)]


def number(ciphertext: bytes) -> int:
    return int.from_bytes(ciphertext, "little")


def little(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "little")


def toy_lookup_client(order_bits: int, key_len: int, embed_len: int) -> PaillierLookupClient:
    """A client with subgroups so small that they can be searched. The product refuses to make such a key."""
    lowest = (1 << (order_bits - 1)) + 1
    u_p = first_prime_from(lowest + 2 * secrets.randbelow(1 << (order_bits - 3)))
    u_q = u_p
    while u_q == u_p:
        u_q = first_prime_from(lowest + 2 * secrets.randbelow(1 << (order_bits - 3)))
    floor = 3 << (key_len - 2)
    starts = (floor + secrets.randbelow(1 << (key_len - 4)) for _ in range(2))
    p, q = (first_prime_from(next(starts) // (2 * u) * 2 * u + 1, 2 * u) for u in (u_p, u_q))
    sides = SubgroupPrime.generate(p, q, u_p), SubgroupPrime.generate(q, p, u_q)
    return PaillierLookupClient(*sides, NoiseKeys.generate(), embed_len, key_len, "base4")
