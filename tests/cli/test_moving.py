"""`xtrace export` and `xtrace import`: a knowledge base moves to another server and answers there as it did here."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.test_backup import answers
from contract.test_rotation import COUNT, load, new_context
from support.recount import recounted
from support.service import Http, LiveService, chunk, ok, running_service
from support.terminal import Result, Terminal
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_server.credentials import Credentials


@dataclass
class Servers:
    """Two servers, and a shell on the host of both."""

    here: LiveService
    there: LiveService
    shell: Terminal

    def at(self, service: LiveService, line: str) -> Result:
        return self.shell(line, XTRACE_DATA=str(service.folder))


@pytest.fixture
def servers(tmp_path: Path, shell: Terminal) -> Iterator[Servers]:
    with running_service(tmp_path / "here") as here, running_service(tmp_path / "there") as there:
        yield Servers(here, there, shell)


async def filled(credentials: Credentials, context: object) -> str:
    """A knowledge base with everything that the client stores."""
    async with integration(credentials) as xtrace:
        kb_id = (await xtrace.create_kb("texts", "described")).id
        await load(context, xtrace, kb_id)  # type: ignore[arg-type]
    return kb_id


def integration(credentials: Credentials) -> XTraceIntegration:
    return XTraceIntegration(credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url)


def tables(service: LiveService) -> dict[str, int]:
    """How many rows each table has, but the audit log."""
    with closing(sqlite3.connect(service.folder / "xtrace.db")) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}  # noqa: S608
    del counts["audit"], counts["sqlite_sequence"]
    return counts


def wait_until_deleted(service: LiveService) -> None:
    """Returns when no knowledge base is left, not even one whose deletion is being carried out."""
    while tables(service)["knowledge_base"]:
        time.sleep(0.05)


async def test_a_moved_knowledge_base_answers_searches_as_it_did(servers: Servers) -> None:
    context = new_context()
    credentials, others = servers.here.first_credentials, servers.there.first_credentials
    kb_id = await filled(credentials, context)
    http = Http(credentials)
    http.data("DELETE", "/chunk/{org}", params={"kb_id": kb_id, "chunk_ids": [3, 60]})
    before = ok(http.control("GET", f"/kbs/{kb_id}"))
    searched = await answers(credentials, kb_id, context)
    http.close()
    exported = servers.at(servers.here, f"export {kb_id} kb.tar --json").json
    assert exported["rows"] > 3 * (COUNT - 2)

    http = Http(others)
    http.new_kb()  # so that the numbers differ
    imported = servers.at(servers.there, "import kb.tar --json").json
    assert imported == {"kb_id": kb_id, "chunks": COUNT - 2}
    assert ok(http.control("GET", f"/kbs/{kb_id}")) == before
    assert await answers(others, kb_id, context) == searched
    entry = ok(http.control("GET", "/audit", params={"limit": 1}))[0]
    assert (entry["action"], entry["subject"]) == ("knowledge_base.import", kb_id)
    async with integration(others) as xtrace:
        again = await load(context, xtrace, kb_id)  # recognises by name what came along
        assert sorted(again) == sorted({*range(1, COUNT + 3)} - {3, 60})
    http.close()
    assert servers.at(servers.there, "org list --json").json[-1]["org_id"] == others.org_id


async def test_an_export_says_nothing_of_the_organisation_and_its_keys(servers: Servers) -> None:
    credentials = servers.here.first_credentials
    kb_id = await filled(credentials, new_context())
    http = Http(credentials)
    http.insert(http.new_kb(), [chunk(1, name="of another")], http.save_context())
    http.close()
    assert servers.at(servers.here, f"export {kb_id} kb.tar").status == 0
    archive = (servers.shell.folder / "kb.tar").read_bytes()
    with closing(sqlite3.connect(servers.here.folder / "xtrace.db")) as connection:
        hashes = [hash_ for (hash_,) in connection.execute("SELECT hash FROM api_key UNION SELECT hash FROM admin_key")]
    for secret in (credentials.org_id, credentials.api_key, credentials.admin_key, *hashes, "of another"):
        assert secret.encode() not in archive


async def test_imports_that_cannot_be_are_one_sentence_and_leave_nothing(servers: Servers) -> None:
    kb_id = await filled(servers.here.first_credentials, new_context())
    assert servers.at(servers.here, f"export {kb_id} kb.tar").status == 0
    assert servers.at(servers.here, "backup all.tar").status == 0
    before = tables(servers.there)
    there = {
        "import all.tar": "it is not an export but a backup",
        "import nowhere.tar": "nowhere.tar cannot be used: No such file",
        "import kb.tar --org nobody": "the organisation 'nobody' does not exist",
        "restore kb.tar --data new": "it is not a backup but an export",
        "export nothing other.tar": "nothing",
    }
    for line, sentence in there.items():
        servers.at(servers.there, line).fails(sentence)
    servers.at(servers.here, "import kb.tar").fails(f"the knowledge base {kb_id} exists already")
    servers.at(servers.here, f"export {kb_id} kb.tar").fails("kb.tar exists: name a new file")
    sound = (servers.shell.folder / "kb.tar").read_bytes()
    for position in range(0, len(sound), len(sound) // 3):
        flipped = bytearray(sound)
        flipped[position] ^= 1
        (servers.shell.folder / "kb.tar").write_bytes(flipped)
        servers.at(servers.there, "import kb.tar").fails("kb.tar cannot be used: it")
    servers.there.new_organisation()
    (servers.shell.folder / "kb.tar").write_bytes(sound)
    servers.at(servers.there, "import kb.tar").fails("several organisations: name one with --org")
    after = tables(servers.there)
    assert {name: count for name, count in after.items() if count != before[name]} == {
        name: after[name] for name in ("organisation", "request_count", "admin_key", "api_key")
    }
    assert sum(tables(servers.here)[name] for name in ("organisation", "knowledge_base")) == 2


async def test_an_import_counts_as_stored_and_does_not_exceed_a_quota(servers: Servers) -> None:
    context = new_context()
    kb_id = await filled(servers.here.first_credentials, context)
    assert servers.at(servers.here, f"export {kb_id} kb.tar").status == 0
    org = servers.there.first_credentials.org_id
    before = tables(servers.there)
    for quota in (f"--chunks {COUNT - 1}", "--bytes 5KiB --chunks none", "--contexts 0 --bytes none"):
        assert servers.at(servers.there, f"org quota {org} {quota}").status == 0
        servers.at(servers.there, "import kb.tar").fails("kb.tar cannot be imported: the organisation may store ")
        assert tables(servers.there) == before
    assert servers.at(servers.there, f"org quota {org} --chunks {COUNT} --contexts 1").status == 0
    assert servers.at(servers.there, "import kb.tar").status == 0
    usage = servers.at(servers.there, f"org show {org} --json").json["usage"]
    counted = recounted(servers.there.folder, org)
    assert {name: usage[name] for name in counted} == counted
    assert (counted["chunks"], counted["contexts"]) == (COUNT, 1)
    # A context that is there already does not count again.
    http = Http(servers.there.first_credentials)
    ok(http.control("DELETE", f"/kbs/{kb_id}"))
    wait_until_deleted(servers.there)
    assert servers.at(servers.there, "import kb.tar").status == 0
    assert recounted(servers.there.folder, org) == counted
    usage = servers.at(servers.there, f"org show {org} --json").json["usage"]
    assert {name: usage[name] for name in counted} == counted
    http.close()
