"""The formats of search answers: MessagePack, which every client of the contract reads, and frames."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_core import frames, wire
from xtrace_core.arithmetic import Rows
from xtrace_server.search.interface import Nonces

_LEAST_IDS: Final = np.array([2**7, 2**8, 2**16, 2**32])
"""The smallest ids that need the second header of `_ID_HEADERS`, the third, and so on."""
_ID_HEADERS: Final = (b"", b"\xcc", b"\xcd", b"\xce", b"\xcf")
_ID_BYTES: Final = (1, 1, 2, 4, 8)


class MessagePackAnswer:
    """An array of `[[ciphertext, …], chunk_id, nonce or nil]`.

    Rows that differ only in their bytes are written together as one array: creating objects for every row would block
    the interpreter while other requests wait for it.
    """

    media_type: ClassVar[str] = wire.MSGPACK

    def __init__(self, ciphertexts: int, width: int) -> None:
        self._width = width
        self._edges = [(i * width, (i + 1) * width) for i in range(ciphertexts)]
        self._beginning = b"\x93" + _array_header(ciphertexts)
        self._bin_header = msgspec.msgpack.encode(bytes(width))[:-width] if width else b""

    def head(self, rows: int) -> bytes:
        return _array_header(rows)

    def block(self, chunk_ids: NDArray[np.int64], answers: Rows, nonces: Nonces) -> bytes:
        lengths = np.array([-1 if nonce is None else len(nonce) for nonce in nonces], dtype=np.int64)
        shapes = np.searchsorted(_LEAST_IDS, chunk_ids, "right") + lengths * len(_ID_BYTES)
        # A ciphertext that ends with zeros is shorter.
        full = (answers[:, [end - 1 for _, end in self._edges]] != 0).all(axis=1) & (lengths < 256)
        shapes[~full] = -(10**6)
        parts = []
        for start, end in pairwise([0, *(np.flatnonzero(np.diff(shapes)) + 1).tolist(), len(shapes)]):
            part = slice(start, end)
            write = self._alike if end > start and full[start] else self._each
            parts.append(write(chunk_ids[part], answers[part], nonces[part]))
        return b"".join(parts)

    def end(self) -> bytes:
        return b""

    def _each(self, chunk_ids: NDArray[np.int64], answers: Rows, nonces: Nonces) -> bytes:
        rows = [
            ([answer[start:end].rstrip(b"\0") for start, end in self._edges], chunk_id, nonce)
            for answer, chunk_id, nonce in zip(map(bytes, answers), chunk_ids.tolist(), nonces, strict=True)
        ]
        return msgspec.msgpack.encode(rows)[len(_array_header(len(rows))) :]

    def _alike(self, chunk_ids: NDArray[np.int64], answers: Rows, nonces: Nonces) -> bytes:
        """Encodes rows with ciphertexts of full width, and with ids and nonces of equal length."""
        count, kind = len(chunk_ids), int(np.searchsorted(_LEAST_IDS, chunk_ids[0], "right"))
        id_header, id_bytes = _ID_HEADERS[kind], _ID_BYTES[kind]
        ids = chunk_ids.astype(">u8").view(np.uint8).reshape(count, 8)[:, 8 - id_bytes :]
        columns: list[bytes | Rows] = [self._beginning]
        for start, end in self._edges:
            columns += [self._bin_header, answers[:, start:end]]
        columns += [id_header, ids]
        if nonces[0] is None:
            columns.append(b"\xc0")
        else:
            length = len(nonces[0])
            packed = np.frombuffer(b"".join([nonce or b"" for nonce in nonces]), dtype=np.uint8)
            columns += [bytes([0xC4, length]), packed.reshape(count, length)]
        return _side_by_side(count, columns)


class FramedAnswer:
    """The frames of `xtrace_core.frames`, which need no object per row on either side."""

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


def _side_by_side(count: int, columns: Sequence[bytes | Rows]) -> bytes:
    """Returns rows that consist of the columns: each is bytes for every row, or an array with a row for each."""
    width = sum([len(one) if isinstance(one, bytes) else one.shape[1] for one in columns])
    table, at = np.empty((count, width), dtype=np.uint8), 0
    for one in columns:
        column = np.frombuffer(one, dtype=np.uint8) if isinstance(one, bytes) else one
        table[:, at : at + column.shape[-1]] = column
        at += column.shape[-1]
    return table.tobytes()


def _array_header(count: int) -> bytes:
    """Returns the MessagePack header of an array of `count` elements."""
    if count < 16:
        return bytes([0x90 | count])
    if count < 2**16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")
