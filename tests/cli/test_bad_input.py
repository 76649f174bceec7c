"""What bad input gets, for every command: one sentence, the exit status of docs/cli.md, and nothing lost.

The table has a line for each command, and what the command needs; each condition below applies to all commands that
need it. A command that is not in the table fails the first test.
"""

import hashlib
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import pytest
from tools.cli_reference import commands

from cli.conftest import PASSPHRASE, WRONG_PASSPHRASE
from support.library import KEY_FILE, RECORDS, furnish
from support.service import LiveService
from support.terminal import Result
from xtrace_cli.main import run
from xtrace_cli.options import connection
from xtrace_cli.output import write_in_every_encoding
from xtrace_sdk import ExecutionContext, KeyFileProvider, PassphraseKeyProvider

LOCKED: Final = "keys/locked.json"
NO_SERVER: Final = "http://127.0.0.1:1"
API, ADMIN = "API", "ADMIN"


@dataclass(frozen=True)
class Row:
    """A line that works, and what it needs. `KB`, `KEY`, `ORG` and `CONTEXT_ID` stand for ids."""

    line: str
    key: str = ""
    """The key of the service that it is called with: `API` or `ADMIN`; empty for none."""
    opens: bool = False
    """Whether it opens a context with a secret key: the one of --context, or that of the path `CONTEXT`."""
    kb: str = ""
    """The word that names a knowledge base: `--kb`, or the argument `documents` or `KB`."""
    host: bool = False
    """Whether it works on the data folder of a server."""
    prints: bool = False
    """Whether it prints a result and changes nothing."""
    file: str = ""
    """The file that it reads, apart from contexts and credentials."""
    writes: bool = False
    """Whether it writes the file `NEW`."""


def reading(line: str, **more: Any) -> Row:
    return Row(line, API, opens=True, kb="--kb", **more)


ROWS: Final = {
    "ask": reading("ask cat --show-prompt", prints=True),
    "audit": Row("audit", ADMIN, prints=True),
    "backup": Row("backup NEW", host=True, writes=True),
    "demo": Row("demo nowhere", file="nowhere"),
    "doctor": Row("doctor", prints=True),
    "export": Row("export KB NEW", host=True, kb="KB", writes=True),
    "import": Row("import nowhere", host=True, file="nowhere"),
    "init": Row("init --yes --replace --kb documents", API, opens=True),
    "load": Row("load notes", API, opens=True, file="notes"),
    "mcp": Row("mcp", opens=True),
    "restore": Row("restore nowhere --data new", file="nowhere"),
    "search": reading("search cat", prints=True),
    "serve": Row("serve --port 0 --database sqlite:///nowhere/there"),
    "share": Row("share documents --with Ada --to NEW", ADMIN, kb="documents"),
    "shell": Row("shell"),
    "usage": Row("usage", ADMIN, prints=True),
    "vacuum": Row("vacuum", host=True),
    "version": Row("version", prints=True),
    "kb create": Row("kb create new", ADMIN),
    "kb list": Row("kb list", ADMIN, prints=True),
    "kb describe": Row("kb describe documents", ADMIN, kb="documents", prints=True),
    "kb delete": Row("kb delete documents --yes", ADMIN, kb="documents"),
    "kb copy": Row("kb copy KB other CONTEXT", API, opens=True, kb="KB"),
    "kb manifest": Row("kb manifest KB CONTEXT NEW", API, kb="KB", writes=True),
    "kb seal": Row("kb seal KB CONTEXT", API, opens=True, kb="KB"),
    "kb verify": Row("kb verify KB CONTEXT", API, opens=True, kb="KB"),
    "xvec retrieve": reading("xvec retrieve cat", prints=True),
    "xvec query": reading("xvec query cat", prints=True),
    "xvec head": reading("xvec head", prints=True),
    "xvec fetch": reading("xvec fetch bare", prints=True),
    "xvec count": reading("xvec count", prints=True),
    "xvec delete": reading("xvec delete bare --yes"),
    "xvec copy": Row("xvec copy KB other CONTEXT", API, opens=True, kb="KB"),
    "xvec upsert": reading("xvec upsert text --id new"),
    "xvec upsert-file": reading("xvec upsert-file records.jsonl", file="records.jsonl"),
    "xvec load": Row("xvec load notes", API, opens=True, file="notes"),
    "keys create": Row("keys create new", ADMIN),
    "keys list": Row("keys list", ADMIN, prints=True),
    "keys edit": Row("keys edit KEY --name new", ADMIN),
    "keys grant": Row("keys grant KEY KB read", ADMIN, kb="KB"),
    "keys revoke": Row("keys revoke KEY --yes", ADMIN),
    "context create": Row("context create NEW", writes=True),
    "context show": Row("context show CONTEXT", prints=True),
    "context save": Row("context save CONTEXT", API, opens=True),
    "context restore": Row("context restore CONTEXT_ID NEW", API),
    "context list": Row("context list", API, prints=True),
    "context delete": Row("context delete CONTEXT_ID --yes", API),
    "context audit": Row("context audit CONTEXT --kb KB", API, kb="KB"),
    "context recover": Row("context recover CONTEXT --recovery-key-file nowhere", file="nowhere"),
    "context recovery-key": Row("context recovery-key CONTEXT", opens=True),
    "context rewrap": Row("context rewrap CONTEXT", opens=True),
    "context rotate": Row("context rotate CONTEXT NEW", API, opens=True),
    "local status": Row("local status", prints=True),
    "local verify": reading("local verify"),
    "local share": reading("local share"),
    "local clear": Row("local clear"),
    "local-server start": Row("local-server start --data keys/key"),
    "local-server stop": Row("local-server stop --data nowhere"),
    "local-server status": Row("local-server status --data nowhere", prints=True),
    "org create": Row("org create new", host=True),
    "org list": Row("org list", host=True, prints=True),
    "org show": Row("org show ORG", host=True, prints=True),
    "org quota": Row("org quota ORG --bytes none", host=True),
    "org suspend": Row("org suspend ORG", host=True),
    "org resume": Row("org resume ORG", host=True),
    "org delete": Row("org delete ORG --yes", host=True),
    "org admin-key": Row("org admin-key ORG", host=True),
    "org admin-keys": Row("org admin-keys ORG", host=True, prints=True),
    "org revoke-admin-key": Row("org revoke-admin-key ORG 00000 --yes", host=True),
    "operator rotate-key": Row("operator rotate-key --yes", host=True),
    "operator audit": Row("operator audit", host=True, prints=True),
    "db copy": Row("db copy nowhere/xtrace.db NEW", file="nowhere/xtrace.db"),
    "db check": Row("db check", host=True),
}


