"""`xtrace mcp` over both transports: the SDK's client with a real server, and who is refused."""

import asyncio
import json
import os
import signal
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from support.agents import access_here, call
from support.service import NO_AUTHORITIES
from support.terminal import COMMAND, Terminal
from xtrace_cli.mcp.guard import Guard
from xtrace_cli.mcp.server import new_server
from xtrace_cli.mcp.serving import MAX_BODY_BYTES, HttpServer, address_of, guarded
from xtrace_server.listening import listen

TOKEN = "a-token-of-more-than-32-characters-0123456789"
HOST = "127.0.0.1:8765"
ADDRESS = f"http://{HOST}/mcp"
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
HEADERS = {
    "authorization": f"Bearer {TOKEN}",
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
}


@pytest.fixture(autouse=True)
def here(library: Terminal, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: that of `library`, with its key."""
    monkeypatch.chdir(library.folder)
    for name, value in library.environment.items():
        monkeypatch.setenv(name, value)
    return library.folder


# HTTP


@asynccontextmanager
async def http_server() -> AsyncIterator[str]:
    """A real server on a free port of this machine; its address."""
    async with access_here("documents") as access:
        with listen("127.0.0.1", 0) as listener:
            server = HttpServer(guarded(new_server(access), "127.0.0.1", listener.getsockname()[1], TOKEN))
            task = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield address_of(listener)
            finally:
                server.should_exit = True
                await task


@pytest.mark.parametrize("mode", ["legacy", pytest.param("auto", marks=pytest.mark.full)])
async def test_the_client_of_the_sdk_works_over_http(mode: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with (
        http_server() as url,
        httpx2.AsyncClient(headers=headers, verify=NO_AUTHORITIES) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as agent,
    ):
        (hit,) = (await call(agent, "search", query="Which animal is napping?", limit=1))["hits"]
        assert hit["source"] == "notes/cat.txt"
        assert [one.name for one in (await agent.list_resources()).resources] == ["documents"]


@asynccontextmanager
async def application() -> AsyncIterator[httpx2.AsyncClient]:
    """A plain client of the application, as it stands behind `HOST`."""
    async with access_here("documents") as access:
        server = new_server(access)
        app = guarded(server, "127.0.0.1", 8765, TOKEN)
        transport = httpx2.ASGITransport(app=app)
        async with server.session_manager.run(), httpx2.AsyncClient(transport=transport, headers=HEADERS) as http:
            yield http


async def test_only_the_holder_of_the_token_on_this_machine_is_served() -> None:
    refused: list[tuple[dict[str, str], int]] = [
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": f"Bearer {'x' * 10_000}"}, 401),
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:8765"}, 421),
        ({"host": "127.0.0.1"}, 421),
        ({"host": "127.0.0.1:8765.evil.example"}, 421),
        ({"host": "127.0.0.1:80"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:80"}, 403),
        ({"origin": f"http://{HOST}.evil.example"}, 403),
    ]
    async with application() as http:
        for headers, status in refused:
            for method in ("POST", "GET", "DELETE"):
                answer = await http.request(method, ADDRESS, json=HELLO, headers=headers)
                assert (answer.status_code, TOKEN in answer.text) == (status, False), headers
        for headers in ({}, {"origin": f"http://{HOST}"}, {"host": "localhost:8765"}):
            answer = await http.post(ADDRESS, json=HELLO, headers=headers)
            assert answer.status_code == 200, headers
            assert '"serverInfo"' in answer.text


async def test_two_headers_of_one_name_are_not_one_of_them() -> None:
    async with application() as http:
        for name, values, status in (
            ("authorization", ("Bearer wrong", HEADERS["authorization"]), 401),
            ("host", (HOST, "evil.example"), 421),
            ("origin", (f"http://{HOST}", "https://evil.example"), 403),
        ):
            others = [(key, value) for key, value in HEADERS.items() if key != name]
            request = http.build_request("POST", ADDRESS, json=HELLO)
            request.headers = httpx2.Headers([*others, *((name, value) for value in values)])
            if name != "host":
                request.headers["host"] = HOST
            assert (await http.send(request)).status_code == status, name


async def test_bodies_that_are_too_large_or_not_json_are_refused() -> None:
    async with application() as http:
        for content, status in (
            (b"x" * (MAX_BODY_BYTES + 1), 413),
            (b"{", 400),
            (b"\xff\xfe", 400),
            (b"[" * 100_000, 400),
            (json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call"}).encode(), 400),
        ):
            answer = await http.post(ADDRESS, content=content)
            assert answer.status_code == status, (content[:10], answer.text)
            assert "Traceback" not in answer.text


def test_the_guard_shows_no_token() -> None:
    async def app(*_: Any) -> None: ...

    assert TOKEN not in repr(Guard(app, TOKEN, [HOST]))


# Processes


def host_of(library: Terminal, *arguments: str) -> StdioServerParameters:
    """As the configuration of a host says it: a command that is started in any folder."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("XTRACE_")}
    folder = str(library.folder)
    return StdioServerParameters(
        command=COMMAND,
        args=["mcp", "--folder", folder, *arguments],
        env={**plain, **library.environment},
        cwd="/",
    )


@pytest.mark.full
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_client_of_the_sdk_works_over_standard_input_and_output(
    library: Terminal, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "lease.md").write_text("# Lease\n\nThe rent is due on the third of each month.\n")
    (tmp_path / "paper.pdf").write_bytes(b"not a PDF")
    async with Client(host_of(library, "--kb", f"new {mode}", "--allow", str(tmp_path)), mode=mode) as agent:
        await call(agent, "remember", text="Ada drinks her tea without milk.")
        loaded = await call(agent, "load_file", paths=["lease.md", "paper.pdf"])
        assert (loaded["new"], len(loaded["passed_over"])) == (1, 1)
        (hit,) = (await call(agent, "search", query="When is the rent due?", limit=1))["hits"]
        assert "third" in hit["text"]


def test_standard_output_has_nothing_but_protocol_and_the_server_ends_with_its_input(library: Terminal) -> None:
    host = host_of(library)
    lines = [
        HELLO,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "search", "arguments": {"query": ""}}},
        {"jsonrpc": "2.0", "id": 3, "method": "nonsense"},
    ]
    with subprocess.Popen(
        [host.command, *host.args],
        cwd="/",
        env=host.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n".join(["this is not JSON", *map(json.dumps, lines), ""]))
        process.stdin.flush()
        answered = [process.stdout.readline() for _ in range(3)]
        rest, noted = process.communicate(timeout=60)
    assert (process.returncode, rest, noted) == (0, "", "")
    answers = {one["id"]: one for one in map(json.loads, answered)}
    assert answers[1]["result"]["serverInfo"]["name"] == "xtrace"
    assert answers[2]["result"]["isError"] is True
    assert "error" in answers[3]
    library.seen += answered


@pytest.mark.full
def test_a_wrong_start_is_one_sentence_on_standard_error(library: Terminal) -> None:
    library("mcp --allow missing").fails("cannot be allowed")
    done = subprocess.run(
        [COMMAND.replace("xtrace", "xtrace-mcp"), "--http"],
        cwd=library.folder,
        env=library._environment({}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "--http needs a token" in done.stderr


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_serves_http_until_a_signal(library: Terminal, number: signal.Signals) -> None:
    token_file = library.folder / f"token-{number}"
    with library.start(f"mcp --http --port 0 --token-file {token_file.name}") as running:
        lines = await asyncio.to_thread(running.wait_for, "serving MCP on ", error=True)
        assert f"created a token for hosts in {token_file.name}" in lines
        token = token_file.read_text().strip()
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        url = lines.rpartition("serving MCP on ")[2].strip()
        async with (
            httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, verify=NO_AUTHORITIES) as http,
            Client(streamable_http_client(url, http_client=http)) as agent,
        ):
            assert len((await agent.list_tools()).tools) == 4
        result = await asyncio.to_thread(running.stop, number)
    assert result.status == 130
    assert token not in lines + result.err


@pytest.mark.full
def test_a_host_can_end_the_process_while_it_waits_for_input(library: Terminal) -> None:
    host = host_of(library)
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(
            [host.command, *host.args], cwd="/", env=host.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(HELLO).encode() + b"\n")
            process.stdin.flush()
            assert b"serverInfo" in process.stdout.readline()
            process.send_signal(number)
            assert process.wait(20) == -number
