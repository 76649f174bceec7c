"""Contexts that somebody else wrote, with parameters beyond all bounds: refused, before anything is computed with them.

Whoever has the passphrase can seal any secret, and the files of other clients are not authenticated at all.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.existing_client import ExistingClientKey, encrypt_content
from support.schemes import key_len
from xtrace_sdk.errors import InvalidContext, KeyMaterialError, WrongKey
from xtrace_sdk.x_vec.contexts.context_keys import ContextKeys
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext, read_public_part
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts, canonical_json
from xtrace_sdk.x_vec.keys.key_file import KeyFileProvider
from xtrace_sdk.x_vec.keys.passphrase import PassphraseKeyProvider
from xtrace_sdk.x_vec.keys.sealed_secret import Envelope, Slot
from xtrace_sdk.x_vec.upkeep.audit.public_key import PublicKey

Object = dict[str, Any]
PROVIDER = PassphraseKeyProvider("passphrase", insecure_log2_n=4)
HUGE = 10**4000
LONG = "f" * (1 << 19)


@contextmanager
def soon() -> Iterator[None]:
    """A second is a thousand times what refusing takes, and nothing beside what these numbers would take."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 5


def created(scheme: str, path: Path) -> Object:
    ExecutionContext.create(PROVIDER, scheme, 16, key_len(scheme), path=path, insecure_allow_weak_parameters=True)
    saved: Object = json.loads(path.read_text())
    return saved


