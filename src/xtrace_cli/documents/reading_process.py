"""Reads files in a separate process, which is restarted if a file takes too long or crashes it."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple, Self

import msgspec

from xtrace_cli.documents.reading_worker import FRAME_BYTES, Answer, End, Part, Request, decoded_answer

FILE_SECONDS: Final = 60
"""The maximum time for one file."""
_MAX_FRAME_BYTES: Final = 1 << 28
_KEPT_VARIABLES: Final = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LC_CTYPE", "SYSTEMROOT", "TMPDIR")
"""The environment variables that the process gets; none contains a secret."""


class _Pipes(NamedTuple):
    requests: asyncio.StreamWriter
    answers: asyncio.StreamReader


class ReadingProcess:
    """Starts the process with the first file, and again after it had to be killed. Use it with `async with`."""

    def __init__(self, seconds: float = FILE_SECONDS) -> None:
        self._seconds = seconds
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def read(self, request: Request) -> AsyncGenerator[Part | End, None]:
        """Yields the file's chunks in parts, and an `End` last. Only reading counts towards the time limit."""
        clock, left, is_done, fault = asyncio.get_running_loop().time, self._seconds, False, ""
        try:
            async with asyncio.timeout(left):
                process = await self._sent(request)
            while not is_done:
                started = clock()
                async with asyncio.timeout(left):
                    answer = await _received(process)
                left -= clock() - started
                is_done = isinstance(answer, End)
                yield answer
        except TimeoutError:
            fault = f"reading it takes longer than {self._seconds:.0f} s"
        except (OSError, EOFError, msgspec.DecodeError):
            fault = "the process that read it died of it, perhaps for lack of memory"
        finally:
            if not is_done:
                await self._end()
        if fault:
            yield End(fault)

    async def _sent(self, request: Request) -> _Pipes:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # never import from the folder that is being loaded
                "-m",
                "xtrace_cli.documents.reading_worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                env={name: value for name in _KEPT_VARIABLES if (value := os.environ.get(name)) is not None},
            )
        if self._process.stdin is None or self._process.stdout is None:
            raise EOFError
        pipes = _Pipes(self._process.stdin, self._process.stdout)
        frame = msgspec.msgpack.encode(request)
        pipes.requests.write(len(frame).to_bytes(FRAME_BYTES, "little") + frame)
        await pipes.requests.drain()
        return pipes

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _received(pipes: _Pipes) -> Answer:
    length = int.from_bytes(await pipes.answers.readexactly(FRAME_BYTES), "little")
    if length > _MAX_FRAME_BYTES:
        raise EOFError
    answer: Answer = decoded_answer(await pipes.answers.readexactly(length))
    return answer
