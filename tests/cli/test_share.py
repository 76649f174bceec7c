"""`xtrace share`, and the page docs/recipes/give-somebody-access.md, as two people carry it out."""

import json
import re
import shlex
from pathlib import Path

import pytest

from cli.conftest import PASSPHRASE, WRONG_PASSPHRASE
from support.library import LOCKED, RECORDS, furnish
from support.terminal import Terminal
from xtrace_server.credentials import Credentials

PAGE = Path(__file__).parents[2] / "docs" / "recipes" / "give-somebody-access.md"


def commands() -> list[str]:
    """The command lines of the page, in their order."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [line.removeprefix("xtrace ") for block in blocks for line in block.splitlines()]


@pytest.fixture
def owner(xtrace: Terminal, credentials: Credentials, made_keys: Path) -> Terminal:
    """A shell in the folder of somebody who has loaded `documents`."""
    furnish(xtrace.folder, credentials, made_keys, RECORDS)
    (xtrace.folder / LOCKED).replace(xtrace.folder / "keys" / "context.json")
    xtrace.environment["XTRACE_PASSPHRASE"] = PASSPHRASE
    return xtrace


def test_the_page_from_top_to_bottom(owner: Terminal, tmp_path: Path, credentials: Credentials) -> None:
    save, share, restore, search, keys_list, revoke = commands()
    assert owner(save).status == 0
    shared = owner(share)
    assert "1. Send xtrace-ada.json to Ada" in shared.text
    assert "the address in the file is http://127.0.0.1" in shared.err
    file = owner.folder / "xtrace-ada.json"
    assert file.stat().st_mode & 0o777 == 0o600
    sent = json.loads(file.read_text())
    assert set(sent) == {"api_url", "org_id", "api_key"}
    assert sent["api_key"] not in (credentials.api_key, credentials.admin_key)
    assert all(sent["api_key"] not in text for text in owner.seen)

    # What the command prints is what the page says.
    (kb,) = owner("kb list --json").json
    (context,) = owner("context list --json").json
    typed = [line.replace("CONTEXT_ID", context["context_id"]).replace("KB_ID", kb["id"]) for line in (restore, search)]
    assert [line.strip().removeprefix("xtrace ") for line in shared.text.splitlines()[3:]] == typed

    (tmp_path / "ada").mkdir()
    ada = Terminal(tmp_path / "ada", {"XTRACE_PASSPHRASE": PASSPHRASE}, owner.seen)
    (ada.folder / "xtrace-ada.json").write_text(file.read_text())
    ada(typed[0], XTRACE_PASSPHRASE=WRONG_PASSPHRASE).fails("passphrase or key is wrong")
    assert ada(typed[0]).status == 0
    assert "notes/cat.txt" in ada(typed[1].replace("a question", "Which animal is napping?")).text

    theirs = f"--kb {kb['id']} --credentials xtrace-ada.json"
    ada(f"xvec upsert text --id new {theirs}").fails("permission")
    ada(f"xvec delete steering --yes {theirs}").fails("permission")
    other = owner("kb create other").text
    assert "permission" in ada(f"xvec count --kb {other} --credentials xtrace-ada.json").err
    ada("keys list --credentials xtrace-ada.json").fails("admin key", status=2)

    line = next(line for line in owner(keys_list).text.splitlines() if line.endswith(" Ada"))
    assert "never" not in line.split()[-4]
    assert owner(revoke.replace("KEY", line.split()[0]) + " --yes").status == 0
    ada(typed[1]).fails("key")


def test_nothing_is_made_where_it_cannot_be_shared(owner: Terminal) -> None:
    owner("share documents --with Ada").fails("run `xtrace context save FILE` to store them")
    owner("share documnets --with Ada").fails("did you mean documents?")
    owner("kb create empty")
    owner("share empty --with Ada").fails("nothing is stored in empty under the context")
    (owner.folder / "taken.json").write_text("{}")
    owner("share documents --with Ada --to taken.json").fails("taken.json exists")
    owner("share documents --with Ada --expires soon").fails("--expires is not valid", status=2)
    assert len(owner("keys list --json").json) == 1


def test_the_context_is_all_or_nothing_and_it_says_so(owner: Terminal) -> None:
    owner("context save keys/context.json")
    owner("kb create letters")
    owner("xvec upsert text --id one --kb letters")
    shared = owner(f"share letters --with {shlex.quote('Bob / B.')} --json")
    assert "what is stored under this context in 1 other knowledge bases" in shared.err
    assert set(shared.json) == {"kb_id", "context_id", "key", "file", "commands", "also_under_context"}
    assert shared.json["file"] == "xtrace-bob-b.json"
    assert "secretKey" not in shared.out
