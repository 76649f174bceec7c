"""Strings with a NUL character, which PostgreSQL cannot store, are refused; ciphertexts may contain zeros."""

from typing import Any

import msgspec
import pytest

from xtrace_core import wire
from xtrace_server.errors import InvalidRequest
from xtrace_server.http.bodies import MSGPACK, Decoder

SEARCH: dict[str, Any] = {"kb_id": "kb", "context_id": "c", "queries": [bytes(20)]}
SEAL: dict[str, Any] = {
    "kb_id": "kb",
    "context_id": "c",
    "chunk_ids": [1],
    "nonces": [bytes(16)],
    "header": bytes(112),
    "hints": bytes(7680),
    "body": bytes(8192),
}


@pytest.mark.parametrize(("type_", "body"), [(wire.SearchBlocks, SEARCH), (wire.SealBlock, SEAL)])
def test_zeros_in_ciphertexts_are_no_nul_characters(type_: Any, body: dict[str, Any]) -> None:
    assert Decoder(type_, MSGPACK).decode(msgspec.msgpack.encode(body)).kb_id == "kb"


@pytest.mark.parametrize(
    ("type_", "body", "changes"),
    [
        (wire.SearchBlocks, SEARCH, {"kb_id": "k\0b"}),
        (wire.SearchBlocks, SEARCH, {"meta_filter": {"tag1": {"$in": ["a", "b\0"]}}}),
        (wire.SealBlock, SEAL, {"context_id": "c\0"}),
    ],
)
def test_a_nul_character_in_a_string_is_refused(type_: Any, body: dict[str, Any], changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="NUL character"):
        Decoder(type_, MSGPACK).decode(msgspec.msgpack.encode(body | changes))
