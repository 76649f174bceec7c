"""Whatever is sent to the parsers, they take it or refuse it in their own words; what they take is what was meant."""

import base64
import itertools
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.filter_strategies import filters
from support.toy_paillier import toy_key
from xtrace_core import wire
from xtrace_core.metadata_filter import (
    DEFAULT_LIMITS,
    EVERY_CHUNK,
    FACET_OPERATORS,
    TAG_OPERATORS,
    Filter,
    FilterLimits,
    InvalidFilter,
    parse_filter,
)
from xtrace_core.schemes.interface import Evaluation, InvalidCiphertext, InvalidPublicKey
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_core.wire import PROJECTION_FIELDS
from xtrace_sdk.errors import UnknownContent
from xtrace_sdk.x_vec.chunks.envelope import pack, unpack
from xtrace_server.errors import InvalidRequest, MalformedRequest
from xtrace_server.http import json_parts
from xtrace_server.http.bodies import MSGPACK, Decoder
from xtrace_server.http.page_token import PageToken, decode_token, encode_token, query_digest
from xtrace_server.operations.projections import projection
from xtrace_server.scope import SearchScope
from xtrace_server.settings import Settings
from xtrace_server.storage.keyset import Position

SETTINGS = Settings()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
words = st.sampled_from(
    ["$and", "$or", "$nor", "$not", "facets", *wire.TAGS, *TAG_OPERATORS, *FACET_OPERATORS, "x", ""]
)
nearly_filters = st.recursive(
    json_values,
    lambda inner: st.dictionaries(words, inner | st.lists(inner, max_size=3), max_size=3),
    max_leaves=8,
)


def parsed(value: Any, limits: FilterLimits = DEFAULT_LIMITS) -> Filter | None:
    try:
        return parse_filter(value, limits)
    except InvalidFilter as error:
        sentence = str(error)
    assert 0 < len(sentence) < 2000
    return None


@given(nearly_filters | filters | st.text() | st.binary())
@example({"$not": {"$not": {}}})
@example('{"tag1": 1e999}')
@example("[" * 5000)
def test_a_filter_is_parsed_or_refused(value: Any) -> None:
    tree = parsed(value)
    if tree is not None and isinstance(value, dict):
        # The same as text, and once more.
        assert parsed(msgspec.json.encode(value).decode()) == tree == parsed(value)


@given(filters, st.integers(1, 4), st.integers(1, 6), st.integers(1, 4))
def test_narrower_limits_only_ever_refuse(value: dict[str, Any], depth: int, conditions: int, values: int) -> None:
    narrow = parsed(value, FilterLimits(depth, conditions, values))
    assert narrow is None or narrow == parsed(value)


# Ciphertexts

N = toy_key().n
EVALUATION = SchemeRegistry().evaluation("PaillierClient", toy_key().context_data.pk)
WIDTH = (N * N).bit_length() + 7 >> 3


def row(by: Evaluation, index: list[bytes]) -> bytes | None:
    try:
        return by.row(index)
    except InvalidCiphertext:
        return None


edges = st.sampled_from([b"", b"\0" * WIDTH, b"\xff" * WIDTH, b"\1" + b"\0" * WIDTH, b"\0" * (WIDTH - 1) + b"\1"])
near = st.sampled_from([-1, 0, 1]).map(lambda more: (N * N + more).to_bytes(WIDTH, "little"))


@given(st.lists(st.binary(max_size=WIDTH + 2) | edges | near, max_size=4))
def test_an_index_is_stored_as_it_is_or_refused(index: list[bytes]) -> None:
    values = [int.from_bytes(ciphertext, "little") for ciphertext in index]
    stored = row(EVALUATION, index)
    valid = bool(index) and all(0 < value < N * N for value in values) and all(len(one) <= WIDTH for one in index)
    assert (stored is not None) == valid
    if stored is not None:
        assert len(stored) == WIDTH * len(index)
        assert [int.from_bytes(one, "little") for one in EVALUATION.index(stored)] == values


@given(st.text(max_size=40), json_values | st.fixed_dictionaries({"n": json_values | st.integers(2**511, 2**513)}))
def test_a_public_key_is_read_or_refused(type_: str, key: Any) -> None:
    for name in ("PaillierClient", type_):
        with suppress(InvalidPublicKey):
            SchemeRegistry().evaluation(name, msgspec.json.encode(key).decode())
    with pytest.raises(InvalidPublicKey):
        SchemeRegistry().evaluation("PaillierClient", type_ + "{")


# Projections


@given(st.lists(st.sampled_from(sorted(PROJECTION_FIELDS)) | st.text(max_size=20), max_size=6), st.booleans())
def test_a_projection_is_read_or_refused(names: list[str], return_content: bool) -> None:
    try:
        shown = projection(names, return_content)
    except InvalidRequest:
        assert not set(names) <= PROJECTION_FIELDS
        return
    assert set(names) <= PROJECTION_FIELDS
    for name in names:
        assert name in shown.top_level or name in shown.meta_data
    assert ("nonce" in shown.top_level) == bool(shown.top_level & {"chunk_content", "index"} or "nonce" in names)


# Page tokens

DIGEST = query_digest(SearchScope(kb_id="kb", context_id="ctx", filter=EVERY_CHUNK), "tag1", "asc")
tokens = st.builds(
    lambda value, pk, offset: PageToken(DIGEST, Position(value, pk), offset),
    st.text().filter(lambda text: "\0" not in text and text.isprintable()),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
)


def decoded(text: str) -> PageToken | None:
    try:
        return decode_token(text, DIGEST)
    except InvalidRequest:
        return None