def rows(wanted: Callable[[Row], Any]) -> pytest.MarkDecorator:
    """The rows for which a condition makes sense."""
    return pytest.mark.parametrize("name", [name for name, row in ROWS.items() if wanted(row)])


# The folder


@dataclass
class Folder:
    """The working folder: with a knowledge base, its context under a key file, and the same under a passphrase."""

    path: Path
    ids: dict[str, str]
    weak_key: str
    api_url: str

    def line(self, name: str) -> str:
        """The command's line with real ids, and the context that needs no passphrase."""
        words = {**self.ids, "CONTEXT": "keys/context.json", "NEW": "new.file"}
        return " ".join(words.get(word, word) for word in ROWS[name].line.split())

    def __call__(self, line: str, **variables: str) -> Result:
        """Runs the command in this process."""
        return self.into(io.StringIO(), line, **variables)

    def into(self, printed: IO[str], line: str, **variables: str) -> Result:
        """Runs the command with this standard output."""
        err = io.StringIO()
        environment = {"HOME": str(self.path / "home"), "COLUMNS": "80", "NO_COLOR": "1", "XTRACE_KEY_FILE": KEY_FILE}
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(err):
            for name in [name for name in os.environ if name.startswith("XTRACE_")]:
                patch.delenv(name)
            for name, value in (environment | variables).items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
            patch.setattr(connection, "_ATTEMPTS", 1)
            patch.chdir(self.path)
            status = run(shlex.split(line))
        return Result(status, printed.getvalue() if isinstance(printed, io.StringIO) else "", err.getvalue())

    def files(self) -> dict[str, str]:
        """Every file, with a digest of what is in it."""
        return {
            str(path.relative_to(self.path)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.path.rglob("*")
            if path.is_file() and "home" not in path.parts
        }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, live_service: LiveService, made_keys: Path) -> Iterator[Folder]:
    path, credentials = tmp_path_factory.mktemp("bad"), live_service.new_organisation()
    kb_id = furnish(path, credentials, made_keys, RECORDS)
    context = ExecutionContext.load_from_disk(
        path=path / "keys" / "context.json", key_provider=KeyFileProvider(path / KEY_FILE)
    )
    # A passphrase that is quickly tried.
    context.rewrap(PassphraseKeyProvider(PASSPHRASE, insecure_log2_n=14)).save_to_disk(path / LOCKED)
    (path / "notes").mkdir()
    (path / "notes" / "a.txt").write_text("The cat is asleep.")
    (path / "records.jsonl").write_text('{"id": "new", "text": "A new one."}\n')
    (path / "broken.json").write_text('{"api_key": "secret-of-mine", ')
    (path / "part.json").write_text(
        f'{{"api_url": "{credentials.api_url}", "org_id": "{credentials.org_id}", "api_key": "{credentials.api_key}"}}'
    )
    folder = Folder(path, {}, "", credentials.api_url)
    assert folder("context save keys/context.json").status == 0
    (key,) = folder("keys list --json").json
    folder.weak_key = folder("keys create weak --json").json["secretKey"]
    folder.ids |= {"KB": kb_id, "KEY": key["firstN"], "ORG": credentials.org_id, "CONTEXT_ID": context.id}
    before = held(folder)
    yield folder
    assert held(folder) == before


