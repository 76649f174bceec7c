"""The plaintext of a chunk's content: what is written is what is read, and nothing else is."""

import re
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from docs.examples import ROOT
from xtrace_sdk.errors import InvalidArgument, UnknownContent
from xtrace_sdk.x_vec.chunks.envelope import Content, RecordPart, VectorCopy, metadata_digest, pack, unpack

INT8 = np.array([127, -127, 0, 1], dtype=np.int8)
FLOAT32 = np.array([1.0, -0.5, 0.0, 3e-5], dtype=np.float32)
META_DATA = {"tag1": "finance", "facets": ["a", "b"]}


def envelope(**fields: Any) -> bytes:
    return b"\xff" + msgspec.msgpack.encode(fields)


def record(**fields: Any) -> bytes:
    """A record's envelope with these fields otherwise; None for none."""
    whole = {"id": "i", "namespace": "", "attributes": "secret", "visible": bytes(16), "vector": True, "text": "secret"}
    return b"\xfe" + msgspec.msgpack.encode({key: one for key, one in (whole | fields).items() if one is not None})


@pytest.mark.parametrize("text", ["", "x", "Größe 東京 🗝", "a\0b", "\x7f\x80\xff"])
def test_a_text_alone_is_its_utf8(text: str) -> None:
    assert pack(Content(text)) == text.encode()
    content = unpack(text.encode())
    assert (content.text, content.meta_data, content.vector_copy) == (text, None, None)


@pytest.mark.parametrize("text", ["", "Größe 東京 🗝"])
@pytest.mark.parametrize("meta_data", [None, {}, META_DATA])
@pytest.mark.parametrize("vector_copy", [None, INT8, FLOAT32], ids=["none", "int8", "float32"])
def test_everything_comes_back(text: str, meta_data: dict[str, Any] | None, vector_copy: VectorCopy | None) -> None:
    content = unpack(pack(Content(text, meta_data, vector_copy)))
    assert (content.text, content.meta_data) == (text, meta_data)
    if vector_copy is None:
        assert content.vector_copy is None
    else:
        assert content.vector_copy is not None
        assert content.vector_copy.dtype == vector_copy.dtype
        assert content.vector_copy.tolist() == vector_copy.tolist()


def test_the_example_of_the_formats_page_is_an_envelope() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    (example,) = re.findall(r"`(ff 82 [0-9a-f ]+)`", page)
    assert pack(Content("hi", vector_copy=INT8)) == bytes.fromhex(example)


def test_envelopes_have_these_bytes() -> None:
    text = b"\xa4text\xa2hi"
    assert pack(Content("hi", vector_copy=INT8)) == b"\xff\x82" + text + b"\xa4int8\xc4\x04\x7f\x81\x00\x01"
    floats = np.array([1.0, -0.5], dtype=np.float32)
    assert pack(Content("hi", vector_copy=floats)) == (
        b"\xff\x82" + text + b"\xa7float32\xc4\x08\x00\x00\x80\x3f\x00\x00\x00\xbf"
    )
    assert pack(Content("hi", {"tag1": "x"}, INT8[:1])) == (
        b"\xff\x83" + text + b"\xa9meta_data\x81\xa4tag1\xa1x\xa4int8\xc4\x01\x7f"
    )


RECORD = RecordPart("id ü", "space", '{"a":1}', bytes(range(16)))


@pytest.mark.parametrize("vector_copy", [None, INT8, FLOAT32], ids=["none", "int8", "float32"])
@pytest.mark.parametrize("text", [None, "", "Größe 東京 🗝"])
def test_a_record_comes_back(text: str | None, vector_copy: VectorCopy | None) -> None:
    part = replace(RECORD, has_text=text is not None, has_vector=vector_copy is not None)
    content = unpack(pack(Content(text or "", None, vector_copy, None, part)))
    assert (content.text, content.record, content.meta_data, content.name) == (text or "", part, None, None)
    assert (content.vector_copy is None) == (vector_copy is None)
    if vector_copy is not None and content.vector_copy is not None:
        assert content.vector_copy.tolist() == vector_copy.tolist()


