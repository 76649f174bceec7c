"""Manifests: the format as docs/formats.md has it, what is refused, and which chunks count."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.examples import ROOT
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument, InvalidManifest
from xtrace_sdk.x_vec.contexts.manifest import Accepted, Manifest, content_digest, manifest_head, manifest_record
from xtrace_sdk.x_vec.schemes.ciphertexts import row_digest

HEAD = manifest_head("context", "kb")


def chunk(chunk_id: int, **fields: Any) -> dict[str, Any]:
    return {"chunk_id": chunk_id, "index": [b"\x01\x02"], "nonce": b"nonce", "chunk_content": "AAAA", **fields}


def written(path: Path, *chunks: dict[str, Any], head: bytes = HEAD) -> Manifest:
    path.write_bytes(head + b"".join(map(manifest_record, chunks)))
    return Manifest.read(path)


def accepted(manifest: Manifest) -> Accepted:
    one = Accepted({manifest.kb_id: manifest.digest})
    one.open("context", [manifest])
    return one


def test_the_bytes_are_those_of_the_page(tmp_path: Path) -> None:
    assert HEAD == b'xtrace-manifest-1 {"context_id":"context","kb_id":"kb"}\n'
    row = hashlib.sha256(b"\0\x05nonce\0\x02\x01\x02").digest()[:16]
    content = hashlib.sha256(b"AAAA").digest()[:16]
    assert manifest_record(chunk(258)) == b"\0\0\0\0\0\0\x01\x02" + row + content
    without = hashlib.sha256(b"\0\0\0\x02\x01\x02\0\x01\x03").digest()[:16]
    other = chunk(1, nonce=None, index=[b"\x01\x02\0\0", b"\x03"])
    assert manifest_record(other)[8:24] == without == row_digest(other["index"], None)
    manifest = written(tmp_path / "m", chunk(1), chunk(7))
    assert (manifest.context_id, manifest.kb_id, len(manifest)) == ("context", "kb", 2)
    assert manifest.digest == hashlib.sha256((tmp_path / "m").read_bytes()).hexdigest()
    page = (ROOT / "docs" / "formats.md").read_text()
    assert "`xtrace-manifest-1 `" in page
    assert manifest_record(chunk(258)).hex(" ", 8) in page


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"other",
        HEAD[:-1],
        b"xtrace-manifest-2 " + HEAD.partition(b" ")[2],
        b"xtrace-manifest-1 {}\n",
        b'xtrace-manifest-1 {"context_id":"c","kb_id":"k","more":1}\n',
        b"xtrace-manifest-1 \xff\n",
        b"xtrace-manifest-1 " + b"[" * 4000 + b"\n",
        b"xtrace-manifest-1 " + b" " * 5000 + b"\n",
        HEAD + bytes(39),
        HEAD + manifest_record(chunk(2)) + manifest_record(chunk(1)),
        HEAD + manifest_record(chunk(2)) * 2,
    ],
)
def test_what_is_not_a_whole_manifest_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(InvalidManifest):
        Manifest.read(tmp_path / "m")


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InaccessibleFile, match=r"manifest .* cannot be read"):
        Manifest.read(tmp_path / "missing")


def test_a_chunk_counts_as_it_is_listed(tmp_path: Path) -> None:
    known = accepted(written(tmp_path / "m", chunk(1), chunk(5), chunk(2**40)))
    changed = [
        chunk(1, nonce=b"other"),
        chunk(1, nonce=None),
        chunk(1, index=[b"\x01\x03"]),
        chunk(1, index=[b"\x01\x02", b"\x01"]),
        chunk(1, chunk_content="AAAB"),
        chunk(2),
        chunk(0),
        chunk(2**62),
    ]
    assert known.chunks("kb", [chunk(1), chunk(5), chunk(2**40)]).all()
    assert not known.chunks("kb", changed).any()
    assert known.contents("kb", changed).tolist() == [True, True, True, True, False, False, False, False]
    assert known.ids("kb", [1, 2, 5]).tolist() == [True, False, True]
    digests = [row_digest(one["index"], one["nonce"]) for one in changed]
    assert (
        known.rows("kb", [one["chunk_id"] for one in changed], digests).tolist() == [False] * 4 + [True] + [False] * 3
    )
    assert known.rows("kb", [], []).tolist() == []


def test_without_manifests_everything_counts_and_with_them_nothing_else() -> None:
    everything = Accepted()
    assert everything.is_everything
    assert everything.chunks("kb", [chunk(1)]).all()
    assert everything.ids("kb", [3]).all()
    assert everything.contents("kb", [chunk(1)]).all()
    nothing = Accepted({})
    assert not nothing.chunks("kb", [chunk(1)]).any()
    assert not nothing.ids("kb", [1, 2]).any()


def test_a_manifest_is_the_sealed_one_or_none(tmp_path: Path) -> None:
    manifest = written(tmp_path / "m", chunk(1))
    later = written(tmp_path / "later", chunk(1), chunk(2))
    other = written(tmp_path / "other", chunk(1), head=manifest_head("other", "kb"))
    known = Accepted({"kb": manifest.digest, "second": later.digest})
    with pytest.raises(InvalidArgument, match="the knowledge base kb is not open"):
        known.ids("kb", [1])
    for wrong in (later, other):
        with pytest.raises(InvalidManifest, match="not the one that the new context was created with"):
            known.open("context", [wrong])
    known.open("context", [manifest])
    assert known.ids("kb", [1]).all()
    with pytest.raises(InvalidArgument, match="the knowledge base second is not open"):
        known.chunks("second", [chunk(1)])
    assert not known.ids("third", [1]).any()


@given(
    listed=st.sets(st.integers(1, 50)),
    asked=st.lists(st.integers(0, 60)),
    changed=st.sets(st.integers(0, 60)),
)
def test_it_agrees_with_a_dictionary(
    listed: set[int], asked: list[int], changed: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("m") / "m"
    known = accepted(written(path, *(chunk(i, chunk_content=str(i)) for i in sorted(listed))))
    shown = [chunk(i, chunk_content="x" if i in changed else str(i)) for i in asked]
    reference = {i: content_digest(str(i)) for i in listed}
    expected = [reference.get(one["chunk_id"]) == content_digest(one["chunk_content"]) for one in shown]
    assert known.chunks("kb", shown).tolist() == expected