@pytest.fixture(scope="module", params=["paillier", "paillier_lookup"])
def document(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Object:
    """A saved context."""
    return created(request.param, tmp_path_factory.mktemp("context") / "context")


def opened(key: bytes, sealed: str, public: PublicParts) -> bytes:
    return Envelope.open(Slot.PROVIDER, key, sealed, public.associated_data)[1]


def resealed(document: Object, change: Callable[[Object, Object], None]) -> Object:
    """The context with another configuration and another secret, authentic under its passphrase."""
    key = PROVIDER.unwrap_key(base64.b64decode(document["wrapped_key"]))
    public = PublicParts(document["type"], document["pk"], document["config"])
    config, secret = json.loads(public.config), json.loads(opened(key, document["sk"], public))
    change(config, secret)
    public = PublicParts(public.type, public.pk, canonical_json(config).decode())
    sealed = Envelope.new(key, public.associated_data).seal(msgspec.json.encode(secret))
    return document | public.public_data() | {"sk": sealed, "id": public.public_id}


def saved(document: Object, folder: Path) -> Path:
    path = folder / "context"
    path.write_text(json.dumps(document))
    return path


def test_what_is_resealed_without_a_change_opens(document: Object, tmp_path: Path) -> None:
    unchanged = resealed(document, lambda config, secret: None)
    assert (
        ExecutionContext.load_from_disk(
            path=saved(unchanged, tmp_path), key_provider=PROVIDER, insecure_allow_weak_encryption=True
        ).embed_len()
        == 16
    )


def set_config(**values: Any) -> Callable[[Object, Object], None]:
    return lambda config, secret: config.update(values)


def set_secret(**values: Any) -> Callable[[Object, Object], None]:
    return lambda config, secret: secret.update(values)


CHANGES: dict[str, Callable[[Object, Object], None]] = {
    "a key length of 10^12 bits, encoded in base 3": set_config(key_len=10**12, encoding="base3", embed_len=10**12),
    "a key length that no memory holds": set_config(key_len=2**63 - 1, encoding="base3"),
    "a key length below 0": set_config(key_len=-5),
    "a key length of 1": set_config(key_len=1),
    "a key length that is a text": set_config(key_len="256"),
    "a key length that is a number with a fraction": set_config(key_len=256.5),
    "no vectors": set_config(embed_len=0),
    "vectors of 2^60 positions": set_config(embed_len=2**60),
    "vectors of -1 positions": set_config(embed_len=-1),
    "vectors that are a list": set_config(embed_len=[16]),
    "a prime of two million bits": set_secret(p=LONG),
    "another prime of two million bits": set_secret(q=LONG),
    "a prime of 0": set_secret(p="0"),
    "a prime below 0": set_secret(p="-7"),
    "a prime that is a number": set_secret(p=7),
    "a prime that is a list": set_secret(p=["f"] * 64),
    "a content key of half a megabyte": set_secret(content_key=LONG),
    "a content key that is a number": set_secret(content_key=10**9),
    "a noise key of half a megabyte": set_secret(noise_key=LONG),
    "a predecessor that is a text": set_secret(predecessor="predecessor"),
    "a predecessor that is a number": set_secret(predecessor=7),
    "a predecessor without keys": set_secret(predecessor={"type": 1, "pk": 2, "config": 3, "secret": 4}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_context_beyond_all_bounds_is_refused(
    change: Callable[[Object, Object], None], document: Object, tmp_path: Path
) -> None:
    path = saved(resealed(document, change), tmp_path)
    with soon(), pytest.raises(InvalidContext):
        ExecutionContext.load_from_disk(path=path, key_provider=PROVIDER, insecure_allow_weak_encryption=True)


@pytest.mark.parametrize("name", ["u_p", "u_q", "h_p", "h_q"])
def test_a_subgroup_beyond_all_bounds_is_refused(name: str, document: Object, tmp_path: Path) -> None:
    path = saved(resealed(document, set_secret(**{name: LONG})), tmp_path)
    with soon(), pytest.raises(InvalidContext):
        ExecutionContext.load_from_disk(path=path, key_provider=PROVIDER, insecure_allow_weak_encryption=True)


LATTICE_CHANGES: dict[str, Callable[[Object, Object], None]] = {
    "no vectors": set_config(embed_len=0),
    "vectors of 4,097 positions": set_config(embed_len=4097),
    "vectors of 2^60 positions": set_config(embed_len=2**60),
    "other vectors than in the public key": set_config(embed_len=17),
    "vectors of a number with a fraction": set_config(embed_len=16.0),
    "vectors that are true": set_config(embed_len=True),
    "vectors that are a text": set_config(embed_len="16"),
    "a root of half a megabyte": set_secret(root=LONG),
    "another root": set_secret(root="00" * 32),
    "a root of 31 bytes": set_secret(root="00" * 31),
    "a root that is a number": set_secret(root=7),
    "a root that is not hexadecimal": set_secret(root="no" * 32),
    "no root": lambda config, secret: secret.pop("root"),
    "a key length": set_config(key_len=1024),
    "a hedging key": set_secret(hedging_key="00" * 32),
}


@pytest.mark.parametrize("change", LATTICE_CHANGES.values(), ids=LATTICE_CHANGES.keys())
def test_a_context_of_lattice_that_no_client_writes_is_refused(
    change: Callable[[Object, Object], None], tmp_path: Path
) -> None:
    path = saved(resealed(created("lattice", tmp_path / "created"), change), tmp_path)
    with soon(), pytest.raises(InvalidContext):
        ExecutionContext.load_from_disk(path=path, key_provider=PROVIDER)


# Contexts of other clients


class Existing:
    """What another client saved, under a key file: deriving keys from passphrases takes longer than all of this."""

    def __init__(self, key: ExistingClientKey, folder: Path) -> None:
        self.provider = KeyFileProvider.create(folder / "key")
        self._key, wrapped_key = self.provider.new_key()
        wrapped = {"key_provider": "key_file", "wrapped_key": base64.b64encode(wrapped_key).decode()}
        self.document: Object = key.context() | wrapped | {"sk": self.sealed(key.secret_key)}

    def sealed(self, text: str) -> str:
        return encrypt_content(self._key, text)

    def load(self, folder: Path, **changes: str) -> ExecutionContext:
        path = saved(self.document | changes, folder)
        return ExecutionContext.load_from_disk(
            path=path, key_provider=self.provider, insecure_allow_weak_encryption=True
        )

    def changed(self, part: str, name: str, value: Any) -> str:
        return json.dumps(json.loads(self.document[part]) | {name: value})


@pytest.fixture(scope="module", params=[None, 40], ids=["paillier", "paillier_lookup"])
def existing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Existing:
    return Existing(ExistingClientKey(256, 16, request.param), tmp_path_factory.mktemp("existing"))


VALUES: list[Any] = [
    pytest.param(value, id=repr(value)[:20])
    for value in list[Any]((HUGE, "9" * 10**6, 10**12, 2**63 - 1, -5, -1, 0, "x", None, [], {"a": 1}, True, 1e300))
]


@pytest.mark.parametrize("value", VALUES)
def test_a_modulus_beyond_all_bounds_is_refused(value: Any, existing: Existing, tmp_path: Path) -> None:
    with soon(), pytest.raises(InvalidContext):
        existing.load(tmp_path, pk=existing.changed("pk", "n", value))


@pytest.mark.parametrize("name", ["g", "n_squared", "g_n"])
@pytest.mark.parametrize("value", VALUES)
def test_the_rest_of_a_public_key_is_refused_or_of_no_consequence(
    name: str, value: Any, existing: Existing, tmp_path: Path
) -> None:
    with soon(), suppress(InvalidContext):
        assert existing.load(tmp_path, pk=existing.changed("pk", name, value)).embed_len() == 16


@pytest.mark.parametrize("name", ["embed_len", "key_len"])
@pytest.mark.parametrize("value", VALUES)
def test_a_configuration_beyond_all_bounds_is_refused(
    name: str, value: Any, existing: Existing, tmp_path: Path
) -> None:
    config = existing.changed("config", name, value)
    if (name, value) == ("embed_len", True):  # 1, as Python has it, under another context id
        assert existing.load(tmp_path, config=config).embed_len() == 1
        return
    with soon(), pytest.raises(InvalidContext):
        existing.load(tmp_path, config=config)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        json.dumps({"phi": "9" * 4000, "a": "9" * 4000, "inv": "1"}),
        json.dumps({"phi": HUGE, "a": HUGE}),
        json.dumps({"phi": "1" + "0" * 700_000}),
        json.dumps({"phi": [], "a": {}}),
        "{}",
        "null",
        "7",
        "",
    ],
    ids=range(9),
)
def test_a_secret_key_beyond_all_bounds_is_refused(text: str, existing: Existing, tmp_path: Path) -> None:
    """Whoever may have texts stored can have any text encrypted under the key of such a context."""
    with soon(), pytest.raises(InvalidContext):
        existing.load(tmp_path, sk=existing.sealed(text))


@pytest.mark.parametrize(
    "sk", ["", "é" * 60, "\ud800", "AAAA", "=" * 60, "no base64 " * 10, "A" * 1_000_001], ids=range(7)
)
def test_a_secret_that_is_none_is_refused(sk: str, existing: Existing, tmp_path: Path) -> None:
    with soon(), pytest.raises(KeyMaterialError):
        existing.load(tmp_path, sk=sk)


def test_a_modulus_longer_than_any_is_refused_though_it_fits_its_secret(tmp_path: Path) -> None:
    p = (1 << 7000) + 1
    q = p + 2
    existing = Existing(ExistingClientKey(256, 16), tmp_path)
    with soon(), pytest.raises(InvalidContext):
        existing.load(
            tmp_path,
            pk=json.dumps({"g": str(1 + p * q), "n": str(p * q), "n_squared": "1"}),
            config=json.dumps({"embed_len": 16, "key_len": p.bit_length()}),
            sk=existing.sealed(json.dumps({"phi": str((p - 1) * (q - 1)), "inv": "1"})),
        )


# Without the key


@pytest.mark.parametrize("name", ["embed_len", "key_len", "alpha_len", "version"])
@pytest.mark.parametrize("value", [HUGE, 2**63, -1, "7", [], 1.5], ids=range(6))
def test_a_public_part_beyond_all_bounds_is_refused(name: str, value: Any, document: Object, tmp_path: Path) -> None:
    config = json.loads(document["config"]) | {name: value}
    with soon(), pytest.raises(InvalidContext):
        read_public_part(saved(document | {"config": json.dumps(config)}, tmp_path))


@pytest.mark.parametrize(
    ("pk", "config"),
    [
        ({"n": "9" * 10**6}, {"key_len": 1024}),
        ({"n": HUGE}, {"key_len": 1024}),
        ({"n": "7", "more": "9" * 10**5}, {"key_len": 1024}),
        ({"n": "7"}, {"key_len": HUGE}),
        ({"n": "7"}, {"key_len": -1}),
        ({"n": "7"}, {"key_len": True}),
        ({"n": "7"}, {"key_len": 1024, "alpha_len": 2**63}),
        ({"n": "7"}, {"key_len": 1024, "alpha_len": True}),
    ],
    ids=range(8),
)
def test_a_public_key_beyond_all_bounds_is_not_audited(pk: Object, config: Object) -> None:
    with soon(), pytest.raises(InvalidContext):
        PublicKey.read(PublicParts("PaillierClient", json.dumps(pk), json.dumps(config)))


def test_a_file_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "context"
    for text in ("[" * 10**6, '{"a":' * 10**5, '"' + "x" * 2 * 10**6, "9" * 10**5, '{"pk": "\\ud800"}', "\xff"):
        path.write_text(text, encoding="latin-1")
        with soon(), pytest.raises(InvalidContext):
            ExecutionContext.load_from_disk("passphrase", path, insecure_allow_weak_encryption=True)


def test_a_wrong_passphrase_is_still_told_from_a_changed_context(document: Object, tmp_path: Path) -> None:
    with pytest.raises(WrongKey):
        ExecutionContext.load_from_disk("another", saved(document, tmp_path), insecure_allow_weak_encryption=True)


def test_a_predecessor_has_no_predecessor(document: Object) -> None:
    public = PublicParts(document["type"], document["pk"], document["config"])
    key = PROVIDER.unwrap_key(base64.b64decode(document["wrapped_key"]))
    secret: Object = json.loads(opened(key, document["sk"], public))

    def after(before: Object) -> Object:
        return secret | {"predecessor": public.public_data() | {"secret": before}}

    assert ContextKeys.load(public, after(secret)).predecessor is not None
    without_end = after({})
    without_end["predecessor"]["secret"] = without_end
    for nested in (after(after(secret)), without_end):
        with soon(), pytest.raises(InvalidContext, match="has a predecessor itself"):
            ContextKeys.load(public, nested)
