"""`xtrace org` on the host of a server that runs."""

import json
import stat

import pytest

from support.service import LiveService
from support.terminal import Terminal


def test_a_new_organisation_works_at_once(operator: Terminal, live_service: LiveService) -> None:
    created = operator("org create 'Research group'")
    lines = dict(line.split() for line in created.text.splitlines())
    assert list(lines) == ["org_id", "admin_key", "api_key", "api_url"]
    assert lines["api_url"] == live_service.url
    assert created.err == "xtrace: these keys will not be shown again\n"

    heading, *listed = operator("org list").text.splitlines()
    assert heading.split() == ["ID", "CREATED", "STATE", "CHUNKS", "BYTES", "CONTEXTS", "NAME"]
    (line,) = [line for line in listed if line.startswith(lines["org_id"])]
    assert line.split()[2:] == ["active", "0", "0", "0", "Research", "group"]

    keys = {f"XTRACE_{name.upper()}": value for name, value in lines.items()}
    assert operator("kb create notes", **keys).status == 0
    assert len(operator("kb list --json", **keys).json) == 1
    assert operator("context list --json", **keys).json == []


def test_the_credentials_can_go_to_a_file_that_only_its_owner_reads(operator: Terminal) -> None:
    created = operator("org create second --write keys.json --api-url https://xtrace.example.com")
    file = operator.folder / "keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    written = json.loads(file.read_text())
    assert created.text == written["org_id"]
    assert written["api_url"] == "https://xtrace.example.com"
    for secret in (written["admin_key"], written["api_key"]):
        assert secret not in created.out + created.err
    operator("org create third --write keys.json").fails("keys.json exists")
    assert json.loads(file.read_text()) == written


def test_the_same_as_json(operator: Terminal) -> None:
    created = operator("org create second --json").json
    assert set(created) == {"org_id", "admin_key", "api_key", "api_url"}
    written = operator("org create third --write keys.json --json").json
    assert written == {"org_id": written["org_id"], "credentials_file": "keys.json"}
    listed = operator("org list --json").json
    names = {"org_id", "name", "state", "created_at", "suspended_at", "deleted_at", "usage", "quotas"}
    assert all(set(one) == names for one in listed)
    assert listed[0]["name"] == "default"
    assert {created["org_id"], written["org_id"]} <= {one["org_id"] for one in listed}


def test_a_file_that_cannot_be_written_makes_no_organisation(operator: Terminal) -> None:
    before = ids_of(operator)
    (operator.folder / "file").touch()
    operator("org create lost --write file/keys.json").fails("cannot be written")
    assert ids_of(operator) == before


def ids_of(operator: Terminal) -> list[str]:
    return [one["org_id"] for one in operator("org list --json").json]


@pytest.mark.parametrize("command", ["org list", "org create x", "vacuum"])
def test_a_folder_without_a_database_gets_none(shell: Terminal, command: str) -> None:
    shell(f"{command} --data nowhere").fails("no database was found in")
    assert list(shell.folder.iterdir()) == []
    (shell.folder / "xtrace.db").write_bytes(b"anything else" * 100)
    shell(f"{command} --data .").fails("file is not a database")


def test_an_organisation_has_a_name(operator: Terminal) -> None:
    operator("org create ''").fails("the name is empty")


def test_an_organisation_that_lost_its_admin_key_gets_another(operator: Terminal) -> None:
    created = operator("org create careless --json").json
    issued = operator(f"org admin-key {created['org_id']} --json").json
    assert set(issued) == {"org_id", "admin_key", "api_url"}
    for key in (issued["admin_key"], created["admin_key"]):
        keys = {f"XTRACE_{name.upper()}": value for name, value in created.items()} | {"XTRACE_ADMIN_KEY": key}
        operator(f"kb create {key[:5]}", **keys)
    assert len(operator("kb list --json", **keys).json) == 2
    entries = operator("audit --json", **keys).json
    assert [entry["actor"] for entry in entries if entry["action"] == "admin_key.create"] == ["operator"]
    operator("org admin-key nobody").fails("the organisation 'nobody' does not exist")