def test_records_have_these_bytes() -> None:
    packed = pack(Content("hi", None, INT8[:1], None, RecordPart("i", "", "{}", b"\7" * 16)))
    assert packed == (
        b"\xfe\x87\xa2id\xa1i\xa9namespace\xa0\xaaattributes\xa2{}\xa7visible\xc4\x10"
        + b"\7" * 16
        + b"\xa6vector\xc3\xa4text\xa2hi\xa4int8\xc4\x01\x7f"
    )


def test_what_the_service_has_of_a_record_is_bound_to_it() -> None:
    meta_data = {"tag1": "#1", "facets": ["#2", "#3"]}
    assert len(metadata_digest(meta_data)) == 16
    assert metadata_digest(dict(reversed(meta_data.items()))) == metadata_digest(meta_data)
    for other in ({}, {"tag1": "#1"}, {"tag2": "#1", "facets": ["#2", "#3"]}, {"tag1": "#1", "facets": ["#3", "#2"]}):
        assert metadata_digest(other) != metadata_digest(meta_data)


def test_the_order_of_an_arrays_bytes_in_memory_does_not_show() -> None:
    assert pack(Content("", vector_copy=FLOAT32.astype(">f4"))) == pack(Content("", vector_copy=FLOAT32))


BAD = {
    "no text": b"\xc3",
    "a mark alone": b"\xff",
    "no map": b"\xff\xa2hi",
    "no text in it": envelope(int8=b"\1"),
    "text that is bytes": envelope(text=b"secret"),
    "text that is no UTF-8": b"\xff\x81\xa4text\xa1\xff",
    "unpaired surrogate": b"\xff\x81\xa4text\xa3\xed\xa0\x80",
    "an unknown key": envelope(text="secret", int4=b"\1"),
    "more behind it": envelope(text="secret") + b"\0",
    "a record's mark alone": b"\xfe",
    "a record without an id": record(id=None),
    "a record with a digest too short": record(visible=b"\1" * 15),
    "a record with another key": record(tags=[]),
    "a record with more behind it": record() + b"\0",
    "a record of the first version": b"\xff" + record()[1:],
    "a record with two copies": record(int8=b"\1", float32=bytes(4)),
    "two copies": envelope(text="secret", int8=b"\1", float32=bytes(4)),
    "no elements": envelope(text="secret", int8=b""),
    "no floats": envelope(text="secret", float32=b""),
    "half a float": envelope(text="secret", float32=bytes(6)),
    "an infinite float": envelope(text="secret", float32=np.array([1, np.inf], "<f4").tobytes()),
    "a float that is no number": envelope(text="secret", float32=np.array([np.nan], "<f4").tobytes()),
    "a copy that is null": envelope(text="secret", int8=None),
    "a copy that is a list": envelope(text="secret", int8=[1, 2]),
    "unknown metadata": envelope(text="secret", meta_data={"tag9": "secret"}),
    "metadata of another type": envelope(text="secret", meta_data={"tag1": 1}),
    "metadata nested without end": b"\xff\x82\xa4text\xa1x\xa9meta_data\x81\xa4tag1" + b"\x91" * 100_000 + b"\xc0",
    "an unknown key nested without end": b"\xff\x82\xa4text\xa1x\xa4more" + b"\x91" * 100_000 + b"\xc0",
    "metadata with a NUL": envelope(text="secret", meta_data={"tag1": "\0"}),
    "metadata that is null": envelope(text="secret", meta_data=None),
}


@pytest.mark.parametrize("plaintext", BAD.values(), ids=list(BAD))
def test_other_plaintexts_are_refused_without_showing_them(plaintext: bytes) -> None:
    with pytest.raises(UnknownContent, match="newer version") as caught:
        unpack(plaintext)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_every_truncation_of_an_envelope_is_refused() -> None:
    whole = pack(Content("text", META_DATA, INT8))
    for length in range(1, len(whole)):
        with pytest.raises(UnknownContent):
            unpack(whole[:length])


@pytest.mark.parametrize("extras", [{}, {"vector_copy": INT8}, {"meta_data": {"tag1": "\ud800"}}])
def test_text_that_utf8_cannot_hold_is_refused_without_showing_it(extras: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="surrogates") as caught:
        pack(Content("secret \ud800", **extras))
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_no_text_in_its_repr() -> None:
    assert "secret" not in repr(Content("secret", META_DATA))
