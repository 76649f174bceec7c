"""A TCP proxy that keeps every byte that passes, and a search for texts in such a record in all likely disguises."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


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
        await asyncio.gather(pump(reader, server_writer), pump(server_reader, writer), return_exceptions=True)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    recording = Recording(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    async with listener:
        yield recording


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


def found(marks: dict[str, bytes], haystack: bytes) -> list[str]:
    """Which marks occur in a record, and in which disguise."""
    return [
        f"{name} ({form})"
        for name, mark in marks.items()
        for form, value in disguises(mark).items()
        if value in haystack
    ]
