"""The payloads: how binary fields and ciphertexts travel, and what is left out."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrace_core import wire


@given(st.integers(min_value=0, max_value=2**4096))
def test_a_ciphertext_travels_as_little_endian_bytes_without_padding(value: int) -> None:
    data = wire.ciphertext_to_bytes(value)
    assert len(data) == (value.bit_length() + 7) // 8
    assert wire.ciphertext_from_bytes(data) == wire.ciphertext_from_bytes(data + b"\0\0") == value


def test_binary_fields_are_base64_in_json_and_raw_in_messagepack() -> None:
    chunk = wire.NewChunk("c", [b"\xfb\xff"], nonce=b"n")
    assert msgspec.json.encode(chunk) == b'{"chunk_content":"c","index":["+/8="],"nonce":"bg=="}'
    assert b"\xfb\xff" in msgspec.msgpack.encode(chunk)
    assert msgspec.json.decode(msgspec.json.encode(chunk), type=wire.NewChunk) == chunk


def test_a_search_row_has_two_or_three_elements() -> None:
    decode = msgspec.msgpack.Decoder(list[wire.SearchRow]).decode
    sent = msgspec.msgpack.encode([[[b"a", b"b"], 7], [[b"c"], 8, b"n"], [[b"d"], 9, None]])
    assert decode(sent) == [
        wire.SearchRow([b"a", b"b"], 7),
        wire.SearchRow([b"c"], 8, b"n"),
        wire.SearchRow([b"d"], 9),
    ]


def test_the_range_of_ids_is_called_range_on_the_wire() -> None:
    query = wire.ComputeHamming(kb_id="k", context_id="c", query=[b"q"], id_range=(1, 2))
    assert msgspec.to_builtins(query)["range"] == (1, 2)


def test_a_patch_tells_null_from_absent() -> None:
    patch = msgspec.json.decode(b'{"chunk_id": 1, "meta_data": {"tag1": null}}', type=wire.ChunkPatch)
    assert isinstance(patch.meta_data, wire.MetaData)
    assert patch.meta_data.tag1 is None
    assert patch.meta_data.tag2 is msgspec.UNSET
    assert msgspec.json.encode(patch) == b'{"chunk_id":1,"meta_data":{"tag1":null}}'


@pytest.mark.parametrize("level", [2, 4, 5, 6, 8, -1])
def test_a_permission_is_one_of_four(level: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"permission": level}, wire.SetPermission)


def test_the_secret_of_a_new_key_is_not_in_its_repr() -> None:
    key = wire.ApiKey("h", "abcde", "n", "", "t", None)
    assert "hunter2" not in repr(wire.CreatedApiKey(key, "hunter2"))
