"""Shared indexes: segments, the conditional replacement, deletion, quotas, and requests that are not valid."""

from typing import Any

import pytest

from support.recount import kept, recounted
from support.service import Http, LiveService, b64, ok, problem
from support.sharing import OCTETS, Sharing, name, two_replace_the_same_version
from xtrace_core import wire

POSTGRES_BY_DEFAULT = True

UNKNOWN = "0" * 64


@pytest.fixture
def sharing(http: Http, live_service: LiveService) -> Any:
    http.save_context()
    yield Sharing(http, http.new_kb())
    assert kept(live_service.folder, http.org) == recounted(live_service.folder, http.org)


def test_an_index_is_stored_read_and_replaced(sharing: Sharing) -> None:
    assert ok(sharing.describe()) == {"version": 0, "manifest": "", "segments": []}
    first, second, third = b"\x00first", b"s" * 100_000, b"third\xff"
    assert ok(sharing.upload(first)) == {"sha256": name(first), "bytes": 6}
    version = sharing.store(0, b"manifest \x00", [second, first])
    listed = [{"sha256": name(one), "bytes": len(one)} for one in (second, first)]
    assert ok(sharing.describe()) == {"version": version, "manifest": b64(b"manifest \x00"), "segments": listed}
    answer = sharing.fetch(second)
    assert (answer.content, answer.headers["content-type"]) == (second, "application/octet-stream")
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"

    newer = sharing.store(version, b"", [third, second])
    assert newer not in (0, version)
    assert ok(sharing.describe())["segments"] == [{"sha256": name(one), "bytes": len(one)} for one in (third, second)]
    assert "it was replaced" in problem(sharing.fetch(first), 404, "segment_not_found")
    assert ok(sharing.describe(kind="chunks"))["version"] == 0


def test_another_version_and_a_missing_segment_change_nothing(sharing: Sharing) -> None:
    segments = [b"a", b"b"]
    detail = problem(sharing.put(7, b"", []), 409, "shared_index_outdated")
    assert "does not exist, expected version 7" in detail
    version = sharing.store(0, b"m", segments)
    before = ok(sharing.describe())
    detail = problem(sharing.put(0, b"new", segments), 409, "shared_index_outdated")
    assert f"has version {version}, expected none (replaces); nothing was changed" in detail
    ok(sharing.upload(b"c"))
    detail = problem(sharing.put(version, b"new", [b"c", b"never"]), 409, "shared_index_outdated")
    assert f"the segment {name(b'never')} is not stored" in detail
    problem(sharing.put(version + 1, b"new", [b"c"]), 409, "shared_index_outdated")
    assert ok(sharing.describe()) == before
    assert [sharing.fetch(one).content for one in segments] == segments


def test_the_same_index_and_the_same_segment_again_change_nothing(sharing: Sharing) -> None:
    version = sharing.store(0, b"m", [b"a"])
    stored = sharing.stored()
    assert ok(sharing.put(0, b"m", [b"a"]))["version"] == version
    ok(sharing.upload(b"a"))
    assert sharing.stored() == stored
    sharing.remove()
    assert sharing.store(0, b"m", [b"a"]) != version


def test_removal_leaves_nothing_of_the_kind_and_frees_its_bytes(sharing: Sharing) -> None:
    before = sharing.stored()
    other = Sharing(sharing.http, sharing.kb, kind="chunks")
    kept_version = other.store(0, b"other", [b"a"])
    of_other = sharing.stored()
    sharing.store(0, b"m", [b"a", b"b"])
    ok(sharing.upload(b"unlisted"))
    assert sharing.stored() > of_other + len(b"mabunlisted")
    sharing.remove()
    sharing.remove()
    assert sharing.stored() == of_other > before
    for segment in (b"a", b"b", b"unlisted"):
        problem(sharing.fetch(segment), 404, "segment_not_found")
    assert ok(other.describe())["version"] == kept_version
    assert other.fetch(b"a").content == b"a"
    other.remove()
    assert sharing.stored() == before


def test_contexts_knowledge_bases_and_organisations_are_apart(sharing: Sharing, live_service: LiveService) -> None:
    version = sharing.store(0, b"m", [b"a"])
    http = sharing.http
    http.save_context("other")
    for elsewhere in (Sharing(http, sharing.kb, "other"), Sharing(http, http.new_kb())):
        assert ok(elsewhere.describe())["version"] == 0
        problem(elsewhere.fetch(b"a"), 404, "segment_not_found")
        problem(elsewhere.put(0, b"m", [b"a"]), 409, "shared_index_outdated")
        problem(elsewhere.put(version, b"m", []), 409, "shared_index_outdated")
        elsewhere.remove()
    stranger = Http(live_service.new_organisation())
    stranger.save_context()
    own = Sharing(stranger, stranger.new_kb())
    problem(own.put(0, b"m", [b"a"]), 409, "shared_index_outdated")
    foreign = Sharing(stranger, sharing.kb)
    for answer in (foreign.describe(), foreign.fetch(b"a"), foreign.upload(b"a"), foreign.put(version, b"", [])):
        problem(answer, 404, "knowledge_base_not_found")
    stranger.close()
    assert ok(sharing.describe())["version"] == version


