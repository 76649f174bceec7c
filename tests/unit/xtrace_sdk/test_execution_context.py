"""Execution contexts: what is saved opens again, and only so."""

import itertools
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.existing_client import ExistingClientKey
from support.schemes import SCHEMES, key_len
from xtrace_sdk.errors import (
    InaccessibleFile,
    InvalidArgument,
    InvalidContext,
    UnknownScheme,
    WeakParameters,
    WrongKey,
)
from xtrace_sdk.x_vec.chunks.private_metadata import PrivateMetaData
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts, canonical_json
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext, PublicPart, read_public_part

PASSPHRASE = "correct horse battery staple"


def provider(passphrase: str = PASSPHRASE) -> PassphraseKeyProvider:
    return PassphraseKeyProvider(passphrase, insecure_log2_n=4)


def load(path: Path, passphrase: str) -> ExecutionContext:
    return ExecutionContext.load_from_disk(passphrase, path, insecure_allow_weak_encryption=True)


def new_context(scheme: str = "paillier_lookup", **options: Any) -> ExecutionContext:
    return ExecutionContext.create(
        provider(), scheme, 16, key_len(scheme), insecure_allow_weak_parameters=True, **options
    )


class MemoryStore:
    """A service's store of contexts, which a test may tamper with."""

    def __init__(self) -> None:
        self.contexts: dict[str, dict[str, Any]] = {}

    async def store_exec_context(self, data: dict[str, Any], context_id: str) -> None:
        self.contexts[context_id] = dict(data)

    async def get_serialized_exec_context(self, context_id: str) -> dict[str, Any]:
        return self.contexts[context_id]


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    return new_context()


@pytest.mark.parametrize("scheme", ["paillier", "paillier_lookup"])
def test_a_saved_context_opens_again_and_reads_what_the_first_one_wrote(scheme: str, tmp_path: Path) -> None:
    first = new_context(scheme, path=tmp_path / "new" / "folder" / "context.json")
    second = ExecutionContext.load_from_disk(
        PASSPHRASE, tmp_path / "new" / "folder" / "context.json", insecure_allow_weak_encryption=True
    )
    assert second == first
    assert hash(second) == hash(first)
    assert (second.id, second.embed_len(), second.key_len()) == (first.id, 16, 256)
    vector = np.arange(16) % 2
    index, queries = first.homomorphic.encrypt_vec_one(vector), second.homomorphic.encrypt_queries([1 - vector])
    product = index[0] * int.from_bytes(queries.sent[0][0], "little")
    n = int(json.loads(first.public_data()["pk"])["n"])
    row = np.frombuffer((product % n**2).to_bytes(128, "little"), dtype=np.uint8).reshape(1, 1, 128)
    distances, valid = queries.read(row, [index.nonce])
    assert valid.all()
    assert distances.tolist() == [[16]]
    assert second.aes.decrypt_bytes(first.aes.encrypt("text", index.nonce), index.nonce) == b"text"
    assert second.pseudonym("purpose", "value") == first.pseudonym("purpose", "value")


def test_a_file_is_readable_by_its_owner_only(context: ExecutionContext, tmp_path: Path) -> None:
    context.save_to_disk(tmp_path / "context.json")
    assert stat.S_IMODE((tmp_path / "context.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["context.json"]


def test_saving_again_writes_the_same_bytes(context: ExecutionContext, tmp_path: Path) -> None:
    context.save_to_disk(tmp_path / "a")
    context.save_to_disk(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_of_another_context_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "context.json"
    first, second = new_context(path=path), new_context(path=path)
    second.rewrap(provider("another")).save_to_disk(path)  # the same context: nothing else is kept of it
    kept = tmp_path / f"context.json.{first.id[:12]}"
    assert sorted(tmp_path.iterdir()) == [path, kept]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert ExecutionContext.load_from_disk(PASSPHRASE, kept, insecure_allow_weak_encryption=True) == first
    assert ExecutionContext.load_from_disk("another", path, insecure_allow_weak_encryption=True) == second


def test_the_file_holds_no_secret_in_the_clear(context: ExecutionContext, tmp_path: Path) -> None:
    context.save_to_disk(tmp_path / "context.json")
    text = (tmp_path / "context.json").read_text()
    for value in (*context.homomorphic.secrets().values(), PASSPHRASE):
        assert value not in text
        assert str(int(value, 16)) not in text if value != PASSPHRASE else True


def test_a_file_that_cannot_be_written_is_one_clear_error(context: ExecutionContext, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InaccessibleFile, match="cannot be written"):
        context.save_to_disk(tmp_path / "file" / "context.json")


def test_a_wrong_passphrase_is_told_from_a_damaged_file(context: ExecutionContext, tmp_path: Path) -> None:
    path = tmp_path / "context.json"
    context.save_to_disk(path)
    with pytest.raises(WrongKey, match="wrong"):
        ExecutionContext.load_from_disk("another passphrase", path, insecure_allow_weak_encryption=True)
    document = json.loads(path.read_text())
    document["sk"] = document["sk"][:-8] + "AAAAAAA="
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidContext, match="changed"):
        ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True)


def test_two_ways_to_write_a_passphrase_open_our_contexts_and_those_of_others_only_once_rewrapped(
    tmp_path: Path,
) -> None:
    composed, decomposed, path = "caf\u00e9", "cafe\u0301", tmp_path / "context.json"
    ExecutionContext.create(provider(composed), "paillier", 16, path=path)
    assert load(path, decomposed) == load(path, composed)
    path.write_text(json.dumps(ExistingClientKey(1024, 16).context(decomposed)))
    with pytest.raises(WrongKey):
        load(path, composed)
    load(path, decomposed).rewrap(provider(decomposed)).save_to_disk(path)
    assert load(path, decomposed) == load(path, composed)


@pytest.mark.parametrize("field", ["type", "pk", "config", "sk", "key_provider", "wrapped_key", "id"])
def test_no_field_of_a_file_can_be_exchanged(context: ExecutionContext, tmp_path: Path, field: str) -> None:
    other = new_context("paillier" if field == "type" else "paillier_lookup")
    context.save_to_disk(tmp_path / "a")
    other.save_to_disk(tmp_path / "b")
    document, foreign = (json.loads((tmp_path / name).read_text()) for name in "ab")
    document[field] = {"key_provider": "aws_kms", "config": document["config"].replace("16", "17", 1)}.get(
        field, foreign[field]
    )
    # The attacker makes the id fit, as a server would.
    (tmp_path / "a").write_text(json.dumps(document if field == "id" else {**document, "id": None}))
    with pytest.raises((InvalidContext, WrongKey)):
        ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "a", insecure_allow_weak_encryption=True)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b"no json", b'{"type": 3}', b"[" * 100_000])
