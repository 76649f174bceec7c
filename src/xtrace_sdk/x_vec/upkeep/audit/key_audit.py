"""Audits public keys: reports which known attacks were tried, how far, and whether one succeeded.

An "ok" only says what the check excludes: no check can prove that a key is good. What an attack finds, in particular a
prime, never leaves this module; only the fact does.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import log, sqrt

from gmpy2 import gcd, is_power, is_prime, powmod

from xtrace_sdk.x_vec.schemes.paillier.lookup import MIN_ALPHA_LEN
from xtrace_sdk.x_vec.schemes.paillier.noise import NONCE_BYTES
from xtrace_sdk.x_vec.schemes.paillier.scheme import MIN_KEY_LEN
from xtrace_sdk.x_vec.upkeep.audit import factors, orders, samples
from xtrace_sdk.x_vec.upkeep.audit.public_key import PublicKey
from xtrace_sdk.x_vec.upkeep.audit.samples import Sample

MAX_SAMPLED_CIPHERTEXTS = 512
"""The maximum number of ciphertexts, because comparing all pairs takes quadratic time."""
SMALL_PRIME_BOUND = 1 << 20
FERMAT_STEPS = 1 << 20
P_MINUS_1_BOUND = 1 << 20
P_PLUS_1_BOUND = 1 << 16
P_PLUS_1_STARTS = (3, 5, 9, 11)
NOISE_ORDER_BOUND = 1 << 18
SHORT_ROOT_BOUND = 1 << 12
FIRST_ORDER_BITS, LAST_ORDER_BITS, ORDER_BITS_STEP = 28, 40, 2
_GROWTH = 2.5
"""How much longer the search takes for orders that are two bits longer."""
_UNIFORM_BITS = 64
"""The number of top bits of a residue modulo n that are not uniform."""


class Outcome(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    WEAK = "weak"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: an attack, its outcome, and what that excludes or means. Does not contain secrets."""

    name: str
    outcome: Outcome
    detail: str


def audit_keys(
    keys: Sequence[PublicKey], sampled: Sequence[Sequence[Sample]], seconds: float = 30
) -> Iterator[list[Check]]:
    """Yields the checks of each key as they finish; `sampled` are chunks stored under each key, possibly none.

    The search for small orders goes on for about `seconds` a key and covers 28 bits in any case; 32 bits take seconds,
    40 minutes. The other checks take some eight seconds at 2048 bits.
    """
    distinct = list(dict.fromkeys(keys))
    shared = dict(zip(distinct, factors.shared_factors([key.n for key in distinct]), strict=True))
    for key, chunks in zip(keys, sampled, strict=True):
        yield list(_checks(key, shared[key] if len(distinct) > 1 else None, chunks, seconds))


def is_weak(checks: Sequence[Check]) -> bool:
    """Whether an attack succeeded."""
    return any(check.outcome is Outcome.WEAK for check in checks)


def _checks(key: PublicKey, shared: int | None, chunks: Sequence[Sample], seconds: float) -> Iterator[Check]:
    modulus = _modulus(key)
    yield modulus
    yield _parameters(key)
    yield _shared(shared)
    if _factored_at_once(key.n):
        return  # there is nothing left to attack
    yield _fermat(key.n)
    yield _roca(key.n)
    yield _p_plus_1(key.n)
    yield from _ciphertexts(key, chunks)
    # What is left of the time is for this, so it comes last.
    yield from _orders(key, _residues(key, chunks), seconds)


# From the public key alone


def _factored_at_once(n: int) -> str | None:
    """Why n cannot be a modulus, if it cannot."""
    if n % 2 == 0:
        return "n is even, so it is factored"
    if is_prime(n) or is_power(n):
        return "n is a prime or a power, so its Euler function is known"
    if factors.small_factor(n, SMALL_PRIME_BOUND) != 1:
        return f"n has a prime factor below {_power_of_two(SMALL_PRIME_BOUND)}"
    return None


def _modulus(key: PublicKey) -> Check:
    n, name = key.n, "modulus"
    if reason := _factored_at_once(n):
        return _weak(name, reason)
    if n.bit_length() < 2 * MIN_KEY_LEN - 1:
        return _weak(name, f"n has {n.bit_length()} bits, fewer than the {2 * MIN_KEY_LEN} of 112-bit security")
    if not 2 * key.key_len - 1 <= n.bit_length() <= 2 * key.key_len:
        return _weak(name, f"n has {n.bit_length()} bits, but the configuration says key_len {key.key_len}")
    bound = _power_of_two(SMALL_PRIME_BOUND)
    return _ok(name, f"{n.bit_length()} bits, odd, neither prime nor a power, no prime factor below {bound}")


