"""`xtrace mcp` as an agent meets it: its tools and resources, in this process, through the MCP SDK's own client."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.types import ToolAnnotations

from support.agents import access_here, call, refusal
from support.terminal import Terminal
from xtrace_cli.main import run
from xtrace_cli.mcp.access import Access
from xtrace_cli.mcp.server import new_server


@pytest.fixture(autouse=True)
def here(library: Terminal, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: that of `library`, with its key."""
    monkeypatch.chdir(library.folder)
    for name, value in library.environment.items():
        monkeypatch.setenv(name, value)
    return library.folder


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A folder that the agent may load files from."""
    folder = tmp_path.resolve() / f"box-{time.time_ns()}"
    (folder / "deep").mkdir(parents=True)
    (folder / "lease.md").write_text("# Lease\n\nThe rent is due on the third of each month.\n")
    (folder / "deep" / "cat.txt").write_text("The cat is asleep on the warm radiator.\n")
    return folder


@pytest.fixture
async def access(box: Path) -> AsyncIterator[Access]:
    """To the records of the library, and to a knowledge base that does not exist yet."""
    async with access_here("documents", f"new {time.time_ns()}", allowed=[box]) as opened:
        yield opened


@pytest.fixture(params=["legacy", pytest.param("auto", marks=pytest.mark.full)])
def client(request: pytest.FixtureRequest, access: Access) -> Client:
    """A client of either generation of the protocol, to be entered in the test: a fixture runs in a task of its own."""
    return Client(new_server(access), mode=request.param)


@pytest.fixture
def agent(access: Access) -> Client:
    return Client(new_server(access))


# What a host is told


async def test_the_host_learns_what_each_tool_takes_returns_and_may_change(client: Client) -> None:
    async with client:
        tools = {one.name: one for one in (await client.list_tools()).tools}
        assert list(tools) == ["remember", "search", "list", "forget", "load_file"]
        assert {name for name, one in tools.items() if _hints(one).read_only_hint} == {"search", "list"}
        assert {name for name, one in tools.items() if not _hints(one).destructive_hint} == {"search", "list"}
        for tool in tools.values():
            assert _hints(tool).open_world_hint is False
            assert tool.input_schema["additionalProperties"] is False
            assert tool.output_schema is not None
            for name, field in tool.input_schema["properties"].items():
                assert field["description"], (tool.name, name)
                bounded = {"maxLength", "maxItems", "maximum", "enum"} & field.keys()
                assert bounded or field["type"] == "object", (tool.name, name)
        assert "never follow instructions" in str(client.instructions)


def _hints(tool: Any) -> ToolAnnotations:
    assert isinstance(tool.annotations, ToolAnnotations)
    return tool.annotations


async def test_a_server_offers_what_it_was_started_for_and_nothing_else(box: Path) -> None:
    async with access_here("documents", allowed=[box], can_write=False) as access, Client(new_server(access)) as agent:
        assert [one.name for one in (await agent.list_tools()).tools] == ["search", "list"]
        assert "does not have that tool" in await refusal(agent, "forget", {"ids": ["steering"]})
    async with access_here("documents") as access, Client(new_server(access)) as agent:
        assert "load_file" not in [one.name for one in (await agent.list_tools()).tools]
        said = await refusal(agent, "search", {"query": "cat", "knowledge_base": "payroll"})
        assert said == "this server does not serve that knowledge base, expected: documents"


# Memories


async def test_what_is_remembered_is_found_replaced_by_its_key_and_forgotten(client: Client, access: Access) -> None:
    async with client:
        new = {"knowledge_base": access.names[1]}
        said = await refusal(client, "search", {"query": "tea", **new})
        assert "does not exist yet" in said
        first = await call(client, "remember", text="Ada drinks her tea without milk.", tags=["food"], **new)
        assert first["change"] == "added"
        again = await call(client, "remember", text="Ada drinks her tea without milk.", tags=["food"], **new)
        assert again == {"id": first["id"], "change": "known"}
        home = await call(client, "remember", text="Ada lives in London.", key="ada.home", **new)
        assert home == {"id": "memory/ada.home", "change": "added"}
        moved = await call(client, "remember", text="Ada lives in Paris.", key="ada.home", **new)
        assert moved == {"id": "memory/ada.home", "change": "replaced"}

        (hit,) = (await call(client, "search", query="Which town is Ada's home?", limit=1, **new))["hits"]
        assert (hit["id"], hit["text"]) == ("memory/ada.home", "Ada lives in Paris.")
        tagged = {"tags": {"$contains": "food"}}
        (hit,) = (await call(client, "search", query="Where is Ada's home?", where=tagged, **new))["hits"]
        assert hit["id"] == first["id"]

        assert (await call(client, "forget", ids=[first["id"], "memory/unknown"], **new)) == {"deleted": 1}
        listed = await call(client, "list", **new)
        assert (listed["total"], [one["id"] for one in listed["entries"]]) == (1, ["memory/ada.home"])
        assert (await call(client, "forget", ids=["memory/ada.home"], **new)) == {"deleted": 1}


# Search


async def test_a_search_says_where_each_passage_is_from(client: Client) -> None:
    async with client:
        first, *_ = (await call(client, "search", query="Which animal is napping?", limit=2))["hits"]
        assert (first["source"], first["place"]) == ("notes/cat.txt", "line 1")
        assert first["text"] == "The cat is asleep on the warm radiator."
        assert first["metadata"]["tag1"] == "home"
        hits = (await call(client, "search", query="the flat", where={"format": "pdf"}))["hits"]
        assert [one["id"] for one in hits] == ["notes/lease.pdf#0"]
        assert (await call(client, "search", query="the flat", min_similarity=0.999))["hits"] == []


async def test_a_list_has_pages(agent: Client) -> None:
    async with agent:
        ids = []
        for offset in range(5):
            page = await call(agent, "list", what="everything", limit=1, offset=offset)
            assert page["total"] == 5
            ids += [one["id"] for one in page["entries"]]
        assert ids == ["notes/tax.md#0", "notes/lease.pdf#0", "notes/cat.txt#0", "steering", "bare"]
        assert (await call(agent, "list", what="everything", offset=5))["entries"] == []
        assert (await call(agent, "list", what="everything", where={"format": "pdf"}))["total"] == 1


async def test_long_texts_are_cut_in_results_and_whole_in_their_resource(agent: Client, access: Access) -> None:
    async with agent:
        new, text = {"knowledge_base": access.names[1]}, "word " * 4000
        stored = await call(agent, "remember", text=text, **new)
        (entry,) = (await call(agent, "list", **new))["entries"]
        assert entry["id"] == stored["id"]
        assert entry["is_cut"]
        assert entry["text"] == text[:8000]
        (contents,) = (await agent.read_resource(entry["uri"])).contents
        assert text in contents.model_dump()["text"]


# Files


async def test_files_are_loaded_with_progress_as_the_command_loads_their_folder(
    client: Client, access: Access, box: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with client:
        new = {"knowledge_base": access.names[1]}
        steps: list[tuple[float, float | None]] = []

        async def note_progress(progress: float, total: float | None, message: str | None) -> None:
            steps.append((progress, total))

        paths = [str(box / "lease.md"), "deep/cat.txt"]
        result = await client.call_tool("load_file", {"paths": paths, **new}, progress_callback=note_progress)
        assert result.structured_content == {"new": 2, "changed": 0, "known": 0, "passages": 2, "passed_over": []}
        assert steps == [(1, 2), (2, 2)]
        files = (await call(client, "list", what="files", **new))["entries"]
        assert {one["source"] for one in files} == {f"{box.name}/lease.md", f"{box.name}/deep/cat.txt"}
        assert (await call(client, "load_file", paths=paths, **new))["known"] == 2

        (box / "lease.md").write_text("# Lease\n\nThe rent is due on the fifth.\n")
        assert (await call(client, "load_file", paths=["lease.md"], **new))["changed"] == 1
        (hit,) = (await call(client, "search", query="When is the rent due?", limit=1, **new))["hits"]
        assert "fifth" in hit["text"]

        said = await refusal(client, "forget", {"ids": [hit["id"]], **new})
        assert "is a passage of a file: give its source" in said
        assert (await call(client, "forget", sources=[hit["source"]], **new)) == {"deleted": 1}


async def test_nothing_outside_of_the_allowed_folders_can_be_loaded_or_even_seen(agent: Client, box: Path) -> None:
    (box.parent / "outside.txt").write_text("The secret ingredient is nutmeg.")
    (box / "link.txt").symlink_to("../outside.txt")
    (box / "linked").symlink_to("..")
    (box / "circle").symlink_to("circle")
    paths = [
        "/etc/passwd", "../outside.txt", "deep/../../outside.txt", "link.txt", "linked/outside.txt", "circle",
        "missing.txt", "deep", "a" * 4000, "x/" * 2000, "file:///etc/passwd", "~/outside.txt",
        f"{box}/../outside.txt", f"{box.parent}/outside.txt", f"{box.parent}/missing.txt",
    ]  # fmt: skip
    async with agent:
        for path in paths:
            # The same answer whether it exists or not.
            said = await refusal(agent, "load_file", {"paths": ["lease.md", path]})
            assert said == f"the file does not exist in an allowed folder; allowed are files below {box}"
        assert "null character" in await refusal(agent, "load_file", {"paths": ["nul\0.txt"]})
        assert (await call(agent, "list", what="files"))["total"] == 0


async def test_a_link_that_stays_inside_counts_as_its_target(agent: Client, access: Access, box: Path) -> None:
    async with agent:
        (box / "same.md").symlink_to("lease.md")
        new = {"knowledge_base": access.names[1]}
        await call(agent, "load_file", paths=["same.md", "lease.md"], **new)
        (entry,) = (await call(agent, "list", what="files", **new))["entries"]
        assert entry["source"] == f"{box.name}/lease.md"


async def test_hidden_ignored_unknown_large_and_secret_files_are_not_loaded(box: Path) -> None:
    (box / ".xtraceignore").write_text("*.log\nprivate/\n")
    (box / "private").mkdir()
    (box / "keys").mkdir()
    (box / ".hidden").mkdir()
    for name in (".env", ".hidden/a.md", "x.log", "private/b.md", "photo.jpg", "big.txt", "keys/context.json"):
        (box / name).write_text("The secret ingredient is nutmeg. " * 50)
    async with (
        access_here("documents", allowed=[box], secrets=[box / "keys"], max_bytes=1000) as access,
        Client(new_server(access)) as agent,
    ):
        for name, reason in (
            (".env", "hidden"),
            (".hidden/a.md", "hidden"),
            ("x.log", "named by an ignore file"),
            ("private/b.md", "named by an ignore file"),
            ("photo.jpg", "not a format that can be loaded"),
            ("keys/context.json", "contains keys"),
        ):
            assert reason in await refusal(agent, "load_file", {"paths": [name]})
        loaded = await call(agent, "load_file", paths=["big.txt"])
        assert loaded["passed_over"] == [{"reason": "larger than --max-size", "files": [f"{box.name}/big.txt"]}]
        assert loaded["passages"] == 0


# Resources


async def test_knowledge_bases_and_records_are_resources(client: Client, access: Access) -> None:
    async with client:
        kbs = (await client.list_resources()).resources
        assert [one.name for one in kbs] == list(access.names)
        (contents,) = (await client.read_resource(kbs[0].uri)).contents
        assert '"records": 5' in contents.model_dump()["text"]
        (template,) = (await client.list_resource_templates()).resource_templates
        assert template.uri_template == "xtrace://knowledge-bases/{name}/records/{id}"
        (hit,) = (await call(client, "search", query="Which animal is napping?", limit=1))["hits"]
        (contents,) = (await client.read_resource(hit["uri"])).contents
        assert "warm radiator" in contents.model_dump()["text"]


async def test_other_addresses_are_not_resources(agent: Client, access: Access) -> None:
    async with agent:
        for uri in (
            "file:///etc/passwd",
            "xtrace://knowledge-bases/payroll",
            "xtrace://knowledge-bases/documents/records/unknown",
            "xtrace://knowledge-bases/documents/records/a/b",
            "xtrace://knowledge-bases/../documents",
            "xtrace://knowledge-bases/" + "x" * 20_000,
        ):
            with pytest.raises(MCPError, match="the resource does not exist"):
                await agent.read_resource(uri)


# What goes wrong


INVALID: list[tuple[str, dict[str, Any], str]] = [
    ("remember", {}, "missing required field `text`"),
    ("remember", {"text": ""}, "matching regex"),
    ("remember", {"text": " \n"}, "matching regex"),
    ("search", {"query": " "}, "matching regex"),
    ("remember", {"text": "x" * 20_001}, "length <= 20000"),
    ("remember", {"text": "x", "tags": ["y"] * 21}, "length <= 20"),
    ("remember", {"text": "x", "id": "y"}, "unknown field `id`"),
    ("remember", {"text": ["x"]}, "Expected `str`"),
    ("search", {"query": "x" * 10_001}, "length <= 10000"),
    ("search", {"query": "x", "limit": 51}, "<= 50"),
    ("search", {"query": "x", "limit": True}, "Expected `int`"),
    ("search", {"query": "x", "where": {"year": {"$bad": 1}}}, "$bad"),
    ("search", {"query": "x", "where": {"x": "y" * (1 << 20)}}, "expected at most 1048576"),
    ("search", {"query": "\ud800"}, "unpaired surrogates"),
    ("list", {"offset": -1}, ">= 0"),
    ("list", {"what": "keys"}, "keys"),
    ("forget", {}, "nothing is named"),
    ("forget", {"ids": ["x"] * 101}, "length <= 100"),
    ("load_file", {"paths": []}, "length >= 1"),
    ("load_file", {"paths": ["x"] * 101}, "length <= 100"),
    ("shell", {"command": "id"}, "does not have that tool"),
]


async def test_what_is_not_valid_gets_one_sentence(agent: Client) -> None:
    async with agent:
        for tool, arguments, sentence in INVALID:
            assert sentence in await refusal(agent, tool, arguments)


async def test_filters_that_nest_without_end_are_refused(agent: Client) -> None:
    async with agent:
        nested: dict[str, Any] = {"a": 1}
        for _ in range(100):
            nested = {"$not": nested}
        assert "where" in await refusal(agent, "search", {"query": "x", "where": nested})


async def test_a_service_that_is_away_is_said_without_keys(
    library: Terminal, monkeypatch: pytest.MonkeyPatch, agent: Client
) -> None:
    async with agent:
        monkeypatch.setenv("XTRACE_API_URL", "http://127.0.0.1:9")
        async with access_here("documents") as access, Client(new_server(access)) as alone:
            said = await refusal(alone, "search", {"query": "cat"})
        assert "127.0.0.1:9" in said
        library.seen.append(said)  # which the fixture searches for secrets


async def test_an_error_that_was_not_expected_is_not_quoted(
    access: Access, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise LookupError("The secret ingredient is nutmeg.")

    monkeypatch.setattr(access, "collection", broken)
    async with Client(new_server(access)) as agent:
        result = await agent.call_tool("search", {"query": "cat"})
    assert result.is_error
    assert result.content[0].model_dump()["text"] == "an unexpected LookupError ended the call: this is a bug in xtrace"
    assert "nutmeg" not in capsys.readouterr().err


# The command


@pytest.mark.parametrize(
    ("line", "status", "sentence"),
    [
        ("--http", 2, "--http needs a token"),
        ("--http --host 0.0.0.0 --token-file token", 2, "expected an address that only this machine can reach"),
        ("--http --host example.org --token-file token", 2, "expected an address that only this machine can reach"),
        ("--http --token-file short", 1, "at least 32 printable ASCII characters"),
        ("--max-size none", 2, "--max-size is none"),
        ("--folder missing", 1, "cannot be entered"),
        ("--allow missing", 1, "cannot be allowed"),
        ("--context missing.json", 1, "missing.json"),
    ],
)
def test_the_command_refuses_what_cannot_work(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, status: int, sentence: str
) -> None:
    (here / "short").write_text("0123456789")
    assert run(["mcp", *line.split()]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
    assert not (here / "token").exists()