def test_a_foreign_file_is_no_context(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidContext):
        ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "file", insecure_allow_weak_encryption=True)


def test_every_truncation_of_a_file_is_refused(context: ExecutionContext, tmp_path: Path) -> None:
    context.save_to_disk(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes().rstrip()
    for length in range(0, len(data), 97):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(InvalidContext):
            ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "cut", insecure_allow_weak_encryption=True)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InaccessibleFile, match="cannot be read"):
        ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "missing", insecure_allow_weak_encryption=True)
    with pytest.raises(InaccessibleFile, match="cannot be read"):
        ExecutionContext.load_from_disk(PASSPHRASE, tmp_path, insecure_allow_weak_encryption=True)


def test_a_context_of_another_format_version_is_refused(context: ExecutionContext, tmp_path: Path) -> None:
    context.save_to_disk(tmp_path / "context.json")
    document = json.loads((tmp_path / "context.json").read_text())
    document["config"] = document["config"].replace('"version":2', '"version":3')
    document.pop("id")
    (tmp_path / "context.json").write_text(json.dumps(document))
    with pytest.raises(InvalidContext, match="version is 3"):
        ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "context.json", insecure_allow_weak_encryption=True)


async def test_the_service_stores_and_gives_back_the_same_context(context: ExecutionContext) -> None:
    store = MemoryStore()
    assert await context.save_to_remote(store) == context.id
    assert set(store.contexts[context.id]) == {"type", "pk", "config", "sk", "key_provider", "wrapped_key"}
    restored = await ExecutionContext.load_from_remote(
        PASSPHRASE, context.id, store, insecure_allow_weak_encryption=True
    )
    assert restored == context
    again = await ExecutionContext.load_from_remote(
        key_provider=provider(), context_id=context.id, integration=store, insecure_allow_weak_encryption=True
    )
    assert again == context


async def test_another_context_under_the_id_asked_for_is_refused(context: ExecutionContext) -> None:
    store = MemoryStore()
    other = new_context()
    await other.save_to_remote(store)
    store.contexts[context.id] = store.contexts[other.id]
    with pytest.raises(InvalidContext, match="a different context"):
        await ExecutionContext.load_from_remote(PASSPHRASE, context.id, store, insecure_allow_weak_encryption=True)


async def test_a_context_stored_without_its_secret_cannot_be_restored(context: ExecutionContext) -> None:
    store = MemoryStore()
    store.contexts[context.id] = dict(context.public_data())
    with pytest.raises(InvalidContext, match="without its secret"):
        await ExecutionContext.load_from_remote(PASSPHRASE, context.id, store, insecure_allow_weak_encryption=True)


def test_the_id_is_a_hash_of_the_public_parts(context: ExecutionContext) -> None:
    assert len(context.id) == 64
    assert int(context.id, 16) >= 0
    assert new_context().id != context.id


def test_bad_parameters_are_refused_in_one_sentence() -> None:
    with pytest.raises(UnknownScheme, match="ckks"):
        ExecutionContext.create(provider(), "ckks", 512, 1024)
    with pytest.raises(WeakParameters, match="512"):
        ExecutionContext.create(provider(), "paillier", 512, 512)
    with pytest.raises(WeakParameters, match="448"):
        ExecutionContext.create(provider(), "paillier_lookup", 512, 1024, alpha_len=50)
    for scheme, embed_len in itertools.product(SCHEMES, (0, -1, 4097)):
        with pytest.raises(InvalidArgument, match="1 to 4096"):
            ExecutionContext.create(provider(), scheme, embed_len, key_len(scheme, 1024))
    with pytest.raises(InvalidArgument, match="expected a passphrase or a key_provider"):
        ExecutionContext.create()
    with pytest.raises(
        InvalidArgument, match="passphrase is 7, expected a text or a KeyProvider or an ExistingKeyProvider or None"
    ):
        ExecutionContext.create(7, "paillier", 512, 1024)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="exactly one of"):
        ExecutionContext.load_from_disk(path="x")


