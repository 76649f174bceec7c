"""How chunks are named: known answers, and what a salt is not taken for."""

import pickle
import re
import secrets
from typing import Any

import pytest

from docs.examples import ROOT
from xtrace_sdk.errors import ForeignNameSalt, InvalidArgument
from xtrace_sdk.x_vec.contexts.context_keys import ContextKeys
from xtrace_sdk.x_vec.contexts.names import ChunkNames
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.chunks import ChunkReader
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

KEY, SALT = bytes(range(32)), bytes(range(32, 64))
KB_ID = "kb_1"
CHUNK = {"chunk_content": "The cat sleeps.", "meta_data": {"tag1": "user_123"}}
# From `openssl dgst -sha256 -mac HMAC -macopt hexkey:…`, over what docs/formats.md, "Names", says.
BASE_NAME = "39e0635d77f1a53e6822cd508860f732"
TAG = "b9f7d85f79e48ab7b04df7c6e645bc2e643d09706ac37679bb5a8a1a215262bd"
NAME = "bf3be590bd0bf0e0c9a9211fa791bdb3"
STORED = SALT + bytes.fromhex(TAG)


def new_context() -> ExecutionContext:
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    return ExecutionContext.create(provider, "paillier", 16, 256, insecure_allow_weak_parameters=True)


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    """A context whose metadata key is 00 01 … 1f."""
    keys = new_context()._keys
    return ExecutionContext(ContextKeys(keys.public, keys.id, keys.homomorphic, keys.content, KEY), None, None)


@pytest.fixture
def names(context: ExecutionContext) -> ChunkNames:
    return context.chunk_names(KB_ID, STORED)


def test_names_are_the_known_answers(context: ExecutionContext, names: ChunkNames) -> None:
    assert ChunkReader(context).read(CHUNK).base_name == BASE_NAME
    assert names.name(BASE_NAME) == NAME
    assert names.by_name([BASE_NAME]) == {NAME: BASE_NAME}
    assert names.salt_for(KB_ID) == STORED


def test_the_page_on_formats_has_the_known_answers() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    rows = dict(re.findall(r"^\| (base name|tag|name) \| `([0-9a-f]+)` \|$", page, re.MULTILINE))
    assert rows == {"base name": BASE_NAME, "tag": TAG, "name": NAME}


def test_each_knowledge_base_and_each_draw_has_another_salt(
    context: ExecutionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    salts = {context.new_name_salt(kb_id)[:32] for kb_id in ("a", "a", "b")}
    assert len(salts) == 3
    monkeypatch.setattr(secrets, "token_bytes", bytes)  # a generator that repeats
    assert len({context.new_name_salt(kb_id)[:32] for kb_id in ("a", "a", "b")}) == 2


def test_a_salt_is_accepted_for_its_knowledge_base_and_context_alone(context: ExecutionContext) -> None:
    stored = context.new_name_salt("a")
    name = context.chunk_names("a", stored).name(BASE_NAME)
    for other, kb_id in ((context, "b"), (context, ""), (new_context(), "a")):
        with pytest.raises(ForeignNameSalt, match=f"in the knowledge base {kb_id} was not made for it"):
            other.chunk_names(kb_id, stored)
    copied = context.chunk_names("a", stored).salt_for("b")
    assert context.chunk_names("b", copied).name(BASE_NAME) == name


@pytest.mark.parametrize("position", range(0, 64, 7))
def test_a_changed_salt_is_refused(context: ExecutionContext, position: int) -> None:
    changed = bytearray(STORED)
    changed[position] ^= 1
    with pytest.raises(ForeignNameSalt):
        context.chunk_names(KB_ID, bytes(changed))


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 63, 65, 128])
def test_a_salt_of_another_length_is_refused(context: ExecutionContext, length: int) -> None:
    with pytest.raises(ForeignNameSalt):
        context.chunk_names(KB_ID, (STORED + bytes(64))[:length])


def test_a_tag_is_not_of_a_longer_salt_and_a_shorter_id(context: ExecutionContext) -> None:
    stored = context.new_name_salt("kb")
    with pytest.raises(ForeignNameSalt):
        context.chunk_names("b", stored[:32] + b"k" + stored[32:])


@pytest.mark.parametrize("kb_id", [None, 7, "\ud800"])
def test_what_is_no_id_is_one_clear_error(context: ExecutionContext, kb_id: Any) -> None:
    with pytest.raises(InvalidArgument, match="kb_id"):
        context.new_name_salt(kb_id)


def test_names_show_and_pickle_nothing(names: ChunkNames) -> None:
    assert repr(names) == "<ChunkNames>"
    with pytest.raises(TypeError, match="secrets"):
        pickle.dumps(names)