def test_a_retired_context_gets_nothing_new_and_its_deletion_removes_the_index(sharing: Sharing) -> None:
    http = sharing.http
    http.save_context("old")
    old = Sharing(http, sharing.kb, "old")
    assert ok(old.describe())["version"] == 0
    before = sharing.stored()
    version = old.store(0, b"m", [b"a"])
    assert sharing.stored() > before
    ok(http.data("POST", "/exec_context/{org}/old/retire"))
    problem(old.upload(b"b"), 409, "context_retired")
    problem(old.put(version, b"new", [b"a"]), 409, "context_retired")
    assert ok(old.describe())["version"] == version
    ok(http.data("DELETE", "/exec_context/{org}/old"))
    problem(old.describe(), 404, "context_not_found")
    problem(old.upload(b"b"), 409, "context_retired")
    assert sharing.stored() < before


def test_deleting_the_knowledge_base_frees_every_byte(sharing: Sharing) -> None:
    before = sharing.stored()
    sharing.store(0, b"m", [b"a"])
    ok(sharing.upload(b"unlisted"))
    Sharing(sharing.http, sharing.kb, kind="chunks").store(0, b"m", [b"a"])
    ok(sharing.http.control("DELETE", f"/kbs/{sharing.kb}"))
    assert sharing.stored() == before
    problem(sharing.describe(), 404, "knowledge_base_not_found")


def test_a_quota_counts_segments_before_they_are_listed(sharing: Sharing, live_service: LiveService) -> None:
    http = sharing.http
    version = sharing.store(0, b"m", [b"a"])
    path = f"/api/v1/operator/organisations/{http.org}/quotas"
    quota = {"bytes": sharing.stored() + 2000}
    ok(http.client.patch(path, json=quota, headers=live_service.operator_headers))
    ok(sharing.upload(b"b" * 1000))
    assert "may store" in problem(sharing.upload(b"c" * 1000), 403, "quota_exceeded")
    problem(sharing.put(version, b"m" * 2000, [b"a"]), 403, "quota_exceeded")
    assert ok(sharing.describe())["version"] == version
    sharing.store(version, b"less", [b"b" * 1000])
    problem(sharing.fetch(b"a"), 404, "segment_not_found")


ODD: list[tuple[dict[str, Any], str]] = [
    ({"manifest": "not base64"}, "Invalid base64"),
    ({"manifest": b64(bytes(wire.MAX_INDEX_MANIFEST_BYTES + 1))}, "length <= 262144"),
    ({"segments": ["0" * 63]}, "matching regex"),
    ({"segments": ["A" * 64]}, "matching regex"),
    ({"segments": ["../" * 21 + "x"]}, "matching regex"),
    ({"segments": [UNKNOWN + "\n"]}, "matching regex"),
    ({"segments": [UNKNOWN, UNKNOWN]}, "has a hash twice"),
    ({"segments": [f"{i:064x}" for i in range(wire.MAX_SEGMENTS + 1)]}, "length <= 4096"),
    ({"replaces": -1}, "`int` >= 0"),
    ({"replaces": 2**53}, "`int` <= 9007199254740991"),
    ({"kind": "Records"}, "matching regex"),
    ({"kind": "a" * 33}, "matching regex"),
]


def test_what_is_not_an_index_is_refused(sharing: Sharing) -> None:
    for changed, reason in ODD:
        assert reason in problem(sharing.put(0, b"m", [], changed), 422, "invalid")
    for odd in ("", "Ä", "9", "../../etc", "records\n", "a" * 33):
        for answer in (sharing.describe(kind=odd), sharing.upload(b"a", kind=odd), sharing.fetch(b"a", kind=odd)):
            assert "query parameter kind" in problem(answer, 422, "invalid")
    for odd in ("", "x", "0" * 65, "../" * 21 + "x", "A" * 64, "%00"):
        assert "query parameter sha256" in problem(sharing.fetch(odd), 422, "invalid")
    assert ok(sharing.describe())["version"] == 0


def test_a_segment_has_a_size_and_a_media_type(sharing: Sharing) -> None:
    largest = bytes(wire.MAX_SEGMENT_BYTES)
    assert ok(sharing.upload(largest))["bytes"] == len(largest)
    assert sharing.fetch(largest).content == largest
    detail = problem(sharing.upload(largest + b"x"), 413, "too_large")
    assert "more than 8388608 bytes, the maximum (of a segment)" in detail
    assert "the body is empty" in problem(sharing.upload(b""), 422, "invalid")
    for headers in ({"content-type": "application/json"}, {}, OCTETS | {"content-encoding": "gzip"}):
        path = "/local/segment/{org}"
        answer = sharing.http.data("POST", path, params=sharing.scope, content=b"a", headers=headers)
        problem(answer, 415, "unsupported_media_type")
    sharing.remove()


def test_an_unknown_context_has_no_index_and_gets_none(sharing: Sharing) -> None:
    unknown = Sharing(sharing.http, sharing.kb, "unknown")
    for answer in (unknown.describe(), unknown.fetch(b"a"), unknown.upload(b"a"), unknown.put(0, b"", [])):
        problem(answer, 404, "context_not_found")


def test_of_two_that_replace_the_same_version_exactly_one_wins(sharing: Sharing) -> None:
    other = Http(sharing.http.credentials)
    two_replace_the_same_version([sharing, Sharing(other, sharing.kb)], rounds=3)
    other.close()
