"""Loading folders into a collection on a real server: only what differs is stored, and nothing is left over."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.collecting import Model, toy_context
from support.sample_files import SAMPLES, make_samples
from support.service import LiveService
from xtrace_cli.documents import storing
from xtrace_cli.documents.loading import Loading, Wanted
from xtrace_cli.documents.records import FILTERABLE, head_of
from xtrace_cli.documents.splitting import Splitting
from xtrace_cli.documents.summary import Summary
from xtrace_cli.errors import NotConfirmed, WrongUse
from xtrace_sdk import Collection, XTraceIntegration
from xtrace_sdk.collection.record import Record
from xtrace_server.credentials import Credentials

SMALL = Splitting(100)


@pytest.fixture
async def collection(credentials: Credentials) -> AsyncIterator[Collection]:
    async with connected(credentials) as xtrace:
        yield await new_collection(xtrace)


def connected(credentials: Credentials) -> XTraceIntegration:
    return XTraceIntegration(credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url)


async def new_collection(xtrace: XTraceIntegration) -> Collection:
    kb = await xtrace.create_kb("notes")
    return Collection(xtrace, toy_context(), kb.id, embedding=Model(), filterable=FILTERABLE)


def real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def agree(_: list[PurePosixPath]) -> None:
    """Whatever is asked."""


def refuse(files: list[PurePosixPath]) -> None:
    raise NotConfirmed(f"not confirmed: {len(files)}")


async def load(
    collection: Collection | None,
    *paths: Path,
    confirm: Callable[[list[PurePosixPath]], None] = refuse,
    **how: Any,
) -> Summary:
    wanted = Wanted([real(path) for path in paths], **{"splitting": SMALL} | how)
    return await Loading(collection, wanted, confirm_removal=confirm).run()


async def stored(collection: Collection) -> dict[str, tuple[str | None, dict[str, Any]]]:
    """Everything that is in a collection, without times."""
    found = {}
    async for record in collection.iter():
        metadata = {name: value for name, value in record.metadata.items() if name != "modified"}
        found[record.id] = record.text, metadata
    return found


def counts(summary: Summary) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """New, changed, known and removed files; stored, known and removed chunks."""
    files, chunks = summary.files, summary.chunks
    return (files.new, files.changed, files.known, files.removed), (chunks.stored, chunks.known, chunks.removed)


def reasons(summary: Summary) -> dict[str, list[str]]:
    return {one.reason: one.names for one in summary.passed_over}


def paragraphs(*numbers: int) -> str:
    return "\n\n".join(f"This is what paragraph {n} has to say, and it is about {n} things in all." for n in numbers)


async def test_every_format_is_stored_with_its_metadata_and_then_known(collection: Collection, tmp_path: Path) -> None:
    make_samples(tmp_path / "files")
    first = await load(collection, tmp_path / "files", metadata={"tag1": "work", "facets": ["a", "b"], "topic": "home"})
    assert first.files.new == len(SAMPLES)
    assert await collection.count() == first.chunks.stored
    assert await collection.count({"format": "pdf", "page": 2, "topic": "home", "facets": {"$contains": "a"}}) == 1
    (page,) = [one async for one in collection.iter({"source": "files/k.pdf", "page": 2})]
    assert page.metadata.pop("modified").endswith("Z")
    assert (page.id, page.text) == ("files/k.pdf#1", "Page two.")
    assert page.metadata == {
        "source": "files/k.pdf", "format": "pdf", "title": "Book", "heading": "Chapter", "page": 2, "position": 1,
        "tag1": "work", "facets": ["a", "b"], "topic": "home",
    }  # fmt: skip
    again = await load(collection, tmp_path / "files", metadata={"tag1": "work", "facets": ["a", "b"], "topic": "home"})
    assert counts(again) == ((0, 0, len(SAMPLES), 0), (0, first.chunks.stored, 0))
    hits = await collection.search("Page two.", k=1)
    assert hits[0].record.id == "files/k.pdf#1"


async def test_what_changed_of_a_file_is_replaced_and_what_is_left_over_deleted(
    collection: Collection, tmp_path: Path
) -> None:
    file = tmp_path / "notes" / "a.txt"
    file.parent.mkdir()
    file.write_text(paragraphs(1, 2, 3, 4))
    assert counts(await load(collection, tmp_path)) == ((1, 0, 0, 0), (4, 0, 0))
    file.write_text(paragraphs(1, 2, 30))
    assert counts(await load(collection, tmp_path)) == ((0, 1, 0, 0), (2, 1, 1))  # the head says what the file is
    name = f"{tmp_path.name}/notes/a.txt"
    assert [text for text, _ in (await stored(collection)).values()] == paragraphs(1, 2, 30).split("\n\n")
    os.utime(file, (0, 0))
    assert counts(await load(collection, tmp_path)) == ((0, 0, 1, 0), (0, 3, 0))
    assert counts(await load(collection, tmp_path, metadata={"tag1": "x"})) == ((0, 1, 0, 0), (3, 0, 0))
    assert counts(await load(collection, tmp_path, splitting=Splitting(8000))) == ((0, 1, 0, 0), (1, 0, 2))
    file.write_text(" \n")
    emptied = await load(collection, tmp_path)
    assert counts(emptied) == ((0, 1, 0, 0), (0, 0, 1))
    assert reasons(emptied) == {"it contains no text": [name]}
    assert await stored(collection) == {}


async def test_vanished_files_are_removed_only_if_wanted_and_only_below_the_paths(
    collection: Collection, tmp_path: Path
) -> None:
    for name in ("notes/a.txt", "notes/sub/b.txt", "notes/sub/c.txt", "other/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(paragraphs(1))
    await load(collection, tmp_path / "notes", tmp_path / "other")
    for name in ("notes/a.txt", "notes/sub/b.txt", "other/d.txt"):
        (tmp_path / name).unlink()
    assert counts(await load(collection, tmp_path / "notes")) == ((0, 0, 1, 0), (0, 1, 0))
    assert set(await stored(collection)) == {
        "notes/a.txt#0", "notes/sub/b.txt#0", "notes/sub/c.txt#0", "other/d.txt#0",
    }  # fmt: skip
    below = await load(collection, tmp_path / "notes" / "sub", removes_vanished=True)
    assert counts(below) == ((0, 0, 1, 1), (0, 1, 1))
    assert set(await stored(collection)) == {"notes/a.txt#0", "notes/sub/c.txt#0", "other/d.txt#0"}
    await load(collection, tmp_path / "notes", removes_vanished=True)
    assert set(await stored(collection)) == {"notes/sub/c.txt#0", "other/d.txt#0"}


async def test_an_empty_folder_asks_before_its_files_are_removed(collection: Collection, tmp_path: Path) -> None:
    (tmp_path / "disk" / "notes").mkdir(parents=True)
    (tmp_path / "disk" / "notes" / "a.txt").write_text(paragraphs(1))
    (tmp_path / "disk" / "b.txt").write_text(paragraphs(2))
    await load(collection, tmp_path / "disk")
    (tmp_path / "disk" / "notes" / "a.txt").unlink()  # as if the disk were not mounted
    with pytest.raises(NotConfirmed, match="1"):
        await load(collection, tmp_path / "disk", removes_vanished=True)
    assert len(await stored(collection)) == 2
    asked: list[PurePosixPath] = []
    removed = await load(collection, tmp_path / "disk", removes_vanished=True, confirm=asked.extend)
    assert asked == [PurePosixPath("disk/notes/a.txt")]
    assert removed.files.removed == 1


async def test_what_cannot_be_read_is_not_vanished(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "notes"
    (folder / "locked").mkdir(parents=True)
    for name in ("a.json", "locked/b.txt", "large.txt", "ignored.txt", "c.txt"):
        (folder / name).write_text("[1]" if name == "a.json" else paragraphs(1))
    await load(collection, folder)
    (folder / "a.json").write_text("[")
    (folder / "large.txt").write_text("x" * 5000)
    (folder / ".xtraceignore").write_text("ignored.txt")
    scandir = os.scandir

    def refusing(path: Any) -> Any:  # as root, permissions refuse nothing
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    synced = await load(collection, folder, max_bytes=4000, removes_vanished=True)
    assert set(await stored(collection)) == {
        "notes/a.json#0",
        "notes/locked/b.txt#0",
        "notes/large.txt#0",
        "notes/c.txt#0",
    }
    assert {reason: names for reason, names in reasons(synced).items() if "JSON" not in reason} == {
        "named by an ignore file": ["notes/ignored.txt"],
        "larger than --max-size": ["notes/large.txt"],
        "not readable: Permission denied": ["notes/locked"],
    }


async def test_folders_inside_and_around_a_loaded_one_store_nothing_twice(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "me" / "notes"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.txt").write_text(paragraphs(1))
    (tmp_path / "me" / "b.txt").write_text(paragraphs(2))
    await load(collection, folder)
    monkeypatch.chdir(folder)
    for path in (Path(), folder / "sub", folder / "sub" / "a.txt"):
        assert counts(await load(collection, path)) == ((0, 0, 1, 0), (0, 1, 0))
    assert counts(await load(collection, tmp_path / "me", folder)) == ((1, 0, 1, 0), (1, 1, 0))
    assert set(await stored(collection)) == {"notes/sub/a.txt#0", "me/b.txt#0"}
    (folder / "sub" / "a.txt").unlink()
    await load(collection, tmp_path / "me", removes_vanished=True, confirm=agree)
    assert set(await stored(collection)) == {"me/b.txt#0"}


async def test_two_folders_of_one_name_are_told_apart(collection: Collection, tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "notes").mkdir(parents=True)
        (tmp_path / place / "notes" / "a.txt").write_text(paragraphs(1))
    await load(collection, tmp_path / "here" / "notes")
    with pytest.raises(WrongUse, match=r"notes is the name of .*/here/notes .*--as NAME.*--moved"):
        await load(collection, tmp_path / "there" / "notes")
    with pytest.raises(WrongUse, match="which is stored as notes"):
        await load(collection, tmp_path / "here" / "notes", name="other")
    assert counts(await load(collection, tmp_path / "there" / "notes", name="more"))[0] == (1, 0, 0, 0)
    assert set(await stored(collection)) == {"notes/a.txt#0", "more/a.txt#0"}
    assert counts(await load(collection, tmp_path / "there" / "notes"))[0] == (0, 0, 1, 0)

    shutil.move(tmp_path / "here", tmp_path / "moved")
    with pytest.raises(WrongUse, match="--moved"):
        await load(collection, tmp_path / "moved" / "notes")
    moved = await load(collection, tmp_path / "moved" / "notes", has_moved=True)
    assert counts(moved) == ((0, 1, 0, 0), (1, 0, 0))
    assert counts(await load(collection, tmp_path / "moved" / "notes"))[0] == (0, 0, 1, 0)


async def test_a_dry_run_counts_what_would_be_done_and_does_nothing(collection: Collection, tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"{n}.txt").write_text(paragraphs(n, n + 10))
    assert counts(await load(None, tmp_path, is_dry=True)) == ((3, 0, 0, 0), (6, 0, 0))
    assert counts(await load(collection, tmp_path, is_dry=True)) == ((3, 0, 0, 0), (6, 0, 0))
    assert await stored(collection) == {}
    await load(collection, tmp_path)
    before = await stored(collection)
    (tmp_path / "0.txt").unlink()
    (tmp_path / "1.txt").write_text(paragraphs(1))
    dry = await load(collection, tmp_path, is_dry=True, removes_vanished=True)
    assert counts(dry) == ((0, 1, 1, 1), (1, 2, 3))
    assert await stored(collection) == before
    assert counts(await load(collection, tmp_path, removes_vanished=True)) == counts(dry)


async def test_a_collection_of_another_program_is_filled_too(credentials: Credentials, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(paragraphs(1, 2))
    async with connected(credentials) as xtrace:
        kb = await xtrace.create_kb("letters")
        letters = Collection(xtrace, toy_context(), kb.id, embedding=Model(), filterable=["topic"])
        await letters.upsert([Record("invoice", "Unpaid.", {"topic": "finance", "file": {"digest": 1}})])
        await load(letters, tmp_path, metadata={"year": "2026"})
        assert counts(await load(letters, tmp_path, metadata={"year": "2026"})) == ((0, 0, 1, 0), (0, 2, 0))
        assert await letters.count({"year": "2026"}) == 2
        (tmp_path / "a.txt").unlink()
        await load(letters, tmp_path, metadata={"year": "2026"}, removes_vanished=True, confirm=agree)
        assert set(await stored(letters)) == {"invoice"}


# Interruptions


class Interrupted(Exception):
    pass


LONG, SHORT, NEW = (1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 30, 4), tuple(range(20, 31))
BIT_BY_BIT = [
    pytest.param(one, two, range(12), marks=pytest.mark.full) for one in ((), LONG) for two in (NEW, SHORT, ())
]


@pytest.mark.parametrize(("before", "after", "moments"), [(LONG, SHORT, (1, 2, 4, 5)), ((), NEW, (3,)), *BIT_BY_BIT])
async def test_after_an_interruption_anywhere_the_next_load_stores_the_rest(
    collection: Collection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[int, ...],
    after: tuple[int, ...],
    moments: Sequence[int],
) -> None:
    """Every write may be the last: before it happens (even moments), or after, with its answer lost."""
    monkeypatch.setattr(storing, "BATCH", 3)
    file, small = tmp_path / "a.txt", tmp_path / "b.txt"
    for moment in moments:
        await collection.clear()
        file.write_text(paragraphs(*before))
        small.write_text(paragraphs(1))
        await load(collection, tmp_path)
        file.write_text(paragraphs(*after))
        small.write_text(paragraphs(2))
        with monkeypatch.context() as patched:
            interrupting = Interrupting(moment)
            for name in ("upsert", "delete"):
                patched.setattr(Collection, name, interrupting.around(getattr(Collection, name)))
            try:
                await load(collection, tmp_path)
            except Interrupted:
                if moment % 3 == 0:  # the file changes once more before the load is run again, and is shorter now
                    file.write_text(paragraphs(*after[:2]))
        await load(collection, tmp_path)
        whole = {f"{tmp_path.name}/{one.name}": one.read_text().split("\n\n") for one in (file, small)}
        expected = {f"{name}#{i}": text for name, texts in whole.items() for i, text in enumerate(filter(None, texts))}
        assert {name: text for name, (text, _) in (await stored(collection)).items()} == expected, moment
        heads = [head_of(record) async for record in collection.iter()]
        assert all(head is None or head[1].is_complete for head in heads)


class Interrupting:
    """Lets calls through, up to a moment."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def calls(*arguments: Any) -> Any:
            self._pass()
            result = await call(*arguments)
            self._pass()
            return result

        return calls

    def _pass(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Interrupted


# Any sequence of changes

NAMES = st.sampled_from(["a.txt", "b.md", "c/d.txt", "c/e.csv", "c/f/g.json"])
TEXTS = st.lists(st.integers(0, 5), max_size=6).map(lambda numbers: paragraphs(*numbers))
CHANGES = st.one_of(
    st.tuples(st.just("write"), NAMES, TEXTS),
    st.tuples(st.just("shorten"), NAMES, st.integers(0, 120)),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("rename"), NAMES, NAMES),
    st.tuples(st.just("ignore"), NAMES),
    st.tuples(st.just("load")),
)


