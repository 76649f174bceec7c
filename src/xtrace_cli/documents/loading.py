"""Loads folders into a collection: compares the files with what is stored, and sends only the difference."""

import asyncio
import hashlib
import os
import stat
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import msgspec

from xtrace_cli.documents.formats import EXTRA
from xtrace_cli.documents.reading_process import ReadingProcess
from xtrace_cli.documents.reading_worker import End, Part, Request
from xtrace_cli.documents.records import (
    FILE,
    MAX_PATH_CHARACTERS,
    Chunk,
    FileState,
    encoded_path,
    head_of,
    shown_source,
)
from xtrace_cli.documents.roots import Roots, root_text
from xtrace_cli.documents.splitting import Splitting
from xtrace_cli.documents.storing import ReadFile, Storing
from xtrace_cli.documents.summary import Summary
from xtrace_cli.documents.walking import DEFAULT_MAX_BYTES, TOO_LARGE, UNREADABLE, Found, FoundFile, Walk, read_file
from xtrace_cli.errors import WrongUse
from xtrace_sdk.collection.collection import Collection

T = TypeVar("T")

EMPTY: Final = "it contains no text"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to load, and how."""

    paths: Sequence[Path]
    """Absolute, without links."""
    splitting: Splitting = field(default_factory=Splitting)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Additional metadata for every record."""
    max_bytes: int = DEFAULT_MAX_BYTES
    with_hidden: bool = False
    encoding: str | None = None
    name: str | None = None
    """The name with which the sources of the only path begin."""
    has_moved: bool = False
    removes_vanished: bool = False
    is_dry: bool = False
    roots: Sequence[Path] = ()
    """The folders with whose names sources begin, if not those of `paths`; each path is below one."""


