"""`xtrace operator`, and admin keys with `xtrace org`, on the host of a server that runs."""

from pathlib import Path

import httpx2
import pytest

from support.service import running_service
from support.terminal import Terminal
from xtrace_server.auth.keys import hash_key


def keys_of(created: dict[str, str]) -> dict[str, str]:
    return {f"XTRACE_{name.upper()}": value for name, value in created.items()}


def test_the_operator_key_is_replaced(shell: Terminal, tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:

        def opens(key: str) -> bool:
            headers = {"x-xtrace-operator-key": key}
            return httpx2.get(f"{service.url}/api/v1/operator/organisations", headers=headers).status_code == 200

        (first,) = service.operator_headers.values()
        shell("operator rotate-key --data data").fails("add --yes", status=2)
        assert opens(first)
        rotated = shell("operator rotate-key --data data --yes --json").json
        assert rotated == {"operator_key": rotated["operator_key"], "api_url": service.url}
        assert opens(rotated["operator_key"])
        assert not opens(first)
        plain = shell("operator rotate-key --data data --yes")
        assert dict(line.split() for line in plain.text.splitlines())["operator_key"] != rotated["operator_key"]
        assert plain.err == "xtrace: this key will not be shown again\n"
        entries = shell("operator audit --data data --json").json
        assert [one["action"] for one in entries][-1] == "operator_key.create"
        assert [one["subject"] for one in entries if one["action"] == "operator_key.rotate"][-1] == hash_key(
            rotated["operator_key"]
        )
        heading, *lines = shell("operator audit --data data --limit 1").text.splitlines()
        assert heading.split() == ["ID", "TIME", "ACTION", "COUNT", "KEY", "SUBJECT", "DETAIL"]
        assert len(lines) == 1


def test_the_operator_reads_the_log_of_an_organisation(operator: Terminal) -> None:
    created = operator("org create tenant --json").json
    own = operator("audit --json", **keys_of(created)).json
    assert own
    assert operator(f"operator audit --org {created['org_id']} --json").json == own
    operator("operator audit --org nobody").fails("the organisation 'nobody' does not exist")


def test_an_admin_key_is_rotated(operator: Terminal) -> None:
    created = operator("org create tenant --json").json
    org = created["org_id"]
    operator(f"org admin-key {org} --rotate").fails("add --yes", status=2)
    assert operator("kb list", **keys_of(created)).status == 0
    rotated = operator(f"org admin-key {org} --rotate --yes --json").json
    operator("kb list", **keys_of(created)).fails("the admin key is wrong")
    assert operator("kb list", **keys_of(created) | keys_of(rotated)).status == 0
    assert [one["hash"] for one in operator(f"org admin-keys {org} --json").json] == [hash_key(rotated["admin_key"])]
    operator("org admin-key nobody --rotate --yes").fails("the organisation 'nobody' does not exist")


def test_an_admin_key_is_revoked(operator: Terminal) -> None:
    created = operator("org create tenant --json").json
    org, key_hash = created["org_id"], hash_key(created["admin_key"])
    heading, line = operator(f"org admin-keys {org}").text.splitlines()
    assert heading.split() == ["HASH", "CREATED"]
    assert line.startswith(key_hash)
    operator(f"org revoke-admin-key {org} {key_hash}").fails("add --yes", status=2)
    operator(f"org revoke-admin-key {org} {created['admin_key']} --yes").fails("no admin keys match this hash")
    operator(f"org revoke-admin-key {org} '' --yes").fails("no admin keys match this hash")
    second = operator(f"org admin-key {org} --json").json["admin_key"]
    revoked = operator(f"org revoke-admin-key {org} {key_hash[:12]} --yes")
    assert (revoked.out, revoked.err) == ("", f"xtrace: revoked the admin key {key_hash[:12]}…; 1 left\n")
    operator("kb list", **keys_of(created)).fails("the admin key is wrong")
    last = operator(f"org revoke-admin-key {org} {hash_key(second)} --yes --json").json
    assert last == {"hash": hash_key(second), "left": 0}
    # Its API keys go on working.
    assert operator("context list --json", **keys_of(created)).json == []


@pytest.mark.parametrize("command", ["operator rotate-key --yes", "operator audit", "org admin-keys x"])
def test_a_folder_without_a_database_gets_none(shell: Terminal, command: str) -> None:
    shell(f"{command} --data nowhere").fails("no database was found in")
    assert list(shell.folder.iterdir()) == []


def test_the_operators_api_is_switched_off(shell: Terminal) -> None:
    with shell.start("serve --data data --port 0 --no-operator-api") as server:
        server.wait_for("serving on", error=True)
        assert not (shell.folder / "data" / "operator.json").exists()
        assert server.stop().status == 0
