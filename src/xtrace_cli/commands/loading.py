"""The work of `xtrace load`: checks the options, loads, shows progress, and prints a summary."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, NoReturn

from xtrace_cli.documents.decoding import known_encoding
from xtrace_cli.documents.loading import Loading, Wanted
from xtrace_cli.documents.records import FACETS, OWN_FIELDS, TAGS, shown_source
from xtrace_cli.documents.splitting import Splitting
from xtrace_cli.documents.summary import PassedOver, Summary
from xtrace_cli.errors import UnknownKnowledgeBase, WrongUse
from xtrace_cli.output import confirm, note, say, show, table
from xtrace_cli.progress import long_work
from xtrace_cli.workspace import Given, Workspace, with_workspace
from xtrace_sdk.collection.collection import Collection
from xtrace_sdk.errors import InaccessibleFile, InvalidDocument, XTraceError

_RETRY_S: Final = 30
_NAMED: Final = 3
"""The number of names to show for files that were skipped for the same reason."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The options of the command."""

    kb: str | None
    chunk_size: int
    overlap: int
    tags: Mapping[str, str]
    facets: Sequence[str]
    metadata: Sequence[str]
    max_bytes: int | None
    with_hidden: bool
    encoding: str | None
    name: str | None
    has_moved: bool
    removes_vanished: bool
    goes_on: bool
    is_dry: bool
    yes: bool
    as_json: bool


def load_and_report(paths: Sequence[Path], options: LoadOptions, given: Given) -> None:
    """Loads, and prints what was done. Raises `XTraceError`."""
    wanted = _wanted(paths, options)

    async def act(workspace: Workspace) -> None:
        collection = await _collection(workspace, options)
        loading = Loading(collection, wanted, confirm_removal=lambda files: _confirm(files, options.yes))
        try:
            if options.goes_on:
                await _watch(loading, wanted, options)
            summary = await _run(loading)
        except BaseException:  # Ctrl-C too
            _note_interrupted(loading.summary)
            raise
        _report(summary, options.as_json)
        if not (summary.files.found or summary.files.removed):
            raise InvalidDocument(f"{_listed(paths)} contains no file of a supported format: nothing was loaded")

    with_workspace(given, act)


# Options


def _wanted(paths: Sequence[Path], options: LoadOptions) -> Wanted:
    splitting = Splitting(options.chunk_size, options.overlap)
    if options.overlap > splitting.largest_overlap:
        raise WrongUse(
            f"--overlap is {options.overlap}, expected at most {splitting.largest_overlap} for chunks of "
            f"{options.chunk_size} characters"
        )
    if options.encoding is not None and known_encoding(options.encoding) is None:
        raise WrongUse(f"--encoding is {options.encoding}, expected an encoding such as utf-8, koi8-r or shift_jis")
    if options.max_bytes is None:
        raise WrongUse("--max-size is none, expected a size such as 100MiB, because files are read into memory")
    if options.name is not None and (len(paths) > 1 or not options.name or "/" in options.name):
        raise WrongUse("--as names one folder: give one PATH, and a name without /")
    return Wanted(
        [_real(path) for path in paths],
        splitting,
        {**options.tags, **({FACETS: list(options.facets)} if options.facets else {}), **_metadata(options.metadata)},
        options.max_bytes,
        options.with_hidden,
        options.encoding,
        options.name,
        options.has_moved,
        options.removes_vanished,
        options.is_dry,
    )