def held(folder: Folder) -> list[Any]:
    """What the service has: knowledge bases, API keys and contexts."""
    keys = [{**key, "lastUsedAt": None} for key in folder("keys list --json").json]
    return [folder("kb list --json").json, keys, folder("context list --json").json]


@pytest.fixture
def folder(prepared: Folder) -> Iterator[Folder]:
    """The folder, in which no file has changed afterwards."""
    before = prepared.files()
    yield prepared
    assert prepared.files() == before


def on_host(name: str, service: LiveService) -> dict[str, str]:
    """The variables with which a command finds the server's data folder, if it works on that."""
    return {"XTRACE_DATA": str(service.folder)} if ROWS[name].host else {}


def refused(result: Result, *sentences: str, status: int = 1) -> None:
    """Asserts that the command printed no result, and that its last sentence is one of these."""
    assert (result.status, result.out) == (status, ""), result
    assert all(line.startswith("xtrace: ") for line in result.err.splitlines()), result.err
    last = result.err.splitlines()[-1]
    assert any(sentence in last for sentence in sentences), last
    for secret in (PASSPHRASE, WRONG_PASSPHRASE, "secret-of-mine"):
        assert secret not in result.err


def test_every_command_is_in_the_table() -> None:
    assert list(ROWS) == commands()


# The service


@rows(lambda row: row.key)
def test_no_server(folder: Folder, name: str) -> None:
    keys = {"XTRACE_API_KEY": "0" * 40, "XTRACE_ADMIN_KEY": "0" * 40, "XTRACE_PASSPHRASE": PASSPHRASE}
    refused(folder(folder.line(name), XTRACE_API_URL=NO_SERVER, **keys), f"cannot reach {NO_SERVER}")


@rows(lambda row: row.key)
def test_a_wrong_key(folder: Folder, name: str) -> None:
    keys = {"XTRACE_API_KEY": "0" * 40, "XTRACE_ADMIN_KEY": "0" * 40, "XTRACE_PASSPHRASE": PASSPHRASE}
    refused(folder(folder.line(name), XTRACE_API_URL=folder.api_url, **keys), "key")


@rows(lambda row: row.key == API and row.kb)
def test_no_rights(folder: Folder, name: str) -> None:
    line = folder.line(name)
    if ROWS[name].kb == "--kb":
        line += f" --kb {folder.ids['KB']}"
    refused(folder(line, XTRACE_API_URL=folder.api_url, XTRACE_API_KEY=folder.weak_key), "permission")


@rows(lambda row: row.key == ADMIN)
def test_no_admin_key(folder: Folder, name: str) -> None:
    refused(folder(f"{folder.line(name)} --credentials part.json"), "this needs the organisation's admin key", status=2)


@rows(lambda row: row.key and "--credentials" not in row.line and row.line.split()[0] != "init")
def test_credentials_that_cannot_be_read(folder: Folder, name: str) -> None:
    line = folder.line(name)
    refused(
        folder(f"{line} --credentials nowhere.json", XTRACE_PASSPHRASE=PASSPHRASE),
        "nowhere.json: No such file or directory",
    )
    refused(
        folder(f"{line} --credentials broken.json", XTRACE_PASSPHRASE=PASSPHRASE),
        "broken.json does not contain credentials",
    )
    refused(folder(f"{line} --credentials keys", XTRACE_PASSPHRASE=PASSPHRASE), "cannot be read from keys: ")


@rows(lambda row: row.kb)
def test_an_unknown_knowledge_base(folder: Folder, live_service: LiveService, name: str) -> None:
    line, kb = folder.line(name), ROWS[name].kb
    if kb == "KB":
        done = folder(line.replace(folder.ids["KB"], "nowhere"), **on_host(name, live_service))
        refused(done, "nowhere", "does not exist", "was not found")
        return
    line = f"{line} --kb documnets" if kb == "--kb" else line.replace(" documents", " documnets")
    refused(folder(line), "the knowledge base documnets does not exist: did you mean documents?")


