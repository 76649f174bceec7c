"""`xtrace doctor`: everything that a command needs is looked at, and what is wrong comes with what to do."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.terminal import COMMAND, Result, Terminal
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_server.credentials import Credentials, write_credentials

PASSPHRASE = "correct horse battery staple"
WRONG_PASSPHRASE = "incorrect horse"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a context that remembers its model."""
    path = tmp_path_factory.mktemp("keys") / "context.json"
    embedding = Embedding("wordllama", "l2_supercat", 256, bits=512)
    ExecutionContext.create(PASSPHRASE, "paillier_lookup", embedding=embedding, path=path)
    return path


@pytest.fixture
def patient(xtrace: Terminal, saved: Path) -> Terminal:
    """A shell with credentials and a context where they are looked for."""
    (xtrace.folder / "keys").mkdir()
    shutil.copy(saved, xtrace.folder / "keys" / "context.json")
    xtrace.environment["HOME"] = str(xtrace.folder / "home")
    return xtrace


def statuses(result: Result) -> dict[str, str]:
    """Each check with the worst that was found."""
    order = ("ok", "warning", "error")
    found: dict[str, str] = {}
    for one in json.loads(result.out)["findings"]:
        found[one["check"]] = max(found.get(one["check"], "ok"), one["status"], key=order.index)
        assert bool(one["advice"]) == (one["status"] != "ok"), one
    return found


def test_a_healthy_setup_has_no_errors(patient: Terminal) -> None:
    assert patient("kb create notes").status == 0
    found = patient("doctor --json --kb notes", XTRACE_PASSPHRASE=PASSPHRASE)
    assert found.json["ok"] is True
    assert statuses(found) == {
        "version": "ok",
        "arithmetic": statuses(found)["arithmetic"],
        "packages": "ok",
        "variables": "ok",
        "files": "ok",
        "server": "ok",
        "clock": "ok",
        "api_key": "ok",
        "admin_key": "ok",
        "knowledge_base": "ok",
        "context": "ok",
        "recovery_key": "warning",
        "key": "ok",
        "model": "ok",
        "copy_of_context": "warning",
        "disk": statuses(found)["disk"],
    }


@pytest.mark.parametrize(
    ("variables", "check", "sentence"),
    [
        ({"XTRACE_API_URL": "http://127.0.0.1:1"}, "server", "cannot reach http://127.0.0.1:1"),
        ({"XTRACE_PASSPHRASE": WRONG_PASSPHRASE}, "key", "passphrase"),
        ({"XTRACE_CONTEXT": "nowhere.json"}, "context", "nowhere.json does not exist"),
        ({"XTRACE_PROFILE": "nowhere"}, "settings", "the profile nowhere does not exist"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    patient: Terminal, variables: dict[str, str], check: str, sentence: str
) -> None:
    found = patient("doctor --json", **variables)
    assert found.status == 1
    assert "checks failed: follow the advice above" in found.err
    assert statuses(found)[check] == "error"
    assert sentence in found.out


def test_keys_and_rights(patient: Terminal, credentials: Credentials) -> None:
    file = patient.folder / "xtrace-data" / "credentials.json"
    assert patient("kb create notes").status == 0
    weak = patient("keys create reader --json")
    write_credentials(
        file, Credentials(credentials.org_id, credentials.admin_key, weak.json["secretKey"], credentials.api_url)
    )
    found = patient("doctor --json --kb notes")
    assert (found.status, statuses(found)["knowledge_base"]) == (1, "error")
    assert "the API key may nothing" in found.out
    assert "xtrace keys grant" in found.out
    write_credentials(file, Credentials(credentials.org_id, credentials.admin_key, "wrong", credentials.api_url))
    found = patient("doctor --json")
    assert (found.status, statuses(found)["keys"]) == (1, "error")


def test_misspelt_variables_and_open_files_are_warnings(patient: Terminal) -> None:
    (patient.folder / ".env").write_text("XTRACE_PASPHRASE=\n")
    (patient.folder / ".env").chmod(0o644)
    found = patient("doctor --json")
    assert statuses(found)["variables"] == statuses(found)["files"] == "warning"
    assert "did you mean XTRACE_PASSPHRASE?" in found.out
    assert "chmod 600 .env" in found.out


def test_a_narrow_terminal_and_a_poor_encoding_show_everything(patient: Terminal) -> None:
    found = patient("doctor --kb Ωmega", COLUMNS="40", PYTHONIOENCODING="latin-1")
    assert found.status == 0, found.err
    assert "warning  knowledge base: ?mega does not exist\n" in found.out
    assert "         -> `xtrace load` creates it" in found.out


def test_a_pipe_that_closes_ends_it_quietly(patient: Terminal) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [COMMAND, "doctor"],
        cwd=patient.folder,
        env=patient._environment({}),
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