def test_a_context_shows_its_id(context: ExecutionContext) -> None:
    assert repr(context) == f"<ExecutionContext {context.id}>"


def test_pseudonyms_differ_by_purpose_value_and_context(context: ExecutionContext) -> None:
    names = {
        context.pseudonym("a", "bc"),
        context.pseudonym("ab", "c"),
        context.pseudonym("a", "b", "c"),
        context.pseudonym("a", "bc", ""),
        new_context().pseudonym("a", "bc"),
    }
    assert len(names) == 5


# Private metadata


@pytest.mark.parametrize(
    ("chosen", "fields"),
    [
        (False, ()),
        ([], ()),
        (True, ("tag1", "tag2", "tag3", "tag4", "tag5", "facets")),
        (["facets", "tag2", "facets"], ("tag2", "facets")),
    ],
)
def test_private_fields_are_part_of_the_public_configuration(
    chosen: PrivateMetaData, fields: tuple[str, ...], tmp_path: Path
) -> None:
    context = new_context(path=tmp_path / "context.json", private_metadata=chosen)
    assert context.private_metadata == fields
    assert json.loads(context.public_data()["config"]).get("private_metadata", []) == list(fields)
    assert (
        ExecutionContext.load_from_disk(
            PASSPHRASE, tmp_path / "context.json", insecure_allow_weak_encryption=True
        ).private_metadata
        == fields
    )
    assert read_public_part(tmp_path / "context.json").private_metadata == fields
    successor = context.successor(provider(), key_len=256, insecure_allow_weak_parameters=True)
    assert successor.private_metadata == fields


def test_a_context_without_private_fields_has_the_configuration_that_it_always_had(context: ExecutionContext) -> None:
    assert set(json.loads(context.public_data()["config"])) <= {
        "version",
        "embed_len",
        "key_len",
        "alpha_len",
        "encoding",
    }


@pytest.mark.parametrize("bad", ["tag1", ["tag6"], ["chunk_content"], [1], 3, None])
def test_other_fields_cannot_be_private(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"private_metadata is .*expected True, or a list of some of tag1"):
        new_context(private_metadata=bad)


def test_private_fields_cannot_be_taken_out_of_a_saved_context(tmp_path: Path) -> None:
    path = tmp_path / "context.json"
    new_context(path=path, private_metadata=["tag1"])
    document = json.loads(path.read_text())
    config = json.loads(document["config"])
    without = {name: value for name, value in config.items() if name != "private_metadata"}
    for named in (None, [], "tag1", ["tag9"], ["facets", "tag1"], ["tag1", "tag1"], ["tag2"]):
        changed = without if named is None else without | {"private_metadata": named}
        parts = {**document, "config": canonical_json(changed).decode()}
        parts["id"] = PublicParts(parts["type"], parts["pk"], parts["config"]).public_id
        path.write_text(json.dumps(parts))
        with pytest.raises((InvalidContext, WrongKey)):
            ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True)


# What a saved context tells everybody


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_public_part_of_a_file_is_read_without_its_key(scheme: str, tmp_path: Path) -> None:
    context = new_context(scheme, path=tmp_path / "context.json")
    assert read_public_part(tmp_path / "context.json") == PublicPart(
        id=context.id,
        scheme=scheme,
        embed_len=16,
        key_len=key_len(scheme),
        alpha_len=json.loads(context.public_data()["config"]).get("alpha_len"),
        encoding=None if scheme == "lattice" else "base4",
        version=2,
        key_provider="passphrase",
    )


def test_the_public_part_of_another_clients_context_has_no_id(tmp_path: Path) -> None:
    vectors = Path(__file__).parents[2] / "vectors" / "existing-client" / "paillier_lookup.json"
    (tmp_path / "context.json").write_text(json.dumps(json.loads(vectors.read_text())["context"]))
    public = read_public_part(tmp_path / "context.json")
    assert (public.id, public.version, public.encoding) == (None, None, None)
    assert (public.scheme, public.embed_len, public.key_len) == ("paillier_lookup", 512, 1024)


def test_a_changed_file_has_no_public_part(context: ExecutionContext, tmp_path: Path) -> None:
    context.save_to_disk(tmp_path / "context.json")
    document = json.loads((tmp_path / "context.json").read_text())
    for change in ({"config": document["config"].replace("16", "17", 1)}, {"config": "{}"}, {"sk": None}):
        (tmp_path / "context.json").write_text(json.dumps(document | change))
        with pytest.raises(InvalidContext):
            read_public_part(tmp_path / "context.json")
