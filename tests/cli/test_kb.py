"""`xtrace kb` against a real server."""

from support.service import Http, chunk, ok
from support.terminal import Terminal


def test_a_knowledge_base_from_its_creation_to_its_end(xtrace: Terminal, http: Http) -> None:
    kb_id = xtrace("kb create notes --description 'what I wrote'").text
    http.save_context()
    http.insert(kb_id, [chunk(1), chunk(2)])

    heading, line = xtrace("kb list").text.splitlines()
    assert heading.split() == ["ID", "VECTORS", "CREATED", "NAME"]
    assert line.split()[:2] == [kb_id, "2"]
    assert line.endswith("Z  notes")

    described = dict(line.split(maxsplit=1) for line in xtrace(f"kb describe {kb_id}").text.splitlines())
    assert described["id"] == kb_id
    assert described["name"] == "notes"
    assert described["description"] == "what I wrote"
    assert described["vectors"] == "2"

    deleted = xtrace(f"kb delete {kb_id} --yes")
    assert (deleted.status, deleted.out, deleted.err) == (
        0,
        "",
        f"xtrace: deleted the knowledge base notes ({kb_id})\n",
    )
    assert len(xtrace("kb list").text.splitlines()) == 1
    xtrace(f"kb describe {kb_id}").fails("knowledge base")


def test_the_same_as_json(xtrace: Terminal) -> None:
    created = xtrace("kb create notes --json").json
    assert set(created) == {"id", "name", "description", "numberOfVectors", "createdAt", "updatedAt"}
    assert (created["name"], created["description"], created["numberOfVectors"]) == ("notes", "", 0)
    assert xtrace("kb list --json").json == [created]
    assert xtrace(f"kb describe {created['id']} --json").json == created
    assert xtrace(f"kb delete {created['id']} --yes --json").json == {"id": created["id"], "deleted": True}
    assert xtrace("kb list --json").json == []


def test_deleting_asks_for_the_name_of_each(xtrace: Terminal) -> None:
    for name in ("notes", "letters"):
        xtrace(f"kb create {name}")
    xtrace("kb delete notes").fails("cannot ask for confirmation when not interactive: add --yes", status=2)
    for answers in (["y"], [""], ["notes", "notes"]):
        refused = xtrace.watched("kb delete notes letters", *answers)
        assert (refused.status, refused.out) == (1, "")
        assert "with its 0 vectors. Type its name to confirm: " in refused.err
        assert "not confirmed, so nothing was deleted" in refused.err
    assert len(xtrace("kb list --json").json) == 2
    deleted = xtrace.watched("kb delete notes letters", "notes", "letters")
    assert deleted.status == 0
    assert deleted.err.count("deleted the knowledge base") == 2
    assert xtrace("kb list --all --json").json == []


def test_several_at_once_by_name_or_id(xtrace: Terminal) -> None:
    notes, letters, twin = (xtrace(f"kb create {name} -d 'some words'").text for name in ("notes", "letters", "notes"))
    described = xtrace(f"kb describe letters {twin} --json").json
    assert [kb["id"] for kb in described] == [letters, twin]
    assert xtrace(f"kb describe letters {letters}").text.count("description  some words") == 1
    xtrace("kb describe notes").fails(f"2 knowledge bases are called notes: name one by its id ({notes}, {twin})")
    xtrace("kb describe lettres").fails("the knowledge base lettres does not exist: did you mean letters?")
    xtrace("kb delete letters nothing --yes").fails("the knowledge base nothing does not exist")
    assert len(xtrace("kb list --json").json) == 3  # none was deleted
    gone = xtrace(f"kb delete letters {twin} --yes --json").json
    assert gone == [{"id": letters, "deleted": True}, {"id": twin, "deleted": True}]


def test_a_permission_for_an_api_key_goes_with_it(xtrace: Terminal, http: Http) -> None:
    (own,) = xtrace("keys list --json").json
    other = xtrace("keys create other --json").json["apiKey"]

    def permission(key: dict[str, str], kb_id: str) -> int | None:
        found = ok(http.control("GET", f"/keys/{key['hash']}/permissions"))
        return next((one["permission"] for one in found if one["knowledgeBaseId"] == kb_id), None)

    assert permission(own, xtrace("kb create one -p read").text) == 1
    assert permission(own, xtrace("kb create two -p delete").text) == 7
    kb_id = xtrace(f"kb create three -p write -a {other['firstN']}").text
    assert permission(other, kb_id) == 3
    xtrace("kb create four -p write -a wrong").fails("no API key of this organisation")
    assert len(xtrace("kb list --json").json) == 3


def test_names_cannot_steer_the_terminal(xtrace: Terminal) -> None:
    kb_id = xtrace("kb create 'a\x1b[2Jb\nc'").text
    assert xtrace("kb list").text.endswith("  a�[2Jb�c")
    assert "\x1b" not in xtrace(f"kb describe {kb_id}").text
    listed = xtrace("kb list --json")
    assert "\x1b" not in listed.out
    assert listed.json[0]["name"] == "a\x1b[2Jb\nc"


def test_what_cannot_be_is_one_sentence(xtrace: Terminal) -> None:
    xtrace("kb create ''").fails("name is empty")
    xtrace("kb describe nowhere").fails("knowledge base")
    xtrace("kb delete nowhere --yes").fails("knowledge base")
    usage = xtrace("kb describe")
    assert (usage.status, usage.out) == (2, "")
    assert usage.err.startswith("Usage: xtrace kb describe")
    assert "Missing argument 'KB...'" in usage.err
