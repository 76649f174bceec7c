"""`xtrace audit`."""

import json

from support.terminal import Terminal


def test_changes_are_listed_the_newest_first(xtrace: Terminal) -> None:
    kb = xtrace("kb create notes").out.strip()
    assert xtrace(f"kb delete {kb} --yes").status == 0
    heading, newest, before, *_ = xtrace("audit").out.splitlines()
    assert heading.split() == ["ID", "TIME", "ACTION", "COUNT", "KEY", "SUBJECT", "DETAIL"]
    assert "knowledge_base.delete" in newest
    assert "0 chunks" in newest
    assert "knowledge_base.create" in before
    assert kb in newest
    assert kb in before


def test_as_json_it_goes_back_page_by_page(xtrace: Terminal) -> None:
    for name in ("one", "two", "three"):
        xtrace(f"kb create {name}")
    first = json.loads(xtrace("audit --json --limit 2").out)
    following = json.loads(xtrace(f"audit --json --limit 1 --before {first[-1]['id']}").out)
    assert [entry["action"] for entry in first + following] == ["knowledge_base.create"] * 3
    assert len({entry["id"] for entry in first + following}) == 3


def test_it_needs_the_admin_key(shell: Terminal) -> None:
    shell.environment |= {"XTRACE_API_URL": "http://127.0.0.1:9", "XTRACE_ORG_ID": "org"}
    shell("audit").fails("admin key", 2)
