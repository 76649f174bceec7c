"""`xtrace kb` against a real server."""

from support.service import Http, chunk
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
    assert (deleted.status, deleted.out, deleted.err) == (0, "", f"xtrace: deleted the knowledge base {kb_id}\n")
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


def test_deleting_asks_the_person_who_watches(xtrace: Terminal) -> None:
    kb_id = xtrace("kb create notes").text
    xtrace(f"kb delete {kb_id}").fails("cannot ask for confirmation when not interactive: add --yes", status=2)
    for answer in ("n", "", "yes, why not"):
        refused = xtrace.watched(f"kb delete {kb_id}", answer)
        assert (refused.status, refused.out) == (1, "")
        assert "with every chunk in it? [y/N] " in refused.err
        assert "not confirmed, so nothing was changed" in refused.err
    assert len(xtrace("kb list --json").json) == 1
    assert xtrace.watched(f"kb delete {kb_id}", "y").status == 0
    assert xtrace("kb list --json").json == []


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
    assert "Missing argument 'KB_ID'" in usage.err