def _parameters(key: PublicKey) -> Check:
    n, square, name = key.n, key.n * key.n, "parameters"
    g = 1 + n if key.g is None else key.g
    if not 1 < g < square or gcd(g, n) != 1:
        return _weak(name, "g is not an element modulo n squared, or gives a factor of n")
    if not key.is_plain and not key.noise_has_a_subgroup:
        return _weak(name, "g is not 1 + n, as it is in this scheme")
    if key.n_squared not in (None, square) or key.g_n not in (None, powmod(g, n, square)):
        return _weak(name, "n_squared or g_n is not what it says")
    if key.noise_has_a_subgroup and key.alpha_len is not None and key.alpha_len < MIN_ALPHA_LEN:
        return _weak(name, f"alpha_len is {key.alpha_len}, less than the {MIN_ALPHA_LEN} that withstand a search")
    return _ok(name, "g = 1 + n" if key.is_plain else "g and what is derived from it fit n")


def _shared(shared: int | None) -> Check:
    name = "common factors"
    if shared is None:
        return _not_checked(name, "takes several keys")
    return _ok(name, "none with the other keys") if shared == 1 else _weak(name, "n has a factor that another key has")


def _fermat(n: int) -> Check:
    name = "close primes"
    if factors.fermat_divisor(n, FERMAT_STEPS) != 1:
        return _weak(name, "n was factored: its primes are close together, or in a simple ratio (Fermat, Lehman)")
    bits = factors.fermat_difference_bits(n, FERMAT_STEPS)
    return _ok(name, f"the primes differ by more than 2^{bits} (Fermat)")


def _roca(n: int) -> Check:
    name = "ROCA"
    if factors.has_roca_form(n):
        return _weak(
            name, "n is a power of 65537 modulo small primes, as the broken generator makes it (CVE-2017-15361)"
        )
    return _ok(name, "the primes are not of that generator's form")


def _p_plus_1(n: int) -> Check:
    name, bound = "p + 1", _power_of_two(P_PLUS_1_BOUND)
    for start in P_PLUS_1_STARTS:
        if orders.divisor_by_smooth_lucas_order(n, start, P_PLUS_1_BOUND) != 1:
            return _weak(name, f"n was factored: p + 1 or p - 1 of a prime is a product of prime powers up to {bound}")
    starts = len(P_PLUS_1_STARTS)
    return _ok(
        name, f"not a product of prime powers up to {bound} ({starts} starts, each sees it with probability 1/2)"
    )


# Orders: as far as the time allows


@dataclass(slots=True)
class _Search:
    """The search for the order of one element, from stage 1 on."""

    name: str
    element: int
    smooth_bound: int
    divisor: int = field(default=1)
    bits: int = field(default=0)

    def raise_element(self, n: int) -> None:
        self.divisor, raised = orders.divisor_by_smooth_order(n, self.element, self.smooth_bound)
        self.element = int(raised)

    def search(self, n: int, bits: int) -> None:
        self.divisor, self.bits = orders.divisor_by_odd_order(n, self.element, bits), bits

    def result(self, n: int) -> Check:
        if self.divisor == 1:
            bound = _power_of_two(self.smooth_bound)
            return _ok(self.name, f"no order below 2^{self.bits} times prime powers up to {bound}")
        found = "n was factored" if self.divisor < n else "the order was found"
        return _weak(self.name, f"{found}: the order is small or smooth")


def _orders(key: PublicKey, residues: Sequence[int], seconds: float) -> Iterator[Check]:
    n = key.n
    searches = [_Search("p - 1", 3, P_MINUS_1_BOUND)]
    if not key.is_plain:
        searches.append(_Search("noise group", int(powmod(key.g or 0, n, n)), NOISE_ORDER_BOUND))
    elif residues:
        searches.append(_Search("noise group", int(powmod(residues[0], n, n)), NOISE_ORDER_BOUND))
    for search in searches:
        search.raise_element(n)
    last, ends = 0.0, time.monotonic() + seconds
    for bits in range(FIRST_ORDER_BITS, LAST_ORDER_BITS + 1, ORDER_BITS_STEP):
        for search in searches:
            began = time.monotonic()
            if search.divisor == 1 and (bits == FIRST_ORDER_BITS or began + _GROWTH * last < ends):
                search.search(n, bits)
                last = time.monotonic() - began
    yield from [search.result(n) for search in searches]
    if len(searches) == 1:
        yield _without_samples("noise group")


# From ciphertexts and nonces


def _ciphertexts(key: PublicKey, chunks: Sequence[Sample]) -> Iterator[Check]:
    names = ("ciphertexts", "missing noise", "equal noise", "short noise", "biased noise", "Jacobi symbols", "nonces")
    ciphertexts = _sampled(chunks)
    if not ciphertexts:
        yield from map(_without_samples, names)
        return
    square = key.n * key.n
    invalid = sum(not 0 < value < square or gcd(value, key.n) != 1 for value in ciphertexts)
    if invalid:
        yield _weak(
            "ciphertexts", f"{invalid} of {len(ciphertexts)} are not valid: out of range, or they share a factor with n"
        )
    else:
        yield _ok("ciphertexts", f"{len(ciphertexts)} of {len(chunks)} chunks, each in range and prime to n")
    residues = _residues(key, chunks)
    yield _missing_noise(key.n, residues)
    yield _equal_noise(key.n, residues)
    yield _short_noise(key.n, residues)
    yield _biased_noise(key.n, residues)
    yield _jacobi(key, residues)
    yield _nonces([chunk.nonce for chunk in chunks if chunk.nonce is not None])


