"""Keys and ciphertexts with the weaknesses that a key audit must find, each planted at a real key length."""

import json
import secrets
from collections.abc import Callable, Mapping
from functools import cache

from gmpy2 import is_prime, primorial

from support.crypto_support import first_prime_from, generated
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts
from xtrace_sdk.x_vec.upkeep.audit.public_key import PublicKey
from xtrace_sdk.x_vec.upkeep.audit.samples import Sample

PRIME_BITS = 1024


def random_prime() -> int:
    """A prime of a real key's length, without any weakness."""
    return first_prime_from(3 << (PRIME_BITS - 2) | secrets.randbits(PRIME_BITS - 2) | 1)


@cache
def good_prime() -> int:
    """One such prime, the same for every test of a session."""
    return random_prime()


@cache
def smooth_prime(sign: int, bound: int, last: int = 1) -> int:
    """A prime p for which p − sign is a product of different primes below the bound, and of `last`."""
    return _first_prime(lambda: _smooth(bound, last) + sign)


def _smooth(bound: int, last: int) -> int:
    product, used = 2 * last, {2}
    while product.bit_length() < PRIME_BITS:
        prime = first_prime_from(3 + 2 * secrets.randbelow(bound // 2 - 64))
        if prime not in used:
            used.add(prime)
            product *= prime
    return product


def prime_of_the_broken_generator() -> int:
    """A prime as CVE-2017-15361 made them: k·M + (65537^a mod M), M the product of the first 126 primes."""
    product = int(primorial(701))
    bits = PRIME_BITS - product.bit_length()
    return _first_prime(
        lambda: (1 << bits | secrets.randbits(bits)) * product + pow(65537, secrets.randbelow(product), product)
    )


def _first_prime(candidate: Callable[[], int]) -> int:
    while not is_prime(value := candidate()):
        pass
    return value


def prime_near(value: int) -> int:
    """The next prime."""
    return first_prime_from(value + 1 + value % 2)


def public_key(
    n: int, scheme: str = "PaillierClient", key_len: int = PRIME_BITS, pk: Mapping[str, int] | None = None
) -> PublicKey:
    """The key as it is read from a saved context; `pk` are further fields of it."""
    config: dict[str, int] = {"embed_len": 64, "key_len": key_len}
    if scheme == "PaillierLookupClient":
        config["alpha_len"] = 512
    texts = {name: str(value) for name, value in {"n": n, **(pk or {})}.items()}
    return PublicKey.read(PublicParts(scheme, json.dumps(texts), json.dumps(config)))


def samples_of(ciphertexts: list[int]) -> list[Sample]:
    """A chunk for each ciphertext, with a nonce that is as good as it should be."""
    return [Sample((value,), secrets.token_bytes(30)) for value in ciphertexts]


def good_samples(scheme: str, count: int) -> tuple[PublicKey, list[Sample]]:
    """A key of ours at a real length, and chunks under it."""
    owner = generated(scheme, PRIME_BITS)
    batch = owner.encrypt_vec_batch([[number >> bit & 1 for bit in range(8)] for number in range(count)])
    return public_key(owner.n, owner.type), [Sample(tuple(index), index.nonce) for index in batch]
