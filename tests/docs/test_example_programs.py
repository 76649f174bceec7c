"""The programs in examples/ do what their READMEs say, offline: the language model is a local server with rules.

The service is in `test_recipes`, LangChain in the tests of packages/.
"""

import importlib.util
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest
from mcp import Client

from cli.conftest import PASSPHRASE
from docs.examples import ROOT
from support.agents import access_here
from support.language_model import LanguageModel, Plan, language_model
from support.library import furnish, make_keys, shell_in
from support.service import NO_AUTHORITIES, LiveService
from xtrace_cli.mcp.server import new_server
from xtrace_server.credentials import CREDENTIALS_FILE, Credentials, write_credentials

EXAMPLES = ROOT / "examples"


def program(path: str) -> ModuleType:
    """The program as a module, not run yet."""
    spec = importlib.util.spec_from_file_location(f"example_{path.replace('/', '_')}", EXAMPLES / f"{path}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[LanguageModel]:
    with language_model() as running:
        monkeypatch.setenv("XTRACE_LLM_MODEL", "by-rules")
        monkeypatch.setenv("XTRACE_LLM_BASE_URL", running.url)
        yield running


def test_every_example_is_listed_and_explained() -> None:
    folders = {path.parent.name for path in EXAMPLES.glob("*/*.py")}
    listed = set(re.findall(r"\]\((\w+)/\)", (EXAMPLES / "README.md").read_text()))
    assert folders == listed
    for folder in folders:
        lines = [line for file in (EXAMPLES / folder).glob("*.py") for line in file.read_text().splitlines()]
        assert len(lines) <= 110, folder
        assert (EXAMPLES / folder / "README.md").exists()


def test_the_private_chat_answers_with_citations(
    tmp_path: Path,
    credentials: Credentials,
    model: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "xtrace-data").mkdir()
    write_credentials(tmp_path / "xtrace-data" / CREDENTIALS_FILE, credentials)
    notes = tmp_path / "notes"
    (notes / "home").mkdir(parents=True)
    (notes / "lease.md").write_text("# Lease\n\nThe rent is due on the third of each month.\n")
    (notes / "home" / "cat.txt").write_text("The cat is asleep on the warm radiator.\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XTRACE_PASSPHRASE", PASSPHRASE)
    monkeypatch.setattr(sys, "argv", ["chat.py", str(notes)])
    monkeypatch.setattr(sys, "stdin", io.StringIO("When is the rent due?\n\nWhich animal is napping?\n"))
    program("private_chat/chat").main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "3 passages are stored. Ask, or press Ctrl-D."
    assert f"are sent in plaintext to {model.url.removesuffix('/v1')}" in printed[1]
    assert printed[2:] == [
        "It says: The rent is due on the third of each month. [1]",
        "[1] lease.md, paragraph 2",
        "It says: The cat is asleep on the warm radiator. [1]",
        "[1] home/cat.txt, paragraph 1",
    ]


# The agent


@pytest.fixture
def home(tmp_path: Path, live_service: LiveService, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as `xtrace init` leaves it."""
    (tmp_path / "made").mkdir()
    make_keys(tmp_path / "made", PASSPHRASE)
    furnish(tmp_path, live_service.new_organisation(), tmp_path / "made", [])
    monkeypatch.chdir(tmp_path)
    for name, value in shell_in(tmp_path).environment.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def remembers(body: dict[str, Any]) -> Plan:
    """A model's answer by rules: a statement is remembered, a question looked for, and what is found quoted."""
    last = body["messages"][-1]
    assert {"remember", "search"} <= {one["function"]["name"] for one in body["tools"]}
    if last["role"] == "tool":
        result = json.loads(last["content"])
        found = result["hits"][0]["text"] if result.get("hits") else "I will remember that."
        return reply({"role": "assistant", "content": found})
    asks = last["content"].endswith("?")
    name, argument = ("search", "query") if asks else ("remember", "text")
    function = {"name": name, "arguments": json.dumps({argument: last["content"]})}
    return reply(
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    )


def reply(message: dict[str, Any]) -> Plan:
    return Plan(pieces=[json.dumps({"choices": [{"index": 0, "message": message}]}).encode()])


async def test_the_agent_finds_in_a_new_conversation_what_it_remembered(home: Path, model: LanguageModel) -> None:
    agent = program("agent_memory/agent")
    model.rules = remembers
    async with (
        access_here("memory") as access,
        Client(new_server(access)) as memory,
        httpx2.AsyncClient(base_url=model.url, verify=NO_AUTHORITIES) as http,
    ):
        tools = await agent.functions(memory)

        async def says(text: str) -> str:
            conversation = [{"role": "system", "content": agent.RULES}, {"role": "user", "content": text}]
            answered: str = await agent.answer(conversation, tools, memory, http)
            return answered

        assert await says("My sister Ada drinks her tea without milk.") == "I will remember that."
        assert await says("How does Ada take her tea?") == "My sister Ada drinks her tea without milk."
        model.rules = stubborn
        assert "again and again" in await says("Loop")


def stubborn(_: dict[str, Any]) -> Plan:
    """A model that never stops calling, with arguments that are not valid."""
    function = {"name": "remember", "arguments": "{"}
    return reply({"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]})


@pytest.mark.full
async def test_the_agent_runs_as_a_program_with_a_server_of_its_own(
    home: Path, model: LanguageModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model.rules = remembers
    monkeypatch.setattr(sys, "stdin", io.StringIO("My sister lives in London.\nWhere does my sister live?\n"))
    main: Callable[[], Any] = program("agent_memory/agent").main
    await main()
    assert capsys.readouterr().out.splitlines() == ["I will remember that.", "My sister lives in London."]