def _sampled(chunks: Sequence[Sample]) -> list[int]:
    return [value for chunk in chunks for value in chunk.ciphertexts][:MAX_SAMPLED_CIPHERTEXTS]


def _residues(key: PublicKey, chunks: Sequence[Sample]) -> list[int]:
    """The ciphertexts modulo n: with g = 1 + n the noise alone."""
    residues = [value % key.n for value in _sampled(chunks)]
    return [residue for residue in residues if gcd(residue, key.n) == 1]


def _missing_noise(n: int, residues: Sequence[int]) -> Check:
    name, missing = "missing noise", len(samples.without_noise(residues, n))
    if missing:
        return _weak(name, f"the noise of {missing} of {len(residues)} ciphertexts is 1: everyone can read them")
    return _ok(name, f"in none of {len(residues)} ciphertexts")


def _equal_noise(n: int, residues: Sequence[int]) -> Check:
    name, shared = "equal noise", samples.shared_noise(residues, n)
    if shared != 1:
        also = "" if shared == n else ", and modulo one prime alone, which factors n"
        return _weak(name, f"ciphertexts have equal noise{also}: their quotient shows how their messages differ")
    return _ok(name, f"no two of {len(residues)} ciphertexts, modulo either prime")


def _short_noise(n: int, residues: Sequence[int]) -> Check:
    name = "short noise"
    roots = len(samples.short_root_residues(residues, n, SHORT_ROOT_BOUND))
    if roots:
        return _weak(name, f"the noise of {roots} ciphertexts is r^n with r up to {SHORT_ROOT_BOUND}")
    if samples.related_products(residues, n):
        return _weak(name, "products of ciphertexts have equal noise: its exponents are short, or its group small")
    bits = samples.related_exponent_bits(len(set(residues)))
    related = f", or h^a with a below 2^{bits} throughout" if bits else ""  # a few ciphertexts exclude nothing there
    return _ok(name, f"none is r^n with r up to {SHORT_ROOT_BOUND}{related}")


def _biased_noise(n: int, residues: Sequence[int]) -> Check:
    name, bits = "biased noise", n.bit_length() - _UNIFORM_BITS
    if len(residues) < (enough := samples.enough_for_bias(bits)):
        return _not_checked(name, f"takes {enough} ciphertexts, there are {len(residues)}")
    biased = samples.biased_bits(residues, bits)
    if biased:
        return _weak(
            name, f"{len(biased)} bits of the ciphertexts modulo n are not uniform, the first is bit {biased[0]}"
        )
    return _ok(name, f"the {bits} lower bits of the ciphertexts modulo n are as often 0 as 1")


def _jacobi(key: PublicKey, residues: Sequence[int]) -> Check:
    name, ones = "Jacobi symbols", samples.jacobi_symbols(residues, key.n).count(1)
    total = len(residues)
    if key.noise_has_a_subgroup:
        if ones != total:
            return _weak(
                name, f"{total - ones} of {total} are -1: the noise group has not the odd order that it should have"
            )
        return _ok(name, f"all {total} are 1, as in a noise group of odd order")
    if abs(ones - total / 2) > sqrt(total * log(2 / samples.FALSE_ALARM) / 2):
        return _weak(name, f"{ones} of {total} are 1, which should be about half: the noise is not uniform")
    return _ok(name, f"{ones} of {total} are 1, as uniform noise has them")


def _nonces(nonces: Sequence[bytes]) -> Check:
    name, bits = "nonces", 8 * NONCE_BYTES
    if not nonces:
        return _not_checked(name, "these chunks do not have nonces")
    if any(len(nonce) != NONCE_BYTES for nonce in nonces):
        return _weak(name, f"not all of {len(nonces)} have {NONCE_BYTES} bytes")
    if len(set(nonces)) < len(nonces):
        return _weak(name, "chunks have equal nonces, and so equal noise")
    if biased := samples.biased_bits([int.from_bytes(nonce, "big") for nonce in nonces], bits):
        return _weak(name, f"{len(biased)} bits of {len(nonces)} nonces are not uniform")
    enough = len(nonces) >= samples.enough_for_bias(bits)
    return _ok(name, f"{len(nonces)} nonces, no two equal" + (", every bit as often 0 as 1" if enough else ""))


def _ok(name: str, detail: str) -> Check:
    return Check(name, Outcome.OK, detail)


def _weak(name: str, detail: str) -> Check:
    return Check(name, Outcome.WEAK, detail)


def _not_checked(name: str, detail: str) -> Check:
    return Check(name, Outcome.NOT_CHECKED, detail)


def _without_samples(name: str) -> Check:
    return _not_checked(name, "takes ciphertexts: name a knowledge base")


def _power_of_two(bound: int) -> str:
    return f"2^{bound.bit_length() - 1}"
