"""The process that reads files. It gets no secret, and its memory is bounded.

It reads `Request`s from standard input and answers each with `Part`s and one `End`, as MessagePack frames. Files may be
hostile: damage to a reader is confined to this process.
"""

import contextlib
import hashlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from xtrace_cli.documents.formats import Format
from xtrace_cli.documents.records import Chunk
from xtrace_cli.documents.sections import Source, UnusableFile
from xtrace_cli.documents.splitting import Splitting
from xtrace_cli.documents.walking import read_file

MAX_CHUNKS: Final = 100_000
MEMORY_BYTES: Final = 2 << 30
PART_CHUNKS: Final = 250
FRAME_BYTES: Final = 8
"""The header of each frame: its length, little-endian."""


class Request(msgspec.Struct):
    """A file to read."""

    path: bytes
    format: Format
    max_bytes: int
    splitting: Splitting
    encoding: str | None = None


class Part(msgspec.Struct, tag="part"):
    """Some chunks of the file, in order."""

    chunks: list[Chunk]


class End(msgspec.Struct, tag="end"):
    """The end of a file: either everything was read, or all its parts must be discarded."""

    fault: str = ""
    """Why the file was skipped; empty if it was not."""
    content_digest: str = ""
    """The SHA-256 of the content."""
    modified: float = 0
    notes: list[str] = []


Answer = Part | End


def main() -> None:
    """Answers requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Output of libraries must not be mixed with the frames.
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - until the process ends
    warnings.simplefilter("ignore")
    _bound_memory()
    while header := requests.read(FRAME_BYTES):
        request = msgspec.msgpack.decode(requests.read(int.from_bytes(header, "little")), type=Request)
        for answer in _answers(request):
            _send(answers, answer)


def _bound_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # if the system does not support the limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _send(answers: BinaryIO, answer: Answer) -> None:
    frame = msgspec.msgpack.encode(answer)
    answers.write(len(frame).to_bytes(FRAME_BYTES, "little") + frame)
    answers.flush()


def _answers(request: Request) -> Iterator[Answer]:
    try:
        data, modified = read_file(Path(os.fsdecode(request.path)), request.max_bytes)
        source = Source(data, Path(os.fsdecode(request.path)).name, request.encoding)
        chunks = request.splitting.chunks(request.format.load_reader()(source))
        count = 0
        while part := list(islice(chunks, PART_CHUNKS)):
            count += len(part)
            if count > MAX_CHUNKS:
                raise UnusableFile(f"it has more than {MAX_CHUNKS} chunks")
            yield Part(part)
        yield End("", hashlib.sha256(data).hexdigest(), modified, source.notes)
    except Exception as error:
        yield End(_fault(error))


def _fault(error: Exception) -> str:
    if isinstance(error, UnusableFile):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be read: {error.strerror}"
    if isinstance(error, MemoryError):
        return "reading it takes too much memory"
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    if type(error) is ValueError:
        return f"it cannot be read: {error}" if str(error).isascii() and len(str(error)) < 60 else "it is damaged"
    # A library's message may contain text from the file.
    return f"it is damaged: {type(error).__name__}"


def decoded_answer(frame: bytes) -> Any:
    """Returns the answer in a frame. Raises `msgspec.DecodeError`."""
    return msgspec.msgpack.decode(frame, type=Answer)


if __name__ == "__main__":
    main()