# The context


def with_context(folder: Folder, name: str, path: str) -> str:
    line = folder.line(name)
    if "CONTEXT" in ROWS[name].line.split():
        return line.replace("keys/context.json", path)
    return f"{line} --context {path}"


@rows(lambda row: row.opens)
def test_a_wrong_passphrase(folder: Folder, name: str) -> None:
    line = with_context(folder, name, LOCKED)
    refused(folder(line, XTRACE_PASSPHRASE=WRONG_PASSPHRASE), "passphrase or key is wrong")


@rows(lambda row: row.opens)
def test_no_passphrase(folder: Folder, name: str) -> None:
    refused(folder(with_context(folder, name, LOCKED)), "a passphrase is needed", status=2)


@rows(lambda row: row.opens and row.line.split()[0] != "init")
def test_a_passphrase_file_that_cannot_be_read(folder: Folder, name: str) -> None:
    line = with_context(folder, name, LOCKED)
    refused(folder(f"{line} --passphrase-file nowhere"), "cannot be read from nowhere: No such file or directory")


@rows(lambda row: row.opens or ("CONTEXT" in row.line.split() and not row.file))
def test_a_context_that_cannot_be_read(folder: Folder, name: str) -> None:
    if name != "init":  # which creates it
        refused(folder(with_context(folder, name, "nowhere.json")), "nowhere.json")
    refused(folder(with_context(folder, name, "broken.json")), "broken.json")


# Files and folders


@rows(lambda row: row.file)
def test_a_file_that_cannot_be_read(folder: Folder, name: str) -> None:
    line = folder.line(name).replace(ROWS[name].file, "nowhere")
    refused(folder(line, XTRACE_DATA=""), "nowhere", "no database was found")


@rows(lambda row: row.host)
def test_no_data_folder(folder: Folder, name: str) -> None:
    refused(folder(folder.line(name), XTRACE_DATA="nowhere"), "no database was found in ")


@pytest.fixture(scope="module")
def full_disk(prepared: Folder) -> Iterator[str]:
    """A folder on a disk without space."""
    path = prepared.path / "home" / "full"
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=20", "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {done.stderr.strip()}")
    (path / "filler").write_bytes(b"x" * 4096)
    yield str(path)
    subprocess.run(["umount", "-l", str(path)], check=True)


@rows(lambda row: row.writes)
def test_a_full_disk(folder: Folder, live_service: LiveService, full_disk: str, name: str) -> None:
    line = folder.line(name).replace("new.file", f"{full_disk}/new.file")
    done = folder(line, XTRACE_PASSPHRASE=PASSPHRASE, **on_host(name, live_service))
    refused(done, "No space left on device", "no space is left", "disk is full")
    assert [path.name for path in Path(full_disk).iterdir()] == ["filler"]


# The output


@rows(lambda row: row.prints)
def test_an_output_that_cannot_be_written(folder: Folder, live_service: LiveService, name: str) -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails too
    try:
        done = folder.into(full, folder.line(name), **on_host(name, live_service))
    finally:
        with suppress(OSError):
            full.close()
    assert done.status == 1
    assert done.err.endswith("xtrace: the output cannot be written: No space left on device\n"), done.err


@rows(lambda row: row.prints)
def test_a_pipe_that_closes(folder: Folder, live_service: LiveService, name: str) -> None:
    reading_end, writing_end = os.pipe()
    os.close(reading_end)
    pipe = os.fdopen(writing_end, "w")
    try:
        done = folder.into(pipe, folder.line(name), **on_host(name, live_service))
    finally:
        with suppress(BrokenPipeError):
            pipe.close()
    assert done.status == 1
    assert all(line.startswith("xtrace: ") for line in done.err.splitlines()), done.err
    assert "cannot be written" not in done.err


@rows(lambda row: row.prints)
def test_an_encoding_that_cannot_print(folder: Folder, live_service: LiveService, name: str) -> None:
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, "iso8859-5", "strict")
    with redirect_stdout(output):
        write_in_every_encoding()
    done = folder.into(output, folder.line(name), **on_host(name, live_service))
    output.flush()
    assert done.status == 0 or name == "doctor", done
    assert raw.getvalue().decode("iso8859-5")
    assert all(line.startswith("xtrace: ") for line in done.err.splitlines()), done.err


@pytest.mark.parametrize("name", ROWS)
def test_help_on_a_narrow_terminal(folder: Folder, name: str) -> None:
    done = folder(f"{name} --help", COLUMNS="40", TERMINAL_WIDTH="40")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("Usage: xtrace ")
    assert max(map(len, done.out.splitlines())) <= 70  # the longest list of choices is one word
