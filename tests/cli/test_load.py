"""`xtrace load` as people meet it: what it prints, what bad input gets, and that it can be stopped at any time."""

import asyncio
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import PASSPHRASE, WRONG_PASSPHRASE
from support.collecting import Model, toy_context
from support.inside import Inside
from support.library import LOCKED, furnish, shell_in
from support.sample_files import SAMPLES, make_samples
from support.service import LiveService
from support.terminal import Running, Terminal
from xtrace_cli.shell.session import Session
from xtrace_sdk import Collection, Record, XTraceIntegration
from xtrace_sdk.sync import XTraceIntegration as BlockingIntegration
from xtrace_server.credentials import Credentials


@pytest.fixture(scope="module")
def owner(live_service: LiveService) -> Credentials:
    """The organisation of the desk."""
    return live_service.new_organisation()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, owner: Credentials, made_keys: Path) -> Iterator[Terminal]:
    """A shell in a folder with a context; each test takes a knowledge base and a folder of its own."""
    folder = tmp_path_factory.mktemp("desk")
    furnish(folder, owner, made_keys, [])
    terminal = shell_in(folder)
    yield terminal
    for text in terminal.seen:
        for secret in (PASSPHRASE, WRONG_PASSPHRASE, owner.admin_key, owner.api_key):
            assert secret not in text
        assert "\x1b]" not in text
        assert "Traceback" not in text


