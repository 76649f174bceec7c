"""`xtrace db check` beside a server that runs."""

import json
from collections.abc import Iterator

import pytest

from support.databases import execute
from support.sealing import sealing_client
from support.service import Http, LiveService, running_service
from support.terminal import Terminal


@pytest.fixture(scope="module")
def live_service(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A server of this module's own, because its tests damage the database."""
    with running_service(tmp_path_factory.mktemp("damaged") / "data") as service:
        yield service


def test_a_database_is_checked_and_its_faults_are_listed(
    operator: Terminal, http: Http, live_service: LiveService
) -> None:
    sealing = sealing_client(http)
    damaged = sealing.seal(sealing.insert(4))
    sound = operator("db check")
    assert (sound.status, sound.out) == (0, "")
    assert "1 blocks were checked, 0 faults were found" in sound.err
    assert operator("db check --json").json["faults"] == []

    length = "SELECT length(body) FROM block_body WHERE pk = ?"
    ((size,),) = execute(live_service.folder, length, damaged)
    execute(live_service.folder, "UPDATE block_body SET body = ? WHERE pk = ?", bytes(size), damaged)
    found = operator("db check")
    sentence = "its body is damaged: it does not have the SHA-256 that was stored"
    assert (found.status, found.out) == (1, f"knowledge base {sealing.kb}, block {damaged}: {sentence}\n")
    assert "1 faults were found: see the section Damaged blocks of docs/operations.md" in found.err
    place = {"organisation_id": None, "kb_id": sealing.kb, "block_id": damaged}
    as_json = operator("db check --json")
    assert as_json.status == 1
    assert json.loads(as_json.out)["faults"] == [{"fault": sentence, **place}]


def test_without_a_database_there_is_one_clear_error(operator: Terminal) -> None:
    operator("db check --data nowhere").fails("no database was found in")
