"""docs/mcp.md: every configuration of a host starts the server with options that there are, and says what it offers."""

import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from mcp import Client, StdioServerParameters

from cli.conftest import PASSPHRASE
from docs.examples import ROOT
from support.agents import call
from support.library import KEY_FILE, RECORDS, furnish, make_keys
from support.service import LiveService
from support.terminal import COMMAND
from xtrace_cli.commands.mcp import DEFAULT_PORT
from xtrace_cli.main import app
from xtrace_cli.mcp.serving import PATH
from xtrace_cli.mcp.tools import TOOLS

PAGE = (ROOT / "docs" / "mcp.md").read_text()
_BLOCK = re.compile(r"<!-- host: (?P<host>[^>]+) -->\n```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
BLOCKS = {match["host"]: (match["language"], match["text"]) for match in _BLOCK.finditer(PAGE)}
URL = f"http://127.0.0.1:{DEFAULT_PORT}{PATH}"


def servers(language: str, text: str) -> Iterator[dict[str, Any]]:
    """The servers that a block configures, as the host would read it."""
    if language == "sh":
        words = shlex.split(text)
        if "--" in words:
            words = words[words.index("--") + 1 :]
            yield {"command": words[0], "args": words[1:]}
        elif words[0] == "xtrace":
            yield {"command": words[0], "args": words[1:]}
        else:
            header = words[words.index("--header") + 1].partition(": ")
            yield {"url": next(word for word in words if "://" in word), "headers": {header[0]: header[2]}}
        return
    parsed = tomllib.loads(text) if language == "toml" else json.loads(text)
    for name in ("mcpServers", "servers", "mcp_servers"):
        yield from parsed.get(name, {}).values()


CONFIGURED = {host: next(servers(*block)) for host, block in BLOCKS.items()}
STARTED = {host: one for host, one in CONFIGURED.items() if "command" in one}


def test_every_block_configures_one_server() -> None:
    assert PAGE.count("```") == 2 * (len(BLOCKS) + 1), "a block is not marked as that of a host"
    for host, block in BLOCKS.items():
        assert len(list(servers(*block))) == 1, host
    assert len(STARTED) >= 7


@pytest.mark.parametrize("host", STARTED)
def test_the_command_of_each_host_has_these_options(host: str) -> None:
    server = STARTED[host]
    assert Path(server["command"]).name == "xtrace"
    first, *options = server["args"]
    command = typer.main.get_command(app).commands[first]  # type: ignore[attr-defined]
    given = command.make_context(first, list(options)).params
    assert given["folder"] == Path("/home/ada/private")
    assert given["allow"] == [Path("/home/ada/notes")] or given["read_only"]


def test_each_host_over_http_reaches_the_server_with_its_token() -> None:
    others = {host: one for host, one in CONFIGURED.items() if host not in STARTED}
    assert len(others) == 4
    for host, server in others.items():
        assert server["url"] == URL, host
        if "bearer_token_env_var" in server:
            assert server["bearer_token_env_var"] == "XTRACE_MCP_TOKEN"
        else:
            assert server["headers"]["Authorization"].startswith("Bearer "), host


def test_the_tables_name_every_tool_and_options_that_there_are() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(one.name for one in TOOLS)
    command = typer.main.get_command(app).commands["mcp"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"^\| `(--[a-z-]+)", PAGE, re.MULTILINE)) <= known


def test_the_first_block_is_made_of_commands_that_there_are() -> None:
    lines = PAGE.partition("```sh\n")[2].partition("```")[0].splitlines()
    (words,) = [shlex.split(line) for line in lines if line.startswith("xtrace ")]
    command = typer.main.get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    assert command.make_context(words[1], words[2:]).params["local"]


@pytest.mark.full
async def test_the_configurations_start_a_server_that_answers(ada: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("XTRACE_")}
    for host in ("claude desktop", "claude code project", "vs code"):
        server = STARTED[host]
        homes = [word.replace("/home/ada", str(ada)) for word in server["args"]]
        parameters = StdioServerParameters(
            command=COMMAND, args=homes, env={**plain, "XTRACE_KEY_FILE": str(ada / "private" / KEY_FILE)}, cwd="/"
        )
        async with Client(parameters, mode="legacy") as agent:
            (hit,) = (await call(agent, "search", query="Which animal is napping?", limit=1))["hits"]
            assert hit["source"] == "notes/cat.txt", host


@pytest.fixture
def ada(tmp_path: Path, live_service: LiveService) -> Path:
    """The home of the page's reader."""
    for name in ("made", "private", "notes"):
        (tmp_path / name).mkdir()
    make_keys(tmp_path / "made", PASSPHRASE)
    furnish(tmp_path / "private", live_service.new_organisation(), tmp_path / "made", RECORDS)
    return tmp_path
