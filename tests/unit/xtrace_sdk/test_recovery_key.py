"""A recovery key opens a context as its provider does, and is kept, replaced or taken away as asked."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.existing_client import ExistingClientKey
from support.schemes import SCHEMES, key_len
from xtrace_sdk.errors import InvalidArgument, InvalidContext, WrongKey
from xtrace_sdk.x_vec.contexts.context_keys import ContextKeys
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext, read_public_part
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts, canonical_json
from xtrace_sdk.x_vec.keys.provider import KeyFileProvider, PassphraseKeyProvider
from xtrace_sdk.x_vec.keys.recovery import RecoveryKey

PASSPHRASE, OTHER = "correct horse battery staple", "another horse"


def provider(passphrase: str = PASSPHRASE) -> PassphraseKeyProvider:
    return PassphraseKeyProvider(passphrase, insecure_log2_n=4)


def new_context(**options: Any) -> ExecutionContext:
    return ExecutionContext.create(provider(), "paillier", 16, 256, insecure_allow_weak_parameters=True, **options)


def recovered(path: Path, key: RecoveryKey | str) -> ExecutionContext:
    return ExecutionContext.load_from_disk(path=path, recovery_key=key, insecure_allow_weak_encryption=True)


@pytest.fixture(scope="module")
def key() -> RecoveryKey:
    return RecoveryKey.generate()


@pytest.fixture
def path(tmp_path: Path, key: RecoveryKey) -> Path:
    """A context with a recovery key."""
    new_context(path=tmp_path / "context.json", recovery_key=key)
    return tmp_path / "context.json"


def test_both_ways_open_the_same_keys(path: Path, key: RecoveryKey) -> None:
    by_passphrase = ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True)
    for given in (key, key.words()):
        by_words = recovered(path, given)
        assert by_words == by_passphrase
        assert by_words._keys.secret() == by_passphrase._keys.secret()
        assert by_words.has_recovery_key
        assert by_words.key_provider is None
    vector = [1] * 16
    index = by_passphrase.homomorphic.encrypt_vec_batch([vector])
    bits, valid = by_words.homomorphic.decrypt_vec_batch([index[0].ciphertexts()], [index[0].nonce])
    assert valid.all()
    assert bits.tolist() == [vector]


def test_the_public_part_says_whether_there_is_one(path: Path) -> None:
    assert read_public_part(path).has_recovery_key
    ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True).set_recovery_key(
        None
    ).save_to_disk(path)
    assert not read_public_part(path).has_recovery_key


def test_a_context_opened_by_it_gets_a_new_passphrase_and_keeps_it(path: Path, key: RecoveryKey) -> None:
    context = recovered(path, key)
    context.save_to_disk(path)  # as it was: the passphrase still opens it
    assert ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True) == context
    context.rewrap(provider(OTHER)).save_to_disk(path)
    assert (
        ExecutionContext.load_from_disk(OTHER, path, insecure_allow_weak_encryption=True)
        == recovered(path, key)
        == context
    )
    with pytest.raises(WrongKey):
        ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True)


def test_it_is_added_replaced_and_taken_away_later(tmp_path: Path, key: RecoveryKey) -> None:
    path, other = tmp_path / "context.json", RecoveryKey.generate()
    context = new_context(path=path)
    with pytest.raises(WrongKey, match="does not have a recovery key"):
        recovered(path, key)
    assert context.set_recovery_key(key) is context
    context.save_to_disk(path)
    assert recovered(path, key) == context
    ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True).set_recovery_key(
        other
    ).save_to_disk(path)
    assert (
        recovered(path, other)
        == ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True)
        == context
    )
    with pytest.raises(WrongKey, match="replaced"):
        recovered(path, key)
    recovered(path, other).set_recovery_key(None).save_to_disk(path)
    assert ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True) == context
    with pytest.raises(WrongKey, match="does not have a recovery key"):
        recovered(path, other)


def test_another_key_provider_leaves_it_as_it_is(path: Path, key: RecoveryKey) -> None:
    key_file = KeyFileProvider.create(path.parent / "key")
    ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True).rewrap(
        key_file
    ).save_to_disk(path)
    assert recovered(path, key) == ExecutionContext.load_from_disk(
        path=path, key_provider=key_file, insecure_allow_weak_encryption=True
    )
    (path.parent / "key").unlink()
    recovered(path, key).rewrap(provider(OTHER)).save_to_disk(path)
    assert ExecutionContext.load_from_disk(OTHER, path, insecure_allow_weak_encryption=True) == recovered(path, key)


def test_a_successor_has_the_one_that_is_given_and_no_other(path: Path, key: RecoveryKey) -> None:
    old, other = (
        ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True),
        RecoveryKey.generate(),
    )
    for given in (None, key, other):
        new = path.with_name("new.json")
        made = old.successor(
            provider(OTHER), key_len=256, path=new, recovery_key=given, insecure_allow_weak_parameters=True
        )
        for one in (key, other):
            if one is given:
                assert recovered(new, one) == made
            else:
                with pytest.raises(WrongKey):
                    recovered(new, one)
        assert recovered(path, key) == old


def test_the_end_of_a_rotation_keeps_it_and_asks_no_key_provider(path: Path, key: RecoveryKey) -> None:
    class Once(PassphraseKeyProvider):
        calls = 0

        def new_key(self) -> tuple[bytes, bytes]:
            self.calls += 1
            return super().new_key()

    once, new = Once(OTHER, insecure_log2_n=4), path.with_name("new.json")
    old = ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True)
    made = old.successor(once, key_len=256, path=new, recovery_key=key, insecure_allow_weak_parameters=True)
    assert recovered(new, key).predecessor == old
    made.forget_predecessor().save_to_disk(new)
    assert once.calls == 1
    for opened in (
        recovered(new, key),
        ExecutionContext.load_from_disk(OTHER, new, insecure_allow_weak_encryption=True),
    ):
        assert opened.predecessor is None
        assert "predecessor" not in opened._keys.secret()


def test_what_another_client_saved_has_one_after_it_was_rewrapped(tmp_path: Path, key: RecoveryKey) -> None:
    path = tmp_path / "theirs"
    path.write_text(json.dumps(ExistingClientKey(1024, 16).context(PASSPHRASE)))
    theirs = ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True)
    assert not theirs.has_recovery_key
    with pytest.raises(WrongKey, match="other software"):
        recovered(path, key)
    with pytest.raises(InvalidArgument, match="rewrap it"):
        theirs.set_recovery_key(key)
    theirs.rewrap(provider()).set_recovery_key(key).save_to_disk(path)
    assert (
        recovered(path, key)
        == ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True)
        == theirs
    )


def test_bad_words_and_too_many_ways_are_refused(path: Path, key: RecoveryKey) -> None:
    words = key.words().split()
    for wrong, sentence in (
        ([*words[:6], "misspelt", *words[7:]], "word 7 of 24"),
        (words[1:], "23 words"),
    ):
        with pytest.raises(InvalidArgument, match=sentence):
            recovered(path, " ".join(wrong))
    with pytest.raises(WrongKey):
        recovered(path, RecoveryKey.generate())
    with pytest.raises(InvalidArgument, match="exactly one of"):
        ExecutionContext.load_from_disk(PASSPHRASE, path, recovery_key=key, insecure_allow_weak_encryption=True)


def test_slots_of_another_context_do_not_open_this_one(path: Path, key: RecoveryKey) -> None:
    """Also not where the other context has the same passphrase and recovery key."""
    new_context(path=path.with_name("other.json"), recovery_key=key)
    document, other = (json.loads(one.read_text()) for one in (path, path.with_name("other.json")))
    here, there = (base64.b64decode(one["sk"]) for one in (document, other))
    for start, end in ((5, 85), (85, 165), (5, 165), (165, len(here)), (0, len(here))):
        mixed = here[:start] + there[start:end] + here[end:]
        changed = {**document, "sk": base64.b64encode(mixed).decode(), "wrapped_key": other["wrapped_key"]}
        path.with_name("mixed.json").write_text(json.dumps(changed))
        with pytest.raises((WrongKey, InvalidContext)):
            recovered(path.with_name("mixed.json"), key)
        with pytest.raises((WrongKey, InvalidContext)):
            ExecutionContext.load_from_disk(
                PASSPHRASE, path.with_name("mixed.json"), insecure_allow_weak_encryption=True
            )


def test_the_file_does_not_have_the_words_or_the_key(path: Path, key: RecoveryKey) -> None:
    data = path.read_bytes() + base64.b64decode(json.loads(path.read_text())["sk"])
    assert key.key() not in data
    assert key.key().hex().encode() not in data
    assert key.words().split()[0].encode() + b" " not in data


async def test_it_opens_the_copy_on_a_service(path: Path, key: RecoveryKey) -> None:
    stored: dict[str, Any] = {}

    class Store:
        async def store_exec_context(self, data: dict[str, Any], context_id: str) -> None:
            stored[context_id] = data

        async def get_serialized_exec_context(self, context_id: str) -> dict[str, Any]:
            found: dict[str, Any] = stored[context_id]
            return found

    context_id = await recovered(path, key).save_to_remote(Store())
    opened = await ExecutionContext.load_from_remote(
        context_id=context_id, integration=Store(), recovery_key=key.words(), insecure_allow_weak_encryption=True
    )
    assert opened.id == context_id


# What a later version may add


def with_change(keys: ContextKeys, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Any:
    """Loads the keys from changed configuration and secrets, whose id and seal are right: as a later version writes."""
    config, secret = keys.public.config_object(), keys.secret()
    change(config, secret)
    public = PublicParts(keys.public.type, keys.public.pk, canonical_json(config).decode())
    return ContextKeys.load(public, secret)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_unknown_keys_of_configuration_and_secret_are_refused_by_name(scheme: str) -> None:
    old = ExecutionContext.create(provider(), scheme, 16, key_len(scheme), insecure_allow_weak_parameters=True)
    new = old.successor(provider(), key_len=key_len(scheme), insecure_allow_weak_parameters=True)
    assert with_change(new._keys, lambda config, secret: None).id == new.id
    for place, change in (
        ("config", lambda config, secret: config.update(ratchet=1)),
        ("secret", lambda config, secret: secret.update(ratchet="00")),
        ("secret", lambda config, secret: secret["predecessor"]["secret"].update(ratchet="00")),
        ("predecessor", lambda config, secret: secret["predecessor"].update(ratchet="00")),
    ):
        with pytest.raises(InvalidContext, match=f"{place} has the key 'ratchet', which .* update XTrace"):
            with_change(new._keys, change)


def test_unknown_keys_of_a_rewrapped_context_of_another_client_are_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text(json.dumps(ExistingClientKey(1024, 16).context(PASSPHRASE)))
    theirs = ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "theirs", insecure_allow_weak_encryption=True)
    with pytest.raises(InvalidContext, match="secret has the key 'ratchet'"):
        with_change(theirs._keys, lambda config, secret: secret.update(ratchet="00"))
