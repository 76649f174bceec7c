"""Knowledge bases on their pages: listed, created, renamed, deleted, and their chunks as the server has them."""

import base64
import html
import re

import pytest

from support.dashboard import Visitor, turned_pages
from support.service import Http, LiveService, chunk, ok
from xtrace_server.credentials import Credentials
from xtrace_server.operations import knowledge_bases as operations

LONG = "é" * 65_536
KNOWLEDGE_BASE = re.compile(r'<th scope="row" class="wrap"><a href="[^"]*">([^<]*)</a>')
CHUNK = re.compile(r'#chunk">([\d,]+)</a>')
MARKUP = "<script>alert(1)</script>\"'&{{7*7}}"


def created(admin: Visitor, name: str) -> str:
    """The id of a knowledge base that a form has created."""
    shown = admin.send("/knowledge-bases", "/knowledge-bases", name=name)
    assert shown.status == 200, shown.text
    return shown.path.rpartition("/")[2]


def test_one_is_created_renamed_and_deleted(admin: Visitor, http: Http) -> None:
    assert "Nothing is stored yet" in admin.get("/knowledge-bases").text
    kb = created(admin, "contracts")
    assert [(one["id"], one["name"]) for one in ok(http.control("GET", "/kbs"))] == [(kb, "contracts")]
    shown = admin.send(f"/knowledge-bases/{kb}", f"/knowledge-bases/{kb}/rename", name="letters", description="old")
    assert "Knowledge base renamed." in shown.text
    assert ok(http.control("GET", f"/kbs/{kb}"))["name"] == "letters"
    page = f"/knowledge-bases/{kb}/delete"
    refused = admin.send(page, page, confirm="Letters")
    assert refused.status == 422
    assert "Nothing was deleted." in refused.text
    assert ok(http.control("GET", f"/kbs/{kb}"))["id"] == kb
    shown = admin.send(page, page, confirm="letters")
    assert "Knowledge base deleted." in shown.text
    assert http.control("GET", f"/kbs/{kb}").status_code == 404
    actions = [one["action"] for one in ok(http.control("GET", "/audit"))]
    assert actions[:3] == ["knowledge_base.delete", "knowledge_base.rename", "knowledge_base.create"]


@pytest.mark.parametrize("name", [LONG, MARKUP], ids=["long", "markup"])
def test_any_name_is_shown_as_text(admin: Visitor, http: Http, name: str) -> None:
    kb = created(admin, name)
    assert ok(http.control("GET", f"/kbs/{kb}"))["name"] == name
    for path in ("/knowledge-bases", f"/knowledge-bases/{kb}", f"/knowledge-bases/{kb}/delete"):
        shown = admin.get(path)
        assert shown.status == 200
        assert "<script>alert" not in shown.html
    assert name == LONG or html.escape("<script>alert(1)</script>") in shown.html
    # A long name is not typed to confirm.
    page = f"/knowledge-bases/{kb}/delete"
    assert "deleted" in admin.send(page, page, confirm=kb if name == LONG else name).text


@pytest.mark.parametrize("name", ["", "   ", "x" * 65_537])
def test_a_name_that_cannot_be_is_refused_on_the_page(admin: Visitor, http: Http, name: str) -> None:
    shown = admin.send("/knowledge-bases", "/knowledge-bases", name=name, description="kept")
    assert shown.status == 422
    assert 'aria-invalid="true"' in shown.html
    assert 'value="kept"' in shown.html
    assert ok(http.control("GET", "/kbs")) == []


def test_a_form_that_is_sent_twice_creates_one(admin: Visitor, http: Http) -> None:
    page = admin.get("/knowledge-bases")
    admin.resend(page, "/knowledge-bases", name="once")
    again = admin.resend(page, "/knowledge-bases", name="once")
    assert "created once" in again.text
    assert len(ok(http.control("GET", "/kbs"))) == 1


def test_two_tabs_of_one_session_work_side_by_side(admin: Visitor, http: Http) -> None:
    one, two = admin.get("/knowledge-bases"), admin.get("/knowledge-bases")
    admin.resend(two, "/knowledge-bases", name="two")
    admin.resend(one, "/knowledge-bases", name="one")
    assert {kb["name"] for kb in ok(http.control("GET", "/kbs"))} == {"one", "two"}


def test_the_list_is_found_sorted_and_paged(admin: Visitor, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "PAGE_KNOWLEDGE_BASES", 2)
    monkeypatch.setattr("xtrace_server.dashboard.pages.knowledge_bases.PAGE_KNOWLEDGE_BASES", 2)
    ids = {name: ok(http.control("POST", "/kbs", json={"name": name}))["id"] for name in ("a", "LO%", "c_", "d", "e")}

    def names(path: str) -> list[str]:
        return KNOWLEDGE_BASE.findall(admin.get(path).html)

    assert names("/knowledge-bases?sort=name&order=desc") == ["e", "d"]
    assert names("/knowledge-bases") == ["e", "d"]
    for sort in ("name", "updated_at", "number_of_vectors"):
        turned = turned_pages(admin, f"/knowledge-bases?sort={sort}&order=desc", KNOWLEDGE_BASE)
        assert [len(page) for page in turned] == [2, 2, 1]
        assert sorted(name for page in turned for name in page) == sorted(ids)
    assert names("/knowledge-bases?find=lo") == ["LO%"]
    assert names("/knowledge-bases?find=%25") == ["LO%"]
    assert names("/knowledge-bases?find=_") == ["c_"]
    assert names(f"/knowledge-bases?find={ids['a'][:8]}") == ["a"]
    assert "No knowledge base matches" in admin.get("/knowledge-bases?find=zz").text
    for wrong in ("after=gone~x&from=9", "before=~&from=x", "sort=x&order=x", f"after={ids['a']}~x&sort=stored_bytes"):
        assert admin.get(f"/knowledge-bases?{wrong}").status == 200
    assert names("/knowledge-bases?sort=name&order=asc&after=gone&from=9") == ["LO%", "a"]
    # A row that changed keeps the place that its reader saw; a long name is looked up.
    admin.send(f"/knowledge-bases/{ids['a']}", f"/knowledge-bases/{ids['a']}/rename", name="z")
    assert names(f"/knowledge-bases?sort=name&order=asc&after={ids['a']}~a&from=3") == ["c_", "d"]
    assert names(f"/knowledge-bases?sort=name&order=asc&after={ids['a']}&from=3") == []