def test_an_organisation_is_suspended_and_resumed(operator: Terminal) -> None:
    created = operator("org create late-payer --json").json
    keys = {f"XTRACE_{name.upper()}": value for name, value in created.items()}
    suspended = operator(f"org suspend {created['org_id']}")
    assert (suspended.out, suspended.err) == ("", f"xtrace: suspended {created['org_id']} (late-payer)\n")
    since = operator(f"org suspend {created['org_id']} --json").json["suspended_at"]
    assert since.endswith("Z")
    operator("kb list", **keys).fails("the organisation is suspended")
    operator("context list", **keys).fails("the organisation is suspended")
    (line,) = [line for line in operator("org list").text.splitlines() if created["org_id"] in line]
    assert line.split()[2:] == ["suspended", "0", "0", "0", "late-payer"]
    assert operator(f"org resume {created['org_id']} --json").json["suspended_at"] is None
    assert operator("kb list --json", **keys).json == []
    for command in ("suspend", "resume"):
        operator(f"org {command} nobody").fails("the organisation 'nobody' does not exist")


def test_quotas_are_set_shown_and_hold(operator: Terminal) -> None:
    created = operator("org create tenant --json").json
    org, keys = created["org_id"], {f"XTRACE_{name.upper()}": value for name, value in created.items()}
    shown = operator(f"org quota {org} --chunks 1000 --bytes 2GiB --requests-per-day 0 --json").json
    assert shown["quotas"] == {
        "chunks": 1000,
        "bytes": 2 * 2**30,
        "contexts": None,
        "requests_per_minute": None,
        "requests_per_day": 0,
    }
    assert operator(f"org show {org} --json").json == shown
    operator("context list", **keys).fails("the organisation has used its 0 requests of this day")
    own = dict(line.split() for line in operator("usage", **keys).text.splitlines())
    assert (own["org_id"], own["chunks"], own["requests_today"]) == (org, "0/1000", "0/0")
    assert operator("usage --json", **keys).json["quotas"]["chunks"] == 1000
    changed = dict(line.split() for line in operator(f"org quota {org} --bytes none --contexts 0").text.splitlines())
    assert changed["chunks"] == "0/1000"
    assert changed["bytes"] == "0"
    assert changed["contexts"] == "0/0"
    assert (changed["requests_this_minute"], changed["requests_today"]) == ("0", "0/0")
    (line,) = [line for line in operator("org list").text.splitlines() if line.startswith(org)]
    assert line.split()[2:] == ["active", "0/1000", "0", "0/0", "tenant"]
    operator(f"org quota {org} --bytes 10GB").fails("a quota is not valid", status=2)
    operator("org quota nobody --chunks 1").fails("the organisation 'nobody' does not exist")


def test_an_organisation_is_deleted(operator: Terminal) -> None:
    created = operator("org create 'short lived' --json").json
    org, keys = created["org_id"], {f"XTRACE_{name.upper()}": value for name, value in created.items()}
    assert operator("kb create notes", **keys).status == 0
    operator(f"org delete {org}").fails("add --yes", status=2)
    refused = operator.watched(f"org delete {org}", "n")
    assert f"Delete the organisation {org} (short lived) with 0 chunks in 1 knowledge bases? [y/N] " in refused.err
    assert refused.status == 1
    assert len(operator("kb list --json", **keys).json) == 1
    deleted = operator(f"org delete {org} --yes")
    assert (deleted.out, deleted.err) == ("", f"xtrace: deleted {org} (short lived)\n")
    operator("kb list", **keys).fails("the admin key is wrong")
    operator(f"org delete {org} --yes").fails(f"the organisation '{org}' does not exist")
    # The server carries it out, and until then it is listed as what it is.
    while left := [one for one in operator("org list --json").json if one["org_id"] == org]:
        assert left[0]["deleted_at"].endswith("Z")
    assert operator(f"operator audit --org {org} --json").json[0]["action"] == "organisation.delete"
