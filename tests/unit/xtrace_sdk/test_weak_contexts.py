"""Contexts that protect little are warned of when they are opened, and no vector is encrypted under a weak key."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.crypto_support import toy_lookup_client
from support.existing_client import ExistingClientKey
from xtrace_sdk.errors import WeakParameters
from xtrace_sdk.x_vec.contexts.context_keys import ContextKeys
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext, WeakKeyWarning
from xtrace_sdk.x_vec.keys.passphrase import PassphraseKeyProvider
from xtrace_sdk.x_vec.keys.recovery import RecoveryKey

PASSPHRASE = "correct horse battery staple"
DIM = 8


def provider(log2_n: int) -> PassphraseKeyProvider:
    return PassphraseKeyProvider(PASSPHRASE, insecure_log2_n=log2_n)


def short_primes(path: Path, log2_n: int = 14) -> None:
    """The context of the review: a modulus of 512 bits."""
    ExecutionContext.create(provider(log2_n), "paillier", DIM, 256, path=path, insecure_allow_weak_parameters=True)


def short_orders(path: Path) -> None:
    keys = ContextKeys.generate(toy_lookup_client(223, 1024, DIM))
    ExecutionContext._new(keys, provider(14), None, path)


def theirs(path: Path) -> None:
    path.write_text(json.dumps(ExistingClientKey(1024, DIM, 25).context(PASSPHRASE)))


def strong(path: Path, log2_n: int = 14) -> None:
    ExecutionContext.create(provider(log2_n), "paillier_lookup", DIM, path=path)


def opened(path: Path, **options: Any) -> tuple[ExecutionContext, list[str]]:
    """The context, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        context = ExecutionContext.load_from_disk(PASSPHRASE, path, **options)
    assert {warning.category for warning in caught} <= {WeakKeyWarning}
    return context, [str(warning.message) for warning in caught]


WEAK = [
    (short_primes, "primes have 256 bits, expected at least 1024"),
    (short_orders, "noise groups have orders of 223 bits, expected at least 224"),
    (theirs, "noise groups have orders of 25 bits, expected at least 224"),
]


@pytest.mark.parametrize(("make", "weakness"), WEAK)
def test_a_weak_key_is_warned_of_and_encrypts_queries_but_no_vectors(
    make: Callable[[Path], None], weakness: str, tmp_path: Path
) -> None:
    make(tmp_path / "context")
    context, (said,) = opened(tmp_path / "context")
    assert weakness in said
    assert "anyone who has its public part" in said
    assert "xtrace context rotate" in said
    assert context.id[:12] in said
    for encrypt, given in (
        (context.homomorphic.encrypt_vec_one, [1] * DIM),
        (context.homomorphic.encrypt_vec_batch, [[1] * DIM]),
    ):
        with pytest.raises(WeakParameters, match=f"{weakness}.*insecure_allow_weak_encryption"):
            encrypt(given)
    assert len(context.homomorphic.encrypt_queries([[1] * DIM]).sent) == 1


@pytest.mark.parametrize(("make", "weakness"), WEAK)
def test_one_who_says_that_it_is_known_is_not_warned_and_may_encrypt(
    make: Callable[[Path], None], weakness: str, tmp_path: Path
) -> None:
    make(tmp_path / "context")
    context, said = opened(tmp_path / "context", insecure_allow_weak_encryption=True)
    assert said == []
    index = context.homomorphic.encrypt_vec_one([1] * DIM)
    bits, valid = context.homomorphic.decrypt_vec_batch([index.ciphertexts()], [index.nonce])
    assert valid.all()
    assert bits.tolist() == [[1] * DIM]


def test_what_a_weak_context_stored_is_read_and_rotated_away(tmp_path: Path) -> None:
    short_primes(tmp_path / "context")
    told, _ = opened(tmp_path / "context", insecure_allow_weak_encryption=True)
    index = told.homomorphic.encrypt_vec_one([1] * DIM)
    context, _ = opened(tmp_path / "context")
    assert context.homomorphic.decrypt_vec_batch([index.ciphertexts()], [index.nonce])[1].all()
    new = context.successor(provider(14), path=tmp_path / "new")
    assert new.key_len() == 1024
    assert len(new.homomorphic.encrypt_vec_batch([[1] * DIM])) == 1
    _, (said,) = opened(tmp_path / "new")
    assert context.id[:12] in said  # the predecessor's chunks are still weak
    new.forget_predecessor().save_to_disk(tmp_path / "new")
    assert opened(tmp_path / "new")[1] == []


@pytest.mark.parametrize("log2_n", [1, 4, 13])
def test_a_passphrase_that_is_cheap_to_guess_is_warned_of(log2_n: int, tmp_path: Path) -> None:
    strong(tmp_path / "context", log2_n)
    context, (said,) = opened(tmp_path / "context")
    assert f"scrypt with N = 2^{log2_n}, expected at least 2^14" in said
    assert "xtrace context rewrap" in said
    # The key of the data is strong.
    assert len(context.homomorphic.encrypt_vec_batch([[1] * DIM])) == 1
    assert opened(tmp_path / "context", insecure_allow_weak_encryption=True)[1] == []
    context.rewrap(provider(14)).save_to_disk(tmp_path / "context")
    assert opened(tmp_path / "context")[1] == []


def test_opening_by_the_recovery_key_warns_of_the_passphrase_too(tmp_path: Path) -> None:
    key = RecoveryKey.generate()
    strong(tmp_path / "context", 4)
    context, _ = opened(tmp_path / "context")
    context.set_recovery_key(key).save_to_disk(tmp_path / "context")
    with pytest.warns(WeakKeyWarning, match="N = 2\\^4"):
        ExecutionContext.load_from_disk(path=tmp_path / "context", recovery_key=key)


def test_every_weakness_is_named(tmp_path: Path) -> None:
    """As the review found it: 512 bits and N = 2."""
    short_primes(tmp_path / "context", log2_n=1)
    _, said = opened(tmp_path / "context")
    assert len(said) == 2


@pytest.mark.filterwarnings("error")
def test_what_users_make_is_not_warned_of(tmp_path: Path) -> None:
    context = ExecutionContext.create(PassphraseKeyProvider(PASSPHRASE), "paillier_lookup", DIM, path=tmp_path / "own")
    assert ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "own") == context
    (tmp_path / "theirs").write_text(json.dumps(ExistingClientKey(1024, DIM).context(PASSPHRASE)))
    ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "theirs").rewrap(provider(14))