def test_another_organisations_does_not_exist(admin: Visitor, live_service: LiveService) -> None:
    other = Http(live_service.new_organisation())
    kb = other.new_kb()
    for path in (f"/knowledge-bases/{kb}", f"/knowledge-bases/{kb}/delete"):
        shown = admin.get(path)
        assert shown.status == 404
        assert "does not have a knowledge base" in shown.text
    page = admin.get("/knowledge-bases")
    for action in ("rename", "delete"):
        fields = {**page.form("/knowledge-bases").fields, "name": "x", "confirm": "kb"}
        assert admin.post(f"/knowledge-bases/{kb}/{action}", fields).status == 404
    assert ok(other.control("GET", f"/kbs/{kb}"))["name"] == "kb"
    other.close()


def test_chunks_are_listed_by_their_metadata(admin: Visitor, http: Http) -> None:
    kb, _ = http.new_kb(), http.save_context()
    rows = [
        chunk(i + 1, meta_data={"tag1": f"client {i % 3}", "facets": ["draft"] if i % 2 else ["signed", MARKUP]})
        for i in range(30)
    ]
    http.insert(kb, rows)

    def ids(parameters: str) -> list[int]:
        shown = admin.get(f"/knowledge-bases/{kb}?{parameters}")
        return [int(one) for one in CHUNK.findall(shown.html)]

    assert ids("") == list(range(30, 5, -1))
    for sort, order in (
        ("chunk_id", "asc"),
        ("chunk_id", "desc"),
        ("tag1", "asc"),
        ("tag1", "desc"),
        ("tag2", "asc"),
        ("updated_at", "desc"),
    ):
        turned = turned_pages(admin, f"/knowledge-bases/{kb}?sort={sort}&order={order}", CHUNK)
        assert [len(page) for page in turned] == [25, 5]
        assert sorted(int(one) for page in turned for one in page) == list(range(1, 31))
    assert ids("after=6~&from=26") == ids("after=6") == [5, 4, 3, 2, 1]
    for gone in ("999", "x", "-1", "9" * 19, "9" * 30):
        assert ids(f"sort=tag1&order=asc&after={gone}&from=26")[:2] == [1, 4]
    assert ids("sort=chunk_id&order=asc")[:3] == [1, 2, 3]
    assert ids("sort=tag1&order=asc")[:2] == [1, 4]
    assert ids("f1=tag1&o1=equals&v1=client 2&f2=facets&o2=has&v2=draft") == [30, 24, 18, 12, 6]
    assert ids('filter={"$or":[{"tag1":"client 1"}]}')[:2] == [29, 26]
    assert ids('sort=tag1&order=asc&filter={"tag1":{"$exists":true}}')[:2] == [1, 4]
    shown = admin.get(f"/knowledge-bases/{kb}")
    assert "30 chunks" in shown.text
    assert "<script>alert" not in shown.html
    wrong = admin.get(f'/knowledge-bases/{kb}?filter={{"tag9": 1}}')
    assert "neither a field nor an operator" in wrong.text
    assert 'aria-invalid="true"' in wrong.html
    assert "No chunk matches this filter" in admin.get(f'/knowledge-bases/{kb}?filter={{"tag1":"none"}}').text


def test_a_chunk_is_shown_as_what_it_is(admin: Visitor, http: Http) -> None:
    kb, _ = http.new_kb(), http.save_context()
    content = bytes(range(100))
    (chunk_id,) = http.insert(kb, [chunk(7, chunk_content=base64.b64encode(content).decode(), meta_data={"tag2": "x"})])
    (plain,) = http.insert(kb, [chunk(8, chunk_content="not base64 !")])
    (long,) = http.insert(kb, [chunk(9, chunk_content=base64.b64encode(bytes(100_001)).decode())])
    listed = admin.get(f"/knowledge-bases/{kb}").html
    assert [f'<td class="num">{size}</td>' in listed for size in ("68 B", "0 B", "97.6 KiB")] == [True] * 3
    assert plain < long
    shown = admin.get(f"/knowledge-bases/{kb}?chunk={chunk_id}")
    assert "00010203 04050607" in shown.text
    assert "100 bytes: IV 16, tag 16, ciphertext 68" in shown.text
    assert "You cannot read this, and neither can we." in shown.text
    for missing in ("999", "0", "-1", "x", "9" * 30):
        gone = admin.get(f"/knowledge-bases/{kb}?chunk={missing}")
        assert gone.status == 200
    assert "Chunk 999 was not found" in admin.get(f"/knowledge-bases/{kb}?chunk=999").text


def test_what_an_admin_may_see_follows_the_admin_key_alone(
    admin: Visitor, credentials: Credentials, http: Http
) -> None:
    kb = http.new_kb()
    for key in ok(http.control("GET", "/keys")):
        ok(http.control("DELETE", f"/keys/{key['hash']}"))
    shown = admin.get(f"/knowledge-bases/{kb}")
    assert shown.status == 200
    assert "API keys with access 0 0 can write" in shown.text
