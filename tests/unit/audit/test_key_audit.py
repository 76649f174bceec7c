"""The audit finds nothing on our keys, and each planted weakness by the check that is for it."""

import base64
import json
import secrets
from collections.abc import Callable

import pytest
from gmpy2 import jacobi, powmod

from support.crypto_support import first_prime_from, toy_lookup_client
from support.existing_client import ExistingClientKey, fixture
from support.weak_keys import (
    good_prime,
    good_samples,
    prime_near,
    prime_of_the_broken_generator,
    public_key,
    random_prime,
    samples_of,
    smooth_prime,
)
from xtrace_core.wire import ciphertext_from_bytes
from xtrace_sdk.errors import InvalidContext
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts
from xtrace_sdk.x_vec.upkeep.audit import key_audit
from xtrace_sdk.x_vec.upkeep.audit.key_audit import Check, Outcome, audit_keys, is_weak
from xtrace_sdk.x_vec.upkeep.audit.public_key import PublicKey
from xtrace_sdk.x_vec.upkeep.audit.samples import Sample

pytestmark = pytest.mark.long

LOOKUP = "PaillierLookupClient"
ORDER_BITS = 24


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that take a tenth of the time; moduli keep their length."""
    monkeypatch.setattr(key_audit, "P_MINUS_1_BOUND", 1 << 13)
    monkeypatch.setattr(key_audit, "P_PLUS_1_BOUND", 1 << 12)
    monkeypatch.setattr(key_audit, "NOISE_ORDER_BOUND", 1 << 12)
    monkeypatch.setattr(key_audit, "FERMAT_STEPS", 1 << 14)
    monkeypatch.setattr(key_audit, "SHORT_ROOT_BOUND", 64)
    monkeypatch.setattr(key_audit, "FIRST_ORDER_BITS", ORDER_BITS)


def audit(key: PublicKey, chunks: list[Sample] | None = None) -> dict[str, Check]:
    """The checks of one key by their names, without time for more than the first step of the search."""
    (checks,) = audit_keys([key], [chunks or []], seconds=0)
    assert len({check.name for check in checks}) == len(checks)
    for check in checks:  # what an attack finds, nobody is told
        assert not any(len(word) > 10 and word.isdigit() for word in check.detail.split())
    return {check.name: check for check in checks}


def weak(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if check.outcome is Outcome.WEAK}


@pytest.mark.parametrize("scheme", ["paillier", "paillier_lookup"])
def test_nothing_is_found_on_our_keys(scheme: str) -> None:
    key, chunks = good_samples(scheme, 110)
    other = public_key(random_prime() * random_prime())
    checks = next(audit_keys([key, other], [chunks, []], seconds=0))
    assert {check.outcome for check in checks} == {Outcome.OK}, checks


def modulus(scheme: str = "PaillierClient") -> int:
    return good_samples("paillier_lookup" if scheme == LOOKUP else "paillier", 1)[0].n


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (lambda: good_prime() * smooth_prime(1, 1 << 13), "p - 1"),
        (lambda: good_prime() * smooth_prime(1, 1 << 13, first_prime_from((1 << ORDER_BITS) - 1001)), "p - 1"),
        (lambda: good_prime() * smooth_prime(-1, 1 << 12), "p + 1"),
        (lambda: good_prime() * prime_near(good_prime() + (1 << 400)), "close primes"),
        (lambda: good_prime() * prime_near(good_prime() * 5 // 4), "close primes"),
        (lambda: prime_of_the_broken_generator() * prime_of_the_broken_generator(), "ROCA"),
        (lambda: good_prime() ** 2, "modulus"),
        (lambda: prime_near(good_prime() ** 2), "modulus"),
        (lambda: 2 * good_prime() * random_prime(), "modulus"),
        (lambda: 1009 * good_prime() * random_prime(), "modulus"),
    ],
)
def test_a_planted_weak_modulus_is_found_by_its_check(plant: Callable[[], int], check: str) -> None:
    n = plant()
    found = weak(audit(public_key(n, key_len=-(-n.bit_length() // 2))))
    # p + 1 sees a smooth p − 1, too.
    assert check in found
    assert found <= {check, "p + 1"}


@pytest.mark.usefixtures("brief")
def test_a_modulus_that_is_too_short_or_not_as_long_as_the_configuration_says_is_weak() -> None:
    short = prime_near(secrets.randbits(512)) * prime_near(secrets.randbits(512))
    assert "modulus" in weak(audit(public_key(short, key_len=512)))
    assert weak(audit(public_key(modulus(), key_len=1536))) == {"modulus"}


@pytest.mark.usefixtures("brief")
def test_a_prime_of_another_key_is_found_and_the_same_context_twice_is_one() -> None:
    one, other, third = (public_key(good_prime() * random_prime()) for _ in range(3))
    good = public_key(modulus())
    answers = audit_keys([one, other, good, good], [[]] * 4, seconds=0)
    assert [is_weak(checks) for checks in answers] == [True, True, False, False]
    assert weak(audit(third)) == set()  # alone, it shows nothing
    assert audit(third)["common factors"].outcome is Outcome.NOT_CHECKED


@pytest.mark.usefixtures("brief")
def test_parameters_that_do_not_fit_are_found() -> None:
    n = modulus()
    plants: list[dict[str, int]] = [
        {"g": 2 + n},
        {"g": 1},
        {"g": 1 + n, "n_squared": n * n + 1},
        {"g": 1 + n, "g_n": 2},
    ]
    for plant in plants:
        assert weak(audit(public_key(n, pk=plant))) >= {"parameters"}
    assert weak(audit(public_key(n, pk={"g": 1 + n, "n_squared": n * n}))) == set()
    owner = ExistingClientKey(1024, 8, 300)
    fitting = {"g": owner.g, "n_squared": owner.n**2, "g_n": pow(owner.g, owner.n, owner.n**2)}
    assert weak(audit(public_key(owner.n, LOOKUP, pk=fitting))) == set()
    assert weak(audit(public_key(owner.n, LOOKUP, pk=fitting | {"g_n": 2}))) == {"parameters"}


@pytest.mark.usefixtures("brief")
def test_a_small_subgroup_is_found_from_the_public_key_of_an_existing_client() -> None:
    owner = ExistingClientKey(1024, 8, ORDER_BITS)
    assert weak(audit(public_key(owner.n, LOOKUP, pk={"g": owner.g}))) == {"noise group"}


@pytest.mark.usefixtures("brief")
def test_a_small_subgroup_is_found_from_one_ciphertext() -> None:
    owner = toy_lookup_client(ORDER_BITS, 1024, 8)
    chunks = samples_of([owner.encrypt_vec_one([1] * 8)[0]])
    assert weak(audit(public_key(owner.n, LOOKUP), chunks)) == {"noise group"}
    assert audit(public_key(owner.n, LOOKUP))["noise group"].outcome is Outcome.NOT_CHECKED


def public_parts(scheme: str) -> PublicParts:
    context = fixture(scheme)["context"]
    return PublicParts(context["type"], context["pk"], context["config"])


@pytest.mark.usefixtures("brief")
def test_what_a_published_client_wrote_is_as_weak_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_audit, "FIRST_ORDER_BITS", 26)  # by default 28
    checks = audit(PublicKey.read(public_parts("paillier_lookup")))
    assert weak(checks) == {"parameters", "noise group"}
    assert "n was factored" in checks["noise group"].detail
    assert weak(audit(PublicKey.read(public_parts("paillier")))) == set()


@pytest.mark.usefixtures("brief")
def test_ciphertexts_of_a_published_client_are_looked_at_as_they_are() -> None:
    rows = fixture("paillier")["rows"]
    chunks = [Sample(tuple(ciphertext_from_bytes(base64.b64decode(one)) for one in row["index"]), None) for row in rows]
    checks = audit(PublicKey.read(public_parts("paillier")), chunks)
    assert weak(checks) == set()
    assert checks["nonces"].outcome is checks["biased noise"].outcome is Outcome.NOT_CHECKED
    assert checks["equal noise"].outcome is Outcome.OK


# Noise


class Planter:
    """Encrypts under a key whose primes are known, with whatever noise it is told to."""

    def __init__(self) -> None:
        self.p, self.q = good_prime(), random_prime()
        self.n = self.p * self.q
        self.generator = self.power(secrets.randbelow(self.n) ** 2)
        self._noise: list[int] = []

    def encrypt(self, noise: int) -> int:
        return (1 + secrets.randbits(64) * self.n) * noise % self.n**2

    def power(self, root: int) -> int:
        """A noise as the scheme `paillier` has it."""
        return int(powmod(root, self.n, self.n**2))

    def noise(self, count: int) -> list[int]:
        """The same good noise, as much of it as is asked for: it takes long to make."""
        self._noise += [self.power(secrets.randbelow(self.n)) for _ in range(count - len(self._noise))]
        return self._noise[:count]

    def good(self, count: int) -> list[int]:
        return [self.encrypt(noise) for noise in self.noise(count)]

    def squares(self, count: int) -> list[int]:
        return [self.encrypt(noise * noise) for noise in self.noise(count)]

    def even(self, count: int) -> list[int]:
        return [self.encrypt(noise) for noise in self.noise(3 * count) if noise % self.n % 2 == 0][:count]

    def short_exponents(self, bits: int, count: int) -> list[int]:
        exponents = (secrets.randbits(bits) for _ in range(count))
        return [self.encrypt(int(powmod(self.generator, exponent, self.n**2))) for exponent in exponents]

    def one_modulo_p(self) -> int:
        """A noise that is 1 modulo p² alone: a fault in one half of an encryption."""
        one = self.q**2 * pow(self.q**2, -1, self.p**2)
        return (one + self.p**2 * pow(self.p**2, -1, self.q**2) * self.power(secrets.randbelow(self.n))) % self.n**2


@pytest.fixture(scope="module")
def planter() -> Planter:
    return Planter()


def audit_ciphertexts(planter: Planter, ciphertexts: list[int], scheme: str = "PaillierClient") -> set[str]:
    return weak(audit(public_key(planter.n, scheme), samples_of(ciphertexts)))


@pytest.mark.usefixtures("brief")
def test_good_noise_under_the_same_key_is_good(planter: Planter) -> None:
    assert audit_ciphertexts(planter, planter.good(110)) == set()


@pytest.mark.usefixtures("brief")
def test_missing_noise_is_found(planter: Planter) -> None:
    assert "missing noise" in audit_ciphertexts(planter, [*planter.good(4), planter.encrypt(1)])
    assert "missing noise" in audit_ciphertexts(planter, [*planter.good(4), planter.encrypt(planter.one_modulo_p())])


@pytest.mark.usefixtures("brief")
def test_equal_noise_is_found(planter: Planter) -> None:
    noise = planter.generator
    equal = [planter.encrypt(noise), *planter.good(4), planter.encrypt(noise)]
    assert audit_ciphertexts(planter, equal) == {"equal noise"}
    both = [planter.encrypt(planter.one_modulo_p()) * planter.generator % planter.n**2 for _ in range(2)]
    (checks,) = audit_keys([public_key(planter.n)], [samples_of(both)], seconds=0)
    (found,) = [check for check in checks if check.outcome is Outcome.WEAK]
    assert (found.name, "factors n" in found.detail) == ("equal noise", True)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("sign", [1, -1])
def test_a_short_root_is_found(planter: Planter, sign: int) -> None:
    ciphertexts = [*planter.good(4), planter.encrypt(planter.power(sign * 60))]
    assert "short noise" in audit_ciphertexts(planter, ciphertexts)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("bits", [16, 20])
def test_short_exponents_of_a_generator_that_nobody_knows_are_found(planter: Planter, bits: int) -> None:
    ciphertexts = planter.short_exponents(bits, 110)
    assert "short noise" in audit_ciphertexts(planter, ciphertexts, LOOKUP)


@pytest.mark.usefixtures("brief")
def test_biased_noise_is_found(planter: Planter) -> None:
    assert audit_ciphertexts(planter, planter.even(110)) == {"biased noise"}


@pytest.mark.usefixtures("brief")
def test_jacobi_symbols_that_the_scheme_does_not_have_are_found(planter: Planter) -> None:
    squares = planter.squares(110)
    assert audit_ciphertexts(planter, squares, LOOKUP) == set()
    assert audit_ciphertexts(planter, squares) == {"Jacobi symbols"}
    one = next(value for value in planter.good(100) if jacobi(value, planter.n) == -1)
    assert audit_ciphertexts(planter, [*squares, one], LOOKUP) == {"Jacobi symbols"}


@pytest.mark.usefixtures("brief")
def test_what_is_no_ciphertext_is_found(planter: Planter) -> None:
    good = planter.good(4)
    for wrong in (0, planter.n**2, planter.n**2 + 1, planter.p, planter.n):
        assert audit_ciphertexts(planter, [*good, wrong]) >= {"ciphertexts"}


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    ("nonces", "good"),
    [
        ([secrets.token_bytes(30) for _ in range(160)], True),
        ([b"\1" * 30, b"\2" * 30, b"\1" * 30], False),
        ([number.to_bytes(30, "big") for number in range(160)], False),
        ([b"\0" + secrets.token_bytes(29) for _ in range(160)], False),
        ([secrets.token_bytes(12)], False),
    ],
    ids=["random", "equal", "counted", "one byte always 0", "short"],
)
def test_nonces_that_are_not_random_are_found(planter: Planter, nonces: list[bytes], good: bool) -> None:
    ciphertexts = planter.good(1)
    chunks = [Sample(tuple(ciphertexts[i : i + 1]), nonce) for i, nonce in enumerate(nonces)]
    assert audit(public_key(planter.n), chunks)["nonces"].outcome is (Outcome.OK if good else Outcome.WEAK)


@pytest.mark.parametrize(
    ("pk", "config"),
    [
        ("[]", "{}"),
        ('{"n": "x"}', '{"key_len": 1024}'),
        ('{"n": 15.5}', '{"key_len": 1024}'),
        ('{"n": -15}', '{"key_len": "1024"}'),
        (json.dumps({"n": 1 << 8192}), '{"key_len": 1024}'),
        ('{"n": "15"}', "{}"),
        ('{"n": "15"}', '{"key_len": 1024, "alpha_len": "512"}'),
        ("[" * 100_000, '{"key_len": 1024}'),
        ('{"n": ' + "9" * 5000 + "}", '{"key_len": 1024}'),
        (json.dumps({"n": "9" * 5000}), '{"key_len": 1024}'),
    ],
)
def test_public_parts_without_a_key_are_refused(pk: str, config: str) -> None:
    with pytest.raises(InvalidContext):
        PublicKey.read(PublicParts("PaillierClient", pk, config))
