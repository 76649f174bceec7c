"""What an agent remembers, loads, looks for and forgets is nowhere in what the service receives or stores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mcp import Client

from support.agents import access_here, call
from support.library import KEY_FILE, furnish
from support.recording_proxy import found, recording_proxy
from support.service import LiveService, running_service
from xtrace_cli.mcp.server import new_server
from xtrace_server.credentials import CREDENTIALS_FILE, write_credentials

VISIBLE = "a name that everybody may see"
MARKS = {
    "text": "Quetzalcoatl owes the bank eleven million",
    "newer text": "Quetzalcoatl has paid in Popayán gold",
    "key": "Schwippschwager-4711",
    "tag": "Mitwisserschaft",
    "folder": "Buchhaltungsabteilung",
    "file": "Kreditwürdigkeit",
    "heading": "Ratingagenturflüsterer",
    "text of the file": "Brontosaurus paid the ransom in full",
    "question": "Who is in debt, Nebuchadnezzar?",
    "value that is looked for": "Schuldnerverzeichnis",
    "id that is forgotten": "Kaventsmann-0815",
}


@pytest.fixture
def service(tmp_path: Path, made_keys: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveService]:
    """A server of its own, beside a working folder that has the keys and a file to load."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XTRACE_KEY_FILE", KEY_FILE)
    (tmp_path / MARKS["folder"]).mkdir()
    text = f"# {MARKS['heading']}\n\n{MARKS['text of the file']}.\n"
    (tmp_path / MARKS["folder"] / f"{MARKS['file']}.md").write_text(text)
    with running_service(tmp_path / "service") as running:
        furnish(tmp_path, running.first_credentials, made_keys, [])
        yield running


async def test_nothing_of_a_session_is_found_at_the_service(service: LiveService, tmp_path: Path) -> None:
    async with recording_proxy(service.url) as recording:
        write_credentials(
            tmp_path / "xtrace-data" / CREDENTIALS_FILE,
            msgspec.structs.replace(service.first_credentials, api_url=recording.url),
        )
        async with (
            access_here(VISIBLE, allowed=[tmp_path / MARKS["folder"]]) as access,
            Client(new_server(access)) as agent,
        ):
            await use_every_tool(agent)
        wire = bytes(recording.data)
    disk = b"".join(path.read_bytes() for path in (tmp_path / "service").rglob("*") if path.is_file())
    assert b"content-encoding" not in wire.lower()  # compressed, it would hide what is looked for
    for seen in (wire, disk):
        assert found({"visible": VISIBLE.encode()}, seen)[:1] == ["visible (raw)"]
        assert found({name: text.encode() for name, text in MARKS.items()}, seen) == []


async def use_every_tool(agent: Client) -> None:
    key, tag = MARKS["key"], MARKS["tag"]
    for text in (MARKS["text"], MARKS["newer text"]):
        await call(agent, "remember", text=text, key=key, tags=[tag])
    loaded = await call(agent, "load_file", paths=[f"{MARKS['file']}.md"])
    assert loaded["passages"] == 1
    filters: list[dict[str, Any]] = [
        {},
        {"tags": {"$contains": tag}},
        {"heading": {"$ne": MARKS["value that is looked for"]}},
    ]
    for where in filters:
        assert (await call(agent, "search", query=MARKS["question"], where=where))["hits"]
    (entry,) = (await call(agent, "list", what="files"))["entries"]
    await agent.read_resource(entry["uri"])
    assert await call(agent, "forget", ids=[f"memory/{MARKS['id that is forgotten']}"]) == {"deleted": 0}
    assert await call(agent, "forget", sources=[entry["source"]]) == {"deleted": 1}