@pytest.fixture(scope="module")
def inside(desk: Terminal) -> Iterator[Inside]:
    """Commands in the same folder, as the shell carries them out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk.folder)
        for name, value in {**desk.environment, "COLUMNS": "80", "NO_COLOR": "1"}.items():
            patch.setenv(name, value)
        with Session() as session:
            yield Inside(session, desk)


def write(folder: Path, **texts: str) -> Path:
    """Files of text, `a__b` for b.md in the folder a."""
    for name, text in texts.items():
        file = folder / f"{name.replace('__', '/')}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def chunks(owner: Credentials, kb: str) -> int:
    """How many chunks a knowledge base has, with the one that the collection keeps about itself; 0 without one."""
    with BlockingIntegration(owner.org_id, owner.api_key, owner.admin_key, owner.api_url) as xtrace:
        return next((one.number_of_vectors for one in xtrace.list_kbs() if one.name == kb), 0)


def test_the_first_run_stores_everything_and_the_next_one_what_differs(inside: Inside, desk: Terminal) -> None:
    notes = write(desk.folder / "first", soup="# Soup\nHot.", cat="The cat is asleep.", sub__tea="Green tea.")
    (notes / "data.bin").write_bytes(b"\0")
    (notes / "old.txt").write_bytes("Café".encode("latin-1"))
    loaded = inside("load first --kb first")
    assert loaded.text == (
        "           FILES  CHUNKS\n"
        "new        4\n"
        "changed    0\n"
        "stored     4      4\n"
        "unchanged  0      0\n"
        "removed    0      0\n"
        "skipped    1\n"
        "  1 skipped: not a format that can be loaded (first/data.bin)"
    )
    assert re.fullmatch(
        r"xtrace: first/old\.txt is not valid UTF-8 and was read as Windows-1252; name another encoding with "
        r"--encoding\nxtrace: it took \d+\.\d s\n",
        loaded.err,
    )
    assert "The cat is asleep." in inside("search 'Which animal is napping?' --kb first -k 1").text

    write(notes, soup="# Soup\nCold.")
    (notes / "cat.md").unlink()
    changed = inside("xvec load first --kb first --sync --json").json
    assert changed.pop("seconds") > 0
    assert changed == {
        "kb_id": changed["kb_id"],
        "dry_run": False,
        "files": {"found": 3, "new": 0, "changed": 1, "known": 2, "removed": 1},
        "chunks": {"stored": 1, "known": 2, "removed": 1},
        "passed_over": [
            {"reason": "not a format that can be loaded", "count": 1, "names": ["first/data.bin"]},
        ],
        "notes": [],
    }


def test_a_dry_run_creates_nothing(inside: Inside, desk: Terminal, owner: Credentials) -> None:
    write(desk.folder / "dry", soup="Hot.")
    dry = inside("load dry --kb dry --dry-run").text
    assert dry.splitlines()[0].split() == ["WOULD", "BE", "FILES", "CHUNKS"]
    assert re.search(r"^stored +1 +1$", dry, re.MULTILINE)
    with BlockingIntegration(owner.org_id, owner.api_key, owner.admin_key, owner.api_url) as xtrace:
        assert "dry" not in [kb.name for kb in xtrace.list_kbs()]


def test_every_format_is_found_by_what_it_says(inside: Inside, desk: Terminal) -> None:
    make_samples(desk.folder / "samples")
    loaded = inside("load samples --kb samples --tag1 work --facet a --facet b --metadata topic=home --json").json
    assert loaded["files"]["new"] == len(SAMPLES)
    found = inside("search 'page one says hello' --kb samples -k 1 --json").json["hits"][0]
    assert (found["source"], found["place"]) == ("samples/k.pdf", "page 1")
    for condition in ('{"format": "docx"}', '{"tag1": "work", "page": 2}', '{"facets": {"$contains": "b"}}'):
        assert inside(f"search anything --kb samples --where '{condition}' --json").json["hits"]
    assert not inside("""search anything --kb samples --where '{"topic": "work"}' --json""").json["hits"]


@pytest.mark.parametrize(
    ("line", "sentence", "status"),
    [
        ("nowhere", "nowhere cannot be loaded: No such file or directory", 1),
        ("empty", "empty contains no file of a supported format: nothing was loaded", 1),
        ("pipe", "pipe cannot be loaded: it is neither a file nor a folder", 1),
        ("empty --chunk-size 100 --overlap 44", "--overlap is 44, expected at most 43 for chunks of 100", 2),
        ("empty --encoding klingon", "--encoding is klingon, expected an encoding such as utf-8", 2),
        ("empty --encoding base64", "--encoding is base64, expected an encoding such as utf-8", 2),
        ("empty --max-size 1MB", "--max-size is not valid, expected a whole number", 2),
        ("empty --max-size none", "--max-size is none, expected a size such as 100MiB", 2),
        ("empty empty --as x", "--as names one folder: give one PATH", 2),
        ("empty --as a/b", "a name without /", 2),
        ("empty --metadata topic", "--metadata is 'topic', expected NAME=TEXT", 2),
        ("empty --metadata source=x", "--metadata names source, expected each name once, and none of: cell, file", 2),
        ("empty --metadata a=1 --metadata a=2", "--metadata names a, expected each name once", 2),
        ("empty --metadata tag1=x", "--metadata names tag1: use --tag1", 2),
        ("/", "/ has no name: choose a name for its sources with --as NAME", 2),
    ],
)
def test_bad_input_is_one_sentence(inside: Inside, desk: Terminal, line: str, sentence: str, status: int) -> None:
    (desk.folder / "empty").mkdir(exist_ok=True)
    if not (desk.folder / "pipe").exists():
        os.mkfifo(desk.folder / "pipe")
    refused = inside(f"load {line} --kb bad")
    assert refused.status == status, refused
    assert sentence in refused.err.splitlines()[-1], refused.err


def test_a_folder_of_the_same_name_says_what_to_do(inside: Inside, desk: Terminal) -> None:
    for place in ("here", "there"):
        write(desk.folder / place / "same", a=f"This is {place}.")
    assert inside("load here/same --kb same").status == 0
    refused = inside("load there/same --kb same")
    assert refused.status == 2
    assert "same is the name of " in refused.err
    assert "store it under another name with --as NAME" in refused.err
    assert inside("load there/same --kb same --as other").status == 0
    assert len(inside("search anything --kb same --json").json["hits"]) == 2


def test_an_empty_folder_is_asked_about(inside: Inside, desk: Terminal) -> None:
    disk = write(desk.folder / "disk", a="Hot.")
    assert inside("load disk --kb disk").status == 0
    (disk / "a.md").unlink()
    inside("load disk --kb disk --sync").fails("cannot ask for confirmation when not interactive: add --yes", status=2)
    refused = desk.watched("load disk --kb disk --sync", "n")
    assert "disk is empty, and 1 files of it are stored: remove them? [y/N]" in refused.err
    assert "not confirmed, so nothing was changed" in refused.err
    shutil.move(disk, desk.folder / "unplugged")
    inside("load disk --kb disk --sync --yes").fails("disk cannot be loaded: No such file or directory")
    shutil.move(desk.folder / "unplugged", disk)
    assert inside("load disk --kb disk --sync --yes --json").json["chunks"]["removed"] == 1


def test_what_the_server_refuses_is_one_sentence(desk: Terminal, owner: Credentials) -> None:
    write(desk.folder / "notes", a="Hot.")
    desk("load notes", XTRACE_API_URL="http://127.0.0.1:1").fails("http://127.0.0.1:1")
    desk(f"load notes --context {LOCKED}", XTRACE_PASSPHRASE=WRONG_PASSPHRASE).fails("passphrase or key is wrong")
    with BlockingIntegration(owner.org_id, owner.api_key, owner.admin_key, owner.api_url) as xtrace:
        kb, key = xtrace.create_kb("read only"), xtrace.create_api_key("reader")
        xtrace.set_key_permission(key.api_key.hash, kb.id, 1)
    reading = {"XTRACE_API_KEY": key.secret_key, "XTRACE_ADMIN_KEY": ""}
    refused = desk(f"load notes --kb {kb.id}", **reading)
    assert (refused.status, refused.out) == (1, "")
    assert refused.err.count("\n") == 1, refused.err


async def test_a_knowledge_base_of_another_context_is_said_once(desk: Terminal, owner: Credentials) -> None:
    write(desk.folder / "notes", a="Hot.")
    async with XTraceIntegration(owner.org_id, owner.api_key, owner.admin_key, owner.api_url) as xtrace:
        other = await Collection.open(xtrace, toy_context(), "both", embedding=Model())
        await other.upsert([Record("a", "Cold.")])
    said = "xtrace: both has chunks of another context: a search finds only chunks stored under its own context"
    # In a thread, because a command has an event loop of its own.
    assert said in (await asyncio.to_thread(desk, "load notes --kb both")).err
    assert said not in (await asyncio.to_thread(desk, "load notes --kb both")).err


def test_names_and_texts_of_every_kind_are_printed(desk: Terminal) -> None:
    odd = desk.folder / "odd"
    write(odd, a="Hot.")
    (odd / "steering\x1b]0;x\x07.bin").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(odd) + b"/caf\xe9.txt")).write_bytes(b"\xe9")
    ended = desk("load odd --kb odd", PYTHONIOENCODING="ascii", COLUMNS="40")
    assert ended.status == 0
    assert "odd/caf%E9.txt is not valid UTF-8" in ended.err
    assert "odd/steering" in ended.text


# Stopped


def many(folder: Path, files: int) -> Path:
    """So much that a load of it can be stopped in its middle."""
    folder.mkdir()
    for n in range(files):
        text = "\n\n".join(f"Letter {n}, part {part}: " + f"nothing new on day {n}. " * 8 for part in range(60))
        (folder / f"{n:03}.txt").write_text(text)
    return folder


def wait_for_chunks(running: Running, owner: Credentials, kb: str) -> int:
    while (count := chunks(owner, kb)) < 2:
        assert running.process.poll() is None
        time.sleep(0.05)
    return count


@pytest.mark.parametrize(
    ("number", "files"), [(signal.SIGINT, 30), pytest.param(signal.SIGKILL, 60, marks=pytest.mark.full)]
)
def test_a_run_that_was_stopped_is_completed_by_the_next(
    desk: Terminal, inside: Inside, owner: Credentials, number: signal.Signals, files: int
) -> None:
    kb = f"stopped{number}"
    many(desk.folder / kb, files)
    line = f"load {kb} --kb {kb} --chunk-size 250 --json"
    with desk.start(line) as first:
        wait_for_chunks(first, owner, kb)
        stopped = first.stop(number)
    if number == signal.SIGINT:
        assert stopped.status == 130
        assert re.fullmatch(
            r"(xtrace: \d+ chunks are stored, 0 were already there: run the same command again to continue\n)?"
            r"xtrace: stopped\n",
            stopped.err,
        ), stopped.err
    before = chunks(owner, kb) - 1
    assert 0 < before < files * 60
    rest = inside(line).json["chunks"]
    assert rest["stored"] + rest["known"] == files * 60  # a request that was under way may be stored since
    assert chunks(owner, kb) - 1 == files * 60
    assert inside(line).json["chunks"] == {"stored": 0, "known": files * 60, "removed": 0}


def test_watching_stores_what_changes(desk: Terminal, inside: Inside) -> None:
    folder = write(desk.folder / "watched", a="Hot.")
    with desk.start("load watched --kb watched --watch --sync --yes") as watching:
        watching.wait_for("watching for changes", error=True)
        write(folder, b="The kettle is whistling.")
        assert "1 chunks were stored and 0 removed" in watching.wait_for("removed", error=True)
        assert "kettle" in inside("search kettle --kb watched -k 1").text
        (folder / "a.md").unlink()
        assert "0 chunks were stored and 1 removed" in watching.wait_for("removed", error=True)
        stopped = watching.stop(signal.SIGINT)
    assert stopped.status == 130
    hits = inside("search anything --kb watched --json").json["hits"]
    assert [hit["source"] for hit in hits] == ["watched/b.md"]
