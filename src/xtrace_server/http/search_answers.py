"""The forms in which a search is answered: MessagePack, which every client of the contract reads, and frames."""

from typing import ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_core import frames, wire
from xtrace_core.arithmetic import Rows
from xtrace_server.search.interface import Nonces


class MessagePackAnswer:
    """An array of `[[ciphertext, …], chunk_id, nonce or nil]`."""

    media_type: ClassVar[str] = wire.MSGPACK

    def __init__(self, ciphertexts: int, width: int) -> None:
        self._edges = [(i * width, (i + 1) * width) for i in range(ciphertexts)]

    def head(self, rows: int) -> bytes:
        return _array_header(rows)

    def block(self, chunk_ids: NDArray[np.int64], answers: Rows, nonces: Nonces) -> bytes:
        data, size, edges = answers.tobytes(), answers.shape[1], self._edges
        each = [data[start : start + size] for start in range(0, len(data), size)]
        rows = [
            ([answer[start:end].rstrip(b"\0") for start, end in edges], chunk_id, nonce)
            for answer, chunk_id, nonce in zip(each, chunk_ids.tolist(), nonces, strict=True)
        ]
        return msgspec.msgpack.encode(rows)[len(_array_header(len(rows))) :]

    def end(self) -> bytes:
        return b""


class FramedAnswer:
    """The frames of `xtrace_core.frames`: no object for a row on either side."""

    media_type: ClassVar[str] = frames.MEDIA_TYPE

    def __init__(self, ciphertexts: int, width: int) -> None:
        self._ciphertexts = ciphertexts
        self._width = width

    def head(self, rows: int) -> bytes:
        return frames.head(self._ciphertexts, self._width, rows)

    def block(self, chunk_ids: NDArray[np.int64], answers: Rows, nonces: Nonces) -> bytes:
        return frames.block(chunk_ids, answers, nonces)

    def end(self) -> bytes:
        return frames.end()


def _array_header(count: int) -> bytes:
    """Returns the MessagePack header of an array of `count` elements."""
    if count < 16:
        return bytes([0x90 | count])
    if count < 2**16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")