def change(folder: Path, what: str, *arguments: Any) -> None:
    file = folder / (arguments[0] if arguments else "")
    if what == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        text = arguments[1]
        file.write_text(f'["{len(text)}"]' if file.suffix == ".json" and len(text) % 2 else text)
    elif what == "ignore":
        (folder / ".gitignore").write_text(f"/{arguments[0]}\n")
    elif not file.is_file():
        return
    elif what == "shorten":
        file.write_text(file.read_text()[: arguments[1]])
    elif what == "delete":
        file.unlink()
    elif what == "rename":
        (folder / arguments[1]).parent.mkdir(parents=True, exist_ok=True)
        file.rename(folder / arguments[1])


@settings(
    max_examples=15 if "XTRACE_TEST_FULL" in os.environ else 6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=st.lists(CHANGES, min_size=3, max_size=14))
def test_after_any_changes_a_load_with_sync_leaves_what_a_fresh_load_stores(
    changes: list[tuple[Any, ...]], live_service: LiveService, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("changing") / "notes"
    folder.mkdir()

    async def run() -> None:
        async with connected(live_service.new_organisation()) as xtrace:
            collection, fresh = await new_collection(xtrace), await new_collection(xtrace)
            for what, *arguments in changes:
                if what == "load":
                    await load(collection, folder, removes_vanished=True, confirm=agree)
                else:
                    change(folder, what, *arguments)
            summary = await load(collection, folder, removes_vanished=True, confirm=agree)
            first = await load(fresh, folder)
            found, expected = await stored(collection), await stored(fresh)
            # What could be read before and cannot be read now is kept.
            unreadable = {name for one in first.passed_over if "JSON" in one.reason for name in one.names}
            assert {name: one for name, one in found.items() if one[1]["source"] not in unreadable} == expected
            assert (summary.files.found, summary.chunks.stored + summary.chunks.known) == (
                first.files.found,
                first.chunks.stored,
            )

    asyncio.run(run())