def _metadata(given: Sequence[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals):
            raise WrongUse(f"--metadata is {one!r}, expected NAME=TEXT")
        if name in fields or name in OWN_FIELDS or name.startswith("$"):
            raise WrongUse(
                f"--metadata names {name}, expected each name once, and none of: {', '.join(sorted(OWN_FIELDS))}"
            )
        if name in (*TAGS, FACETS):
            raise WrongUse(f"--metadata names {name}: use --{name if name in TAGS else 'facet'}")
        fields[name] = value
    return fields


def _real(path: Path) -> Path:
    """Returns the path without links. Raises `InaccessibleFile` if it is missing: a disk may not be mounted."""
    try:
        real = Path(os.path.realpath(path, strict=True))
        real.stat()
    except OSError as error:
        raise InaccessibleFile(f"{_shown(path)} cannot be loaded: {error.strerror}") from None
    if not (real.is_dir() or real.is_file()):
        raise InaccessibleFile(f"{_shown(path)} cannot be loaded: it is neither a file nor a folder")
    return real


def _shown(path: Path) -> str:
    return shown_source(PurePosixPath(path.as_posix()))


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(map(_shown, paths[:_NAMED])) + (" …" if len(paths) > _NAMED else "")


# The collection


async def _collection(workspace: Workspace, options: LoadOptions) -> Collection | None:
    """Returns the collection, created if something will be stored; None for one that a dry run would create."""
    try:
        collection = await workspace.document_collection(options.kb, create=not options.is_dry)
    except UnknownKnowledgeBase:
        if not options.is_dry or not workspace.xtrace.admin_key:
            raise
        return None
    await _note_other_contexts(workspace, collection.kb_id, options.kb)
    return collection


async def _note_other_contexts(workspace: Workspace, kb_id: str, name: str | None) -> None:
    contexts = await workspace.xtrace.get_ctx_for_kb(kb_id)
    if contexts and not {one.id for one in workspace.context.lineage}.intersection(contexts):
        note(
            f"{workspace.kb_name(name)} has chunks of another context: a search finds only chunks stored under its "
            "own context"
        )


# While it runs


async def _run(loading: Loading) -> Summary:
    with long_work("Loading files") as work:

        def show_progress(done: int, files: int) -> None:
            work.set_total(files)
            work.advance(done - work.done)

        return await loading.run(show_progress)


def _confirm(files: list[PurePosixPath], yes: bool) -> None:
    """Asks a question that Ctrl-C ends at once, although an event loop is running."""
    folders = sorted({shown_source(one.parent) for one in files})
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        confirm(
            f"{', '.join(folders[:_NAMED])}{' and others' if len(folders) > _NAMED else ''} is empty, and {len(files)} "
            "files of it are stored: remove them?",
            yes,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def _note_interrupted(summary: Summary) -> None:
    chunks = summary.chunks
    if not summary.dry_run and (chunks.stored or chunks.removed):
        note(
            f"{chunks.stored} chunks are stored, {chunks.known} were already there: run the same command again to "
            f"continue"
        )


async def _watch(loading: Loading, wanted: Wanted, options: LoadOptions) -> NoReturn:
    from watchfiles import awatch

    # Collect the operating system's reports from before the first load, so that no change is missed.
    changes = awatch(*wanted.paths, watch_filter=None, raise_interrupt=False)
    coming = asyncio.ensure_future(anext(changes, None))
    try:
        await asyncio.sleep(0)
        has_failed = await _load_again(loading, options, is_first=True)
        while True:
            await asyncio.wait({coming}, timeout=_RETRY_S if has_failed else None)
            if coming.done():
                coming.result()
                coming = asyncio.ensure_future(anext(changes, None))
            has_failed = await _load_again(loading, options, is_first=False)
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await changes.aclose()


async def _load_again(loading: Loading, options: LoadOptions, *, is_first: bool) -> bool:
    """Returns whether the load failed. Only errors of the first load end the command: later, the server may be
    unavailable for a while."""
    try:
        summary = await _run(loading)
    except XTraceError as error:
        if is_first:
            raise
        note(f"{error}; trying again within {_RETRY_S} s")
        return True
    if is_first:
        _report(summary, options.as_json)
        note("watching for changes; press Ctrl-C to stop")
    elif summary.chunks.stored or summary.chunks.removed:
        if options.as_json:
            _report(summary, as_json=True)
        else:
            note(f"{summary.chunks.stored} chunks were stored and {summary.chunks.removed} removed")
    return False


# At the end


def _report(summary: Summary, as_json: bool) -> None:
    show(summary, as_json, lambda: _print(summary))


def _print(summary: Summary) -> None:
    files, chunks = summary.files, summary.chunks
    for one in summary.notes:
        for name in one.names:
            note(f"{name} {one.reason}")
        if one.count > len(one.names):
            note(f"and {one.count - len(one.names)} other files: {one.reason}")
    table(
        ("WOULD BE" if summary.dry_run else "", "FILES", "CHUNKS"),
        [
            ("new", files.new, ""),
            ("changed", files.changed, ""),
            ("stored", files.new + files.changed, chunks.stored),
            ("unchanged", files.known, chunks.known),
            ("removed", files.removed, chunks.removed),
            ("skipped", sum(one.count for one in summary.passed_over), ""),
        ],
    )
    for one in sorted(summary.passed_over, key=lambda one: -one.count):
        _print_passed_over(one)
    note(f"it took {summary.seconds:.1f} s")


def _print_passed_over(one: PassedOver) -> None:
    names = ", ".join(one.names[:_NAMED]) + (f" and {one.count - _NAMED} others" if one.count > _NAMED else "")
    say(f"  {one.count} skipped: {one.reason} ({names})")