@given(tokens)
def test_a_page_token_comes_back_and_is_of_its_query_alone(token: PageToken) -> None:
    text = encode_token(token)
    assert decoded(text) == token
    with pytest.raises(InvalidRequest, match="a different query"):
        decode_token(text, bytes(16))


@given(st.text(), tokens, st.data())
def test_what_is_no_page_token_is_refused(text: str, token: PageToken, data: st.DataObject) -> None:
    decoded(text)
    raw = bytearray(base64.urlsafe_b64decode(encode_token(token) + "=="))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    altered = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    found = decoded(altered)
    assert found is None or (0 <= found.position.pk < 2**63 and 0 <= found.offset < 2**63)
    assert decoded(altered[: len(altered) // 2]) is None


@given(json_values)
def test_what_is_packed_otherwise_is_no_page_token(value: Any) -> None:
    try:
        packed = msgspec.msgpack.encode(value)
    except (OverflowError, msgspec.EncodeError):
        return
    assert decoded(base64.urlsafe_b64encode(packed).decode()) is None


# Bodies: in parts they are what they are at once

DECODERS: list[Decoder[Any]] = [
    Decoder(wire.InsertChunks),
    Decoder(wire.PatchChunks),
    Decoder(wire.PageMetaData),
    Decoder(wire.FindNames),
    Decoder(wire.FindChanges),
]
PACKED: list[Decoder[Any]] = [
    Decoder(type_, MSGPACK) for type_ in (wire.InsertChunks, wire.UpdateChunks, wire.PatchChunks)
]
chunk_like = st.fixed_dictionaries(
    {"chunk_content": st.text(max_size=3) | json_values, "index": st.lists(st.sampled_from(["AQ==", "", "x", 1]))},
    optional={
        "chunk_id": st.integers(),
        "meta_data": st.dictionaries(words, json_values, max_size=2),
        "nonce": st.none(),
    },
)
body_like = st.fixed_dictionaries(
    {"kb_id": st.text(max_size=3), "context_id": st.text(max_size=3) | st.none()},
    optional={
        "chunks": st.lists(chunk_like, max_size=3) | json_values,
        "chunk_patches": st.lists(chunk_like, max_size=3),
        "names": st.lists(st.text(max_size=3), max_size=3),
        "meta_filter": nearly_filters,
        "limit": st.integers(-1, 3),
    },
)


noises = st.sampled_from([b"", b" ", b"\xff", b'"', b"}", b"[", b",", b"\0", b"\\", b'\\\\"', b"\\ud800", b"\\u0000"])


def outcome(decode: Any, *arguments: Any) -> tuple[str, Any]:
    try:
        return "value", decode(*arguments)
    except (InvalidRequest, MalformedRequest) as error:
        return error.code, None


@settings(max_examples=200, deadline=None)
@given(body_like, st.integers(0, 40), noises)
@example({"chunk_patches": [{"chunk_id": 0, "chunk_content": "", "index": []}], "context_id": None}, 49, b"\xff")
def test_a_body_in_parts_is_the_body_at_once(body: Any, at: int, noise: bytes) -> None:
    data = msgspec.json.encode(body)
    data = data[:at] + noise + data[at:]
    for decoder, slice_bytes in itertools.product(DECODERS, (2, 3, 1000)):
        with patch.object(json_parts, "_SLICE_BYTES", slice_bytes):
            assert outcome(decoder.decode_large, data, SETTINGS) == outcome(decoder.decode, data)


values = st.none() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=3)
nearly_envelopes = st.fixed_dictionaries(
    {"text": st.text(max_size=5)},
    optional={
        "meta_data": values | st.dictionaries(st.sampled_from([*wire.TAGS, "facets", "x"]), values, max_size=3),
        "int8": values | st.binary(max_size=5),
        "float32": values | st.binary(min_size=4, max_size=8),
        "more": values,
    },
)


@given(st.binary(max_size=40) | nearly_envelopes.map(msgspec.msgpack.encode))
@example(b"\x81\xa4text\xa0")
def test_an_envelope_is_read_or_refused_and_what_is_read_is_written_again(data: bytes) -> None:
    with suppress(UnknownContent):
        content = unpack(b"\xff" + data)
        again = unpack(pack(content))
        assert (again.text, again.meta_data) == (content.text, content.meta_data)
        assert (again.vector_copy is None) == (content.vector_copy is None)
        if again.vector_copy is not None and content.vector_copy is not None:
            assert again.vector_copy.tobytes() == content.vector_copy.tobytes()


packed_chunks = st.fixed_dictionaries(
    {"chunk_content": st.text(max_size=3), "index": st.lists(st.binary(max_size=3) | st.text(max_size=2), max_size=2)},
    optional={
        "chunk_id": st.integers(0, 9),
        "name": st.text(max_size=3),
        "nonce": st.binary(max_size=33),
        "more": json_values,
    },
)
packed_bodies = st.fixed_dictionaries(
    {"kb_id": st.text(max_size=3), "context_id": st.text(max_size=3)},
    optional={
        name: st.lists(packed_chunks, max_size=3) | json_values for name in ("chunks", "chunk_updates", "chunk_patches")
    },
)


@settings(max_examples=300, deadline=None)
@given(packed_bodies, st.integers(0, 40), st.binary(max_size=2), st.booleans())
def test_a_packed_body_in_parts_is_the_body_at_once(body: Any, at: int, noise: bytes, cut: bool) -> None:
    try:
        data = msgspec.msgpack.encode(body)
    except OverflowError:  # an integer that MessagePack does not have
        return
    data = data[: -at or None] if cut else data[:at] + noise + data[at:]
    for decoder in PACKED:
        assert outcome(decoder.decode_large, data, SETTINGS) == outcome(decoder.decode, data)