class Loading:
    """Loads into one collection, once or repeatedly. Reads only once what is stored."""

    def __init__(
        self,
        collection: Collection | None,
        wanted: Wanted,
        *,
        confirm_removal: Callable[[list[PurePosixPath]], None],
    ) -> None:
        """`collection` is None for a dry run into a knowledge base that does not exist.

        `confirm_removal` is called before removing the files of a folder that is now empty; it raises to refuse.
        """
        self._collection = collection
        self._wanted = wanted
        self._confirm_removal = confirm_removal
        self._stored: dict[PurePosixPath, FileState] | None = None
        self._digests: dict[Path, tuple[tuple[int, ...], str]] = {}
        self.summary = Summary()
        """The summary of the current or most recent load."""

    async def run(self, progress: Callable[[int, int], object] = lambda _done, _files: None) -> Summary:
        """Loads once. `progress` is called with the number of processed files and the total.

        Raises `WrongUse`, what `confirm_removal` raises, and what `Collection` raises."""
        started = time.monotonic()
        self.summary = summary = Summary(dry_run=self._wanted.is_dry)
        stored = await self._known()
        roots = self._roots(stored)
        found = await asyncio.to_thread(self._find)
        vanished = self._vanished(stored, roots, found) if self._wanted.removes_vanished else []
        for path, reason in sorted(found.passed_over.items()):
            summary.pass_over(_shown(roots, path), reason)
        summary.files.found = len(found.files)
        storing = None
        if self._collection is not None:
            summary.kb_id = self._collection.kb_id
            storing = Storing(self._collection, self._wanted.metadata, summary, is_dry=self._wanted.is_dry)
        try:
            await self._store_all(found.files, roots, stored, storing, progress)
            if storing is not None:
                await storing.delete([(source, stored[source]) for source in vanished])
            summary.files.removed = len(vanished)
            for source in () if self._wanted.is_dry else vanished:
                del stored[source]
        except BaseException:
            self._stored = None  # some of it may not have been stored
            raise
        finally:
            if storing is not None:
                await storing.abandon()
            summary.seconds = round(time.monotonic() - started, 3)
        return summary

    async def _known(self) -> dict[PurePosixPath, FileState]:
        if self._stored is None:
            self._stored = {}
            if self._collection is not None:
                records = self._collection.iter({FILE: {"$exists": True}})
                async with aclosing(records):
                    async for record in records:
                        if (head := head_of(record)) is not None:
                            self._stored[head[0]] = head[1]
        return self._stored

    def _roots(self, stored: Mapping[PurePosixPath, FileState]) -> Roots:
        roots = Roots(stored.items())
        for path in self._wanted.roots or self._wanted.paths:
            roots.add(path, self._wanted.name, has_moved=self._wanted.has_moved)
        return roots

    def _find(self) -> Found:
        found, walk = Found(), Walk(self._wanted.max_bytes, self._wanted.with_hidden)
        for path in self._wanted.paths:
            if not any(path != other and path.is_relative_to(other) for other in self._wanted.paths):
                walk.run(path, found)
        return found

    # Storing

    async def _store_all(
        self,
        files: Sequence[FoundFile],
        roots: Roots,
        stored: dict[PurePosixPath, FileState],
        storing: Storing | None,
        progress: Callable[[int, int], object],
    ) -> None:

        async def read() -> AsyncGenerator[ReadFile, None]:
            async with ReadingProcess() as process:
                for done, file in enumerate(files, start=1):
                    if (one := await self._read(file, roots, stored, process)) is not None:
                        yield one
                    progress(done, len(files))

        ahead = one_ahead(read())
        async with aclosing(ahead):
            async for one in ahead:
                await self._store(one, stored, storing)
        if storing is not None:
            await storing.finish()

    async def _store(self, one: ReadFile, stored: dict[PurePosixPath, FileState], storing: Storing | None) -> None:
        if storing is None:
            self.summary.chunks.stored += len(one.chunks)
        else:
            await storing.store(one)
        if one.chunks and not self._wanted.is_dry:
            stored[one.source] = one.state
        elif not self._wanted.is_dry:
            stored.pop(one.source, None)
        if one.chunks and one.before is None:
            self.summary.files.new += 1
        else:
            self.summary.files.changed += 1

    async def _read(
        self, file: FoundFile, roots: Roots, stored: Mapping[PurePosixPath, FileState], process: ReadingProcess
    ) -> ReadFile | None:
        """Returns the file's chunks; None if it is stored unchanged, or skipped."""
        root = roots.of(file.path)
        source = root.source(file.path)
        before = stored.get(source)
        if len(encoded_path(source)) > MAX_PATH_CHARACTERS:
            return self._passed_over(source, f"its path has more than {MAX_PATH_CHARACTERS} characters")
        if not file.format.is_installed:
            return self._passed_over(source, f"{file.format.name} files need: pip install 'xtracedb[{EXTRA}]'")
        try:
            content = await asyncio.to_thread(self._content_digest, file.path)
        except OSError as error:
            return self._passed_over(source, f"{UNREADABLE}: {error.strerror}")
        except ValueError as error:
            return self._passed_over(source, str(error))
        digest = self._digest(content, file, source)
        if before is not None and before.is_complete and (before.root, before.digest) == (root_text(root), digest):
            self.summary.files.known += 1
            self.summary.chunks.known += before.chunks
            return None
        chunks, end = await self._chunks(process, file)
        if end.fault:
            return self._passed_over(source, end.fault)
        for note in end.notes:
            self.summary.note(shown_source(source), note)
        if not chunks:
            self.summary.pass_over(shown_source(source), EMPTY)
            if before is None:
                return None
        state = FileState(self._digest(end.content_digest, file, source), len(chunks), root_text(root))
        return ReadFile(source, file.format.name, end.modified, state, chunks, before)

    async def _chunks(self, process: ReadingProcess, file: FoundFile) -> tuple[list[Chunk], End]:
        wanted = self._wanted
        request = Request(os.fsencode(file.path), file.format, wanted.max_bytes, wanted.splitting, wanted.encoding)
        chunks: list[Chunk] = []
        answers: AsyncGenerator[Part | End, None] = process.read(request)
        async with aclosing(answers):
            async for answer in answers:
                if isinstance(answer, End):
                    return chunks, answer
                chunks += answer.chunks
        return chunks, End("it was not read completely")

    def _passed_over(self, source: PurePosixPath, reason: str) -> ReadFile | None:
        self.summary.pass_over(shown_source(source), reason)
        return None

    def _content_digest(self, path: Path) -> str:
        """Returns the SHA-256 of the content; reuses the last one if the file seems unchanged."""
        status = path.lstat()
        version = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        known = self._digests.get(path)
        if known is None or known[0] != version:
            data, _ = read_file(path, self._wanted.max_bytes)
            known = self._digests[path] = version, hashlib.sha256(data).hexdigest()
        return known[1]

    def _digest(self, content: str, file: FoundFile, source: PurePosixPath) -> str:
        """Returns a hash of everything that determines what is stored of a file."""
        decides = [
            content,
            encoded_path(source),
            file.format.name,
            file.format.version,
            self._wanted.splitting.size,
            self._wanted.splitting.overlap,
            self._wanted.encoding,
            dict(self._wanted.metadata),
        ]
        return hashlib.sha256(msgspec.json.encode(decides, order="sorted")).hexdigest()

    # Removing

    def _vanished(self, stored: Mapping[PurePosixPath, FileState], roots: Roots, found: Found) -> list[PurePosixPath]:
        """Returns the stored files below the paths that no longer exist or are no longer loaded. Asks if needed."""
        below = {source for path in self._wanted.paths for source in roots.below(path)}
        kept = {roots.of(file.path).source(file.path) for file in found.files}
        vanished, doubtful = [], []
        for source, state in stored.items():
            if source in kept or below.isdisjoint((source, *source.parents)):
                continue
            path = roots.path_of(source, state)
            if not _is_gone(path, found):
                continue
            vanished.append(source)
            if not found.empty_folders.isdisjoint(path.parents):
                doubtful.append(source)
        if doubtful and not self._wanted.is_dry:
            self._confirm_removal(doubtful)
        return vanished


def _is_gone(path: Path, found: Found) -> bool:
    """Whether a stored file certainly must no longer be stored. A file that may exist but cannot be read is kept."""
    if not found.unreadable.isdisjoint((path, *path.parents)):
        return False
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    # It exists, but is skipped: an ignore file names it, it is hidden, or it is no longer a regular file.
    reasons = [reason for one in (path, *path.parents) if (reason := found.passed_over.get(one))]
    return bool(reasons) and (reasons[0] != TOO_LARGE or not stat.S_ISREG(status.st_mode))


def _shown(roots: Roots, path: Path) -> str:
    try:
        return shown_source(roots.of(path).source(path))
    except WrongUse:  # the folder itself
        return shown_source(PurePosixPath(path.as_posix()))


async def one_ahead(items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yields the items, and prepares the next one while one is in use."""
    coming = asyncio.ensure_future(anext(items, None))
    try:
        while (item := await coming) is not None:
            coming = asyncio.ensure_future(anext(items, None))
            yield item
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await items.aclose()
