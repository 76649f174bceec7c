"""A TCP proxy that keeps every byte that passes, and a search for texts in such a record in all likely disguises."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import numpy as np


class Recording:
    """What went through a proxy, in both directions."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.data = bytearray()


@asynccontextmanager
async def recording_proxy(server_url: str) -> AsyncIterator[Recording]:
    """Stands in front of an HTTP server on this machine; give clients the recording's `url`."""
    target = urlsplit(server_url)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            recording.data += data
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(target.hostname, target.port)
        task = asyncio.gather(pump(reader, server_writer), pump(server_reader, writer), return_exceptions=True)
        connections.append((task, writer, server_writer))
        await task

    connections: list[tuple[asyncio.Future[Any], asyncio.StreamWriter, asyncio.StreamWriter]] = []
    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    recording = Recording(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    async with listener:
        yield recording
    for task, *writers in connections:
        for writer in writers:
            writer.close()
        await asyncio.gather(task, *[writer.wait_closed() for writer in writers], return_exceptions=True)


def disguises(mark: bytes) -> dict[str, bytes]:
    """The bytes as they are, in hexadecimal, in base64 at each of the three alignments, and texts also otherwise."""
    forms = {"raw": mark, "reversed": mark[::-1], "hex": mark.hex().encode(), "HEX": mark.hex().upper().encode()}
    for shift in range(3):
        # Characters that also encode a neighbour's bits are cut off.
        encoded = base64.b64encode(bytes(shift) + mark)
        forms[f"base64+{shift}"] = encoded[4 if shift else 0 : len(encoded) // 4 * 4 - 4]
    try:
        text = mark.decode()
    except UnicodeDecodeError:
        return forms
    return forms | {
        "utf-16-le": text.encode("utf-16-le"),
        "utf-16-be": text.encode("utf-16-be"),
        "json": json.dumps(text)[1:-1].encode(),
    }


def found(marks: Mapping[str, bytes], haystack: bytes) -> list[str]:
    """Which marks occur in a record, and in which disguise."""
    forms = {f"{name} ({form})": value for name, mark in marks.items() for form, value in disguises(mark).items()}
    present = contained(list(forms.values()), haystack)
    return [name for name, value in forms.items() if value in present]


def contained(needles: Sequence[bytes], haystack: bytes) -> set[bytes]:
    """Those of many needles that occur in a long haystack, looked for all at once.

    Four bytes of each needle are looked up at every position of the haystack; what has them is compared.
    """
    present = {needle for needle in needles if len(needle) < _KEY_BYTES and needle in haystack}
    by_key: dict[int, set[tuple[bytes, int]]] = {}
    for needle in needles:
        if len(needle) >= _KEY_BYTES:
            start = _unlikely(needle)
            key = int.from_bytes(needle[start : start + _KEY_BYTES], "little")
            by_key.setdefault(key, set()).add((needle, start))
    keys = np.array(sorted(by_key), dtype=np.uint32)
    lower, upper = np.zeros(1 << 16, dtype=np.bool_), np.zeros(1 << 16, dtype=np.bool_)
    lower[keys & 0xFFFF] = upper[keys >> 16] = True
    for shift in range(_KEY_BYTES):
        for begin in range(shift, len(haystack) - _KEY_BYTES + 1, _BLOCK_BYTES):
            count = min(_BLOCK_BYTES, len(haystack) - begin) // _KEY_BYTES
            words = np.frombuffer(haystack, "<u4", count, begin)
            positions = np.flatnonzero(lower[words & 0xFFFF] & upper[words >> 16])
            for position in positions[np.isin(words[positions], keys)].tolist():
                at = begin + _KEY_BYTES * position
                for needle, start in by_key[int(words[position])]:
                    if at >= start and haystack.startswith(needle, at - start):
                        present.add(needle)
    return present


_KEY_BYTES = 4
_BLOCK_BYTES = 1 << 22
_COMPARED = 16


@cache
def _unlikely(needle: bytes) -> int:
    """Where four bytes begin that are rare elsewhere, as it seems: different ones, not zero, not text."""

    def score(start: int) -> tuple[int, int]:
        key = needle[start : start + _KEY_BYTES]
        return len(set(key)), sum(byte > 127 for byte in key) - key.count(0)

    starts = range(len(needle) - _KEY_BYTES + 1)
    return max(starts[:: -(-len(starts) // _COMPARED)], key=score)
