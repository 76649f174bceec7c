"""`xtrace init`: from nothing to a folder in which every command works, and nothing lost on the way."""

import json
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.terminal import COMMAND, Terminal
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials, write_credentials

PASSPHRASE = "correct horse battery staple"
WRONG_PASSPHRASE = "incorrect horse"


@pytest.fixture
def person(shell: Terminal) -> Terminal:
    """A shell whose user has a home of its own, no keyring, and a passphrase in the environment."""
    home = shell.folder.parent / f"{shell.folder.name}-home"
    shell.environment |= {
        "HOME": str(home),
        "XDG_CONFIG_HOME": "",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        "XTRACE_PASSPHRASE": PASSPHRASE,
    }
    return shell


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a context, without a model."""
    path = tmp_path_factory.mktemp("keys") / "context.json"
    ExecutionContext.create(PASSPHRASE, "paillier_lookup", 512, path=path)
    return path


@pytest.fixture
def elsewhere(person: Terminal, credentials: Credentials) -> Path:
    """The credentials of a fresh organisation in a file outside the working folder."""
    path = Path(person.environment["HOME"], "credentials.json")
    write_credentials(path, credentials)
    return path


@pytest.fixture
def local(person: Terminal) -> Iterator[Terminal]:
    """The same shell; a private server of the folder is stopped at the end."""
    yield person
    person("local-server stop --data xtrace-data")


def settings(person: Terminal) -> str:
    return (person.folder / ".env").read_text()


def test_a_private_server_needs_nothing_else(local: Terminal) -> None:
    subprocess.run(["git", "init", "-q"], cwd=local.folder, check=True)
    (local.folder / ".gitignore").write_text("xtrace-data/\n")
    made = local("init --local --yes --recovery-key --json", XTRACE_KB="notes")
    assert made.json["kb"] == "notes"
    assert len(made.json["recovery_key"].split()) == 24
    assert "encrypted, stored and found again, and deleted" in made.err
    assert ".env and keys/context.json could be committed to git" in made.err
    assert (local.folder / ".env").stat().st_mode & 0o777 == 0o600
    assert (
        settings(local) == "# The settings of xtrace, as `xtrace init` wrote them.\n"
        "XTRACE_LOCAL_SERVER=xtrace-data\nXTRACE_CONTEXT=keys/context.json\nXTRACE_KB=notes\n"
    )
    assert [kb["name"] for kb in local("kb list --json").json] == ["notes"]
    assert made.json["api_url"] == local("local-server status --json").json["api_url"]
    # A later command starts it again, and a second setup changes nothing.
    assert local("local-server stop --json").json == {"stopped": True}
    assert local("local-server status --json").json["running"] is False
    before = settings(local)
    again = local("init --yes --json").json
    assert (again["context_id"], again["kb_id"]) == (made.json["context_id"], made.json["kb_id"])
    assert (again["context_created"], settings(local)) == (False, before)


def test_a_url_and_credentials_ask_nothing_and_go_together_from_then_on(
    person: Terminal, credentials: Credentials, elsewhere: Path, saved: Path
) -> None:
    del person.environment["XTRACE_PASSPHRASE"]
    # The address in the credentials file is how the server's own host reaches it.
    write_credentials(
        elsewhere, Credentials(credentials.org_id, credentials.admin_key, credentials.api_key, "http://127.0.0.1:1")
    )
    other = "# mine\nexport OTHER='a b' # kept\nXTRACE_KB=notes # the usual one\n\nLAST=1"
    (person.folder / ".env").write_text(other)
    line = f"init --url {credentials.api_url} --credentials {elsewhere} --yes"
    made = person(line, XTRACE_PASSPHRASE=PASSPHRASE)
    assert made.status == 0, made.err
    assert made.out.startswith(f"server          {credentials.api_url}\n")
    assert "xtrace search" in made.out
    assert settings(person) == (
        f"{other}\nXTRACE_CREDENTIALS={elsewhere}\nXTRACE_API_URL={credentials.api_url}\nXTRACE_CONTEXT=keys/context.json\n"
    )
    assert credentials.api_key not in settings(person)
    # The user named the address here, so it gets the keys from elsewhere without being asked for.
    assert [kb["name"] for kb in person("kb list --json").json] == ["notes"]
    (person.folder / ".env").write_text(settings(person).replace(credentials.api_url, "http://127.0.0.1:2"))
    person("kb list").fails("so nothing was sent")


def test_another_value_is_replaced_only_if_asked_for(
    person: Terminal, elsewhere: Path, saved: Path, credentials: Credentials
) -> None:
    shutil.copy(saved, person.folder / "context.json")
    before = "XTRACE_CREDENTIALS=others.json # of others\nXTRACE_KB=letters\n"
    (person.folder / ".env").write_text(before)
    write_credentials(person.folder / "others.json", credentials)
    line = f"init --credentials {elsewhere} --context context.json --kb letters --yes"
    refused = person(line)
    assert (refused.status, refused.out) == (2, "")
    assert "xtrace: .env has a different value of XTRACE_CREDENTIALS: add --replace to replace it\n" in refused.err
    assert settings(person) == before


def test_the_questions_lead_through_it(person: Terminal, credentials: Credentials, elsewhere: Path) -> None:
    del person.environment["XTRACE_PASSPHRASE"]
    answers = [
        credentials.api_url,
        str(elsewhere),
        "",  # the usual model
        PASSPHRASE,
        PASSPHRASE,
        "y",  # a recovery key
        "",  # it is written down
        "y",  # the context goes to the server too
        "letters",
        "The cat is asleep on the warm radiator.",
    ]
    done = person.watched("init", *answers)
    assert done.status == 0, done.err
    assert "1 " in done.out.splitlines()[0], "the numbered words of the recovery key"
    for question in (
        "The server's URL, or Enter for a private server on this machine: ",
        "The credentials file, or Enter to type the keys: ",
        "The embedding model, as PROVIDER/NAME [wordllama/l2_supercat]: ",
        "Passphrase for the new context: ",
        "Confirm passphrase: ",
        "The knowledge base [documents]: ",
        "A first document, a sentence to keep, or Enter for an example: ",
    ):
        assert question in done.err, done.err
    assert "XTRACE_KB=letters\n" in settings(person)
    (stored,) = person("context list --json").json
    assert stored["restorable"] is True


def test_the_scheme_of_a_new_context_is_chosen(person: Terminal, credentials: Credentials, elsewhere: Path) -> None:
    made = person(f"init --url {credentials.api_url} --credentials {elsewhere} --scheme lattice --yes --json")
    assert made.status == 0, made.err
    assert person("context show keys/context.json --json").json["scheme"] == "lattice"
    found = person("doctor --json").json["findings"]
    (about,) = [one["found"] for one in found if one["check"] == "context" and "lattice" in one["found"]]
    assert about.endswith("keys/context.json: lattice, 512 bits, protected by passphrase")


def test_two_passphrases_that_differ_change_nothing(person: Terminal, elsewhere: Path) -> None:
    del person.environment["XTRACE_PASSPHRASE"]
    refused = person.watched(f"init --credentials {elsewhere}", "", PASSPHRASE, WRONG_PASSPHRASE)
    assert refused.status == 1
    assert refused.err.endswith("xtrace: the two passphrases differ\n")
    assert list(person.folder.iterdir()) == []


def test_a_failure_is_one_sentence_and_loses_nothing(
    person: Terminal, credentials: Credentials, elsewhere: Path, saved: Path
) -> None:
    shutil.copy(saved, person.folder / "context.json")
    context = (person.folder / "context.json").read_bytes()

    def refused(line: str, sentence: str, status: int = 1, **variables: str) -> None:
        result = person(f"init --yes --context context.json {line}", **variables)
        assert (result.status, result.out) == (status, ""), result
        last = result.err.splitlines()[-1]
        assert last.startswith("xtrace: "), result.err
        assert sentence in last, result.err
        assert not (person.folder / ".env").exists()
        assert (person.folder / "context.json").read_bytes() == context

    refused("", "no server was given: use --url URL and --credentials FILE, or --local", 2)
    refused(f"--url http://127.0.0.1:1 --credentials {elsewhere}", "cannot reach http://127.0.0.1:1")
    refused(f"--credentials {elsewhere}", "passphrase", XTRACE_PASSPHRASE=WRONG_PASSPHRASE)
    refused("--url http://127.0.0.1:1", "XTRACE_ORG_ID or --credentials is missing", 2)
    write_credentials(elsewhere, Credentials(credentials.org_id, "", "wrong-key", credentials.api_url))
    refused(f"--credentials {elsewhere}", "key")
    person("init --local").fails("add --yes", 2)


@pytest.mark.full
def test_without_an_admin_key_the_id_is_needed(
    person: Terminal, credentials: Credentials, elsewhere: Path, saved: Path
) -> None:
    shutil.copy(saved, person.folder / "context.json")
    write_credentials(elsewhere, Credentials(credentials.org_id, "", credentials.api_key, credentials.api_url))
    made = person(f"init --credentials {elsewhere} --context context.json --yes")
    assert made.status == 0, made.err
    assert "no knowledge base was named, so no test document was stored" in made.err
    assert "XTRACE_KB" not in settings(person)


def test_a_full_disk_leaves_the_settings_as_they_were(person: Terminal, elsewhere: Path, saved: Path) -> None:
    shutil.copy(saved, person.folder / "context.json")
    before = "# " + "x" * 4000 + "\n"
    (person.folder / ".env").write_text(before)
    done = subprocess.run(
        [COMMAND, "init", "--credentials", str(elsewhere), "--context", "context.json", "--yes"],
        cwd=person.folder,
        env=person._environment({}),
        capture_output=True,
        text=True,
        check=False,
        # No file may become longer than this: what is written ends as on a full disk.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("xtrace: the settings cannot be written to .env: ")
    assert settings(person) == before
    assert sorted(path.name for path in person.folder.iterdir()) == [".env", "context.json"]


def test_a_passphrase_is_kept_only_where_it_is_asked_for(person: Terminal, elsewhere: Path, saved: Path) -> None:
    shutil.copy(saved, person.folder / "context.json")
    line = f"init --credentials {elsewhere} --context context.json --yes --kb"
    kept = person(f"{line} notes --keep-passphrase keyring")
    assert kept.status == 1
    assert "this machine has no keyring that xtrace can use" in kept.err
    kept = person(f"{line} notes --keep-passphrase dotenv")
    assert kept.status == 0, kept.err
    assert "the context does not name a model, so no test document was stored" in kept.err
    assert f"XTRACE_PASSPHRASE='{PASSPHRASE}'\n" in settings(person)
    assert "anyone who can read it and the context can decrypt everything" in kept.err


def test_the_private_server_of_a_foreign_folder_is_not_started(person: Terminal) -> None:
    (person.folder / ".env").write_text("XTRACE_LOCAL_SERVER=theirs\n")
    person("kb list").fails("names a private server")
    assert not (person.folder / "theirs").exists()


@pytest.mark.full
def test_commands_that_start_the_server_at_once_share_it(local: Terminal) -> None:
    local.environment["XTRACE_LOCAL_SERVER"] = "xtrace-data"
    with local.start("kb list --json") as first, local.start("kb list --json") as second:
        assert first.end().json == second.end().json == []
    log = (local.folder / "xtrace-data" / "server.log").read_text()
    assert log.count("serving on") == 1
    # One that was killed is started again.
    pid = local("local-server status --json").json["process_id"]
    subprocess.run(["kill", "-9", str(pid)], check=True)
    assert json.loads(local("kb list --json").out) == []
    assert local("local-server status --json").json["process_id"] != pid
