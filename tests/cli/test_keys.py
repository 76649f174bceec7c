"""`xtrace keys` against a real server: what was granted holds there."""

import pytest

from support.service import Http
from support.terminal import Terminal


def test_a_key_from_its_creation_to_its_end(xtrace: Terminal, http: Http) -> None:
    kb_id = xtrace("kb create notes").text
    created = xtrace("keys create reader --description 'for the search page'")
    secret = created.text
    assert len(secret) == 46
    assert secret.isalnum()
    assert created.err.endswith(f"xtrace keys grant {secret[:5]} KB_ID read\n")

    heading, default, reader = xtrace("keys list").text.splitlines()
    assert heading.split() == ["KEY", "CREATED", "LAST", "USED", "EXPIRES", "HASH", "NAME"]
    assert default.endswith("  default")
    assert reader.split()[0] == secret[:5]
    assert reader.split()[2:4] == ["never", "never"]
    assert reader.endswith("  reader")
    assert secret not in xtrace("keys list --json").out

    def may_read() -> bool:
        answer = http.data("GET", "/chunk/{org}", params={"kb_id": kb_id}, headers={"x-api-key": secret})
        return answer.status_code == 200

    assert not may_read()
    granted = xtrace(f"keys grant {secret[:5]} {kb_id} read")
    assert (granted.status, granted.out) == (0, "")
    assert granted.err == f"xtrace: the key {secret[:5]}… now has this permission in {kb_id}: read\n"
    assert may_read()
    revoked = xtrace(f"keys revoke {secret[:5]} --yes")
    assert (revoked.out, revoked.err) == ("", f"xtrace: revoked the key {secret[:5]}… (reader)\n")
    assert not may_read()
    assert len(xtrace("keys list").text.splitlines()) == 2


def test_the_same_as_json(xtrace: Terminal) -> None:
    kb_id = xtrace("kb create notes").text
    created = xtrace("keys create writer --json").json
    assert set(created) == {"apiKey", "secretKey"}
    key = created["apiKey"]
    assert set(key) == {"hash", "firstN", "name", "description", "createdAt", "lastUsedAt", "expiresAt"}
    assert created["secretKey"].startswith(key["firstN"])
    assert key in xtrace("keys list --json").json
    granted = xtrace(f"keys grant {key['hash']} {kb_id} write --json").json
    assert granted == {"hash": key["hash"], "knowledgeBaseId": kb_id, "permission": 3}
    assert xtrace(f"keys revoke {key['hash']} --yes --json").json == {"hash": key["hash"], "revoked": True}
    assert key not in xtrace("keys list --json").json


def test_a_key_is_renamed_and_expires_when_it_is_told_to(xtrace: Terminal) -> None:
    first = xtrace("keys create reader --description old").text[:5]
    assert xtrace(f"keys edit {first} --name searcher --expires 2099-01-31").err == (
        f"xtrace: the key {first}… (searcher) expires at 2099-01-31T00:00:00.000000Z\n"
    )
    key = xtrace(f"keys edit {first} --expires never --json").json
    assert (key["name"], key["description"], key["expiresAt"]) == ("searcher", "old", None)
    assert key in xtrace("keys list --json").json
    xtrace(f"keys edit {first}").fails("nothing to change: use --name, --description or --expires", status=2)
    xtrace(f"keys edit {first} --expires soon").fails("--expires is not valid", status=2)
    xtrace(f"keys edit {first} --expires 2020-01-01").fails("has passed")


@pytest.mark.parametrize(("level", "permission"), [("none", 0), ("read", 1), ("write", 3), ("all", 7)])
def test_each_level_is_the_permission_that_the_service_knows(
    xtrace: Terminal, http: Http, level: str, permission: int
) -> None:
    kb_id = xtrace("kb create notes").text
    key = xtrace("keys create someone --json").json["apiKey"]
    assert xtrace(f"keys grant {key['firstN']} {kb_id} {level} --json").json["permission"] == permission
    stored = http.control("GET", f"/keys/{key['hash']}/permissions").json()
    assert stored == ([{"knowledgeBaseId": kb_id, "permission": permission}] if permission else [])


def test_revoking_asks_and_says_which_key(xtrace: Terminal) -> None:
    key = xtrace("keys create reader --json").json["apiKey"]
    xtrace(f"keys revoke {key['firstN']}").fails("add --yes", status=2)
    refused = xtrace.watched(f"keys revoke {key['firstN']}", "n")
    assert f"Revoke the key {key['firstN']}… (reader)? [y/N] " in refused.err
    assert refused.status == 1
    assert key in xtrace("keys list --json").json


def test_a_whole_key_given_by_mistake_is_not_repeated(xtrace: Terminal) -> None:
    kb_id = xtrace("kb create notes").text
    secret = xtrace("keys create reader").text
    for line in (f"keys revoke {secret} --yes", f"keys grant {secret} {kb_id} all"):
        refused = xtrace(line)
        refused.fails("no API key of this organisation has the hash or the first five characters")
        assert secret not in refused.err


def test_what_cannot_be_is_one_sentence(xtrace: Terminal) -> None:
    key = xtrace("keys create reader --json").json["apiKey"]["firstN"]
    xtrace(f"keys grant {key} nowhere read").fails("knowledge base")
    xtrace("keys revoke ????? --yes").fails("no API key")
    usage = xtrace(f"keys grant {key} kb everything")
    assert usage.status == 2
    assert "'everything' is not one of 'none', 'read', 'write', 'delete', 'all'" in usage.err


def test_a_key_expires_when_it_is_told_to(xtrace: Terminal) -> None:
    moment = xtrace("keys create guest --expires 2100-01-31T12:00+02:00 --json").json["apiKey"]["expiresAt"]
    assert moment == "2100-01-31T10:00:00.000000Z"
    assert moment in xtrace("keys list").text
    xtrace("keys create guest --expires tomorrow").fails("--expires is not valid", status=2)
    xtrace("keys create guest --expires 2001-01-01").fails("which has passed")
    assert [key["name"] for key in xtrace("keys list --json").json] == ["default", "guest"]
