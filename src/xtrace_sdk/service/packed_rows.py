"""Reads the MessagePack answer to a search as it arrives, for services that do not answer in frames.

It is an array of `[[ciphertext, …], chunk id]`, optionally with a nonce (bytes or nil) as the third element. Values are
read one by one, so that neither claimed lengths nor many small values decide how much memory is used: as with frames,
only a few rows are in memory at a time.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from xtrace_core import wire
from xtrace_core.frames import RowBlock
from xtrace_core.limits import MAX_BLOCK_BYTES, MAX_BLOCK_ROWS, MAX_CIPHERTEXT_BYTES, MAX_CIPHERTEXTS, MAX_ROWS
from xtrace_sdk.errors import InvalidAnswer

_READ_BYTES: Final = 1 << 16
"""The number of bytes to collect before parsing, so that a slow stream does not cause repeated attempts."""
_NIL: Final = 0xC0
_BINARY: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_UNSIGNED: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_SIGNED: Final = {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_ARRAY: Final = {0xDC: 2, 0xDD: 4}
"""The number of bytes after the first byte of a value: its length, or the integer itself."""


class PackedRowReader:
    """Reads the answer piece by piece as it arrives, and checks all of it."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wanted = 0
        self._left: int | None = None
        """The number of missing rows; None until the head was read."""
        self._ciphertexts = 0
        """The number of ciphertexts in each row."""

    def feed(self, data: bytes) -> Iterator[RowBlock]:
        """Returns the complete rows in blocks. Raises `InvalidAnswer`."""
        return row_blocks(self.rows(data))

    def close(self) -> Iterator[RowBlock]:
        """Ends the answer, and returns the last rows in blocks. Raises `InvalidAnswer` if it is truncated or
        continues."""
        return row_blocks(self.last_rows())

    def rows(self, data: bytes) -> list[wire.SearchRow]:
        """Returns the complete rows, or none while few bytes have arrived. Raises `InvalidAnswer`."""
        self._buffer += data
        return self._take() if len(self._buffer) >= self._wanted else []

    def last_rows(self) -> list[wire.SearchRow]:
        """Ends the answer, and returns the last rows. Raises `InvalidAnswer` if it is truncated or continues."""
        rows = self._take()
        if self._left != 0:
            raise InvalidAnswer("the server's answer was cut off before its end: search again")
        if self._buffer:
            raise InvalidAnswer("the server's answer continues after its last row")
        return rows

    def _take(self) -> list[wire.SearchRow]:
        data, at = bytes(self._buffer), 0
        rows: list[wire.SearchRow] = []
        try:
            if self._left is None:
                self._left, at = _length(data, 0, 0x90, MAX_ROWS, "rows")
            while self._left:
                row, at = _row(data, at)
                self._ciphertexts = self._ciphertexts or len(row.ciphertexts)
                if len(row.ciphertexts) != self._ciphertexts:
                    raise InvalidAnswer("the server's rows do not have the same number of ciphertexts each")
                rows.append(row)
                self._left -= 1
        except IndexError:  # the rest has not arrived yet
            pass
        del self._buffer[:at]
        self._wanted = len(self._buffer) + _READ_BYTES
        return rows


def row_blocks(rows: Sequence[wire.SearchRow]) -> Iterator[RowBlock]:
    """Yields the rows, which have the same number of ciphertexts each, in blocks of limited size."""
    if not rows:
        return
    width = max(1, *(len(one) for row in rows for one in row.ciphertexts))
    # Padding makes all ciphertexts as wide as the widest, so the padded size is limited.
    step = min(MAX_BLOCK_ROWS, MAX_BLOCK_BYTES // (width * len(rows[0].ciphertexts)))
    for start in range(0, len(rows), step):
        yield _block(rows[start : start + step], width)


def _block(rows: Sequence[wire.SearchRow], width: int) -> RowBlock:
    nonces = [row.nonce or b"" for row in rows]
    nonce_width = max(map(len, nonces))
    ciphertexts = b"".join([one.ljust(width, b"\0") for row in rows for one in row.ciphertexts])
    padded = b"".join([nonce.ljust(nonce_width, b"\0") for nonce in nonces])
    return RowBlock(
        np.array([row.chunk_id for row in rows], dtype=np.int64),
        np.frombuffer(ciphertexts, dtype=np.uint8).reshape(len(rows), -1, width),
        np.frombuffer(padded, dtype=np.uint8).reshape(len(rows), nonce_width),
        np.array([len(nonce) for nonce in nonces], dtype=np.uint8),
    )


# Each of these reads the value at a position, and returns it with the next position. `IndexError`: it is incomplete.


def _row(data: bytes, at: int) -> tuple[wire.SearchRow, int]:
    fields, at = _length(data, at, 0x90, 3, "elements of a row")
    if fields < 2:
        raise _against_contract("a row lacks ciphertexts or a chunk id")
    count, at = _length(data, at, 0x90, MAX_CIPHERTEXTS, "ciphertexts of a row")
    if not count:
        raise _against_contract("a row does not have ciphertexts")
    ciphertexts = []
    for _ in range(count):
        ciphertext, at = _bytes(data, at, MAX_CIPHERTEXT_BYTES, "a ciphertext")
        ciphertexts.append(ciphertext)
    chunk_id, at = _integer(data, at)
    nonce: bytes | None = None
    if fields == 3:
        if data[at] == _NIL:
            at += 1
        else:
            nonce, at = _bytes(data, at, wire.MAX_NONCE_BYTES, "a nonce")
    return wire.SearchRow(ciphertexts, chunk_id, nonce), at


def _length(data: bytes, at: int, short: int, most: int, what: str) -> tuple[int, int]:
    head = data[at]
    if head & 0xF0 == short:
        size, at = head & 15, at + 1
    elif head in _ARRAY:
        size, at = _unsigned(data, at + 1, _ARRAY[head])
    else:
        raise _against_contract(f"expected an array of {what}")
    if size > most:
        raise _against_contract(f"got {size} {what}, expected at most {most}")
    return size, at


def _bytes(data: bytes, at: int, most: int, what: str) -> tuple[bytes, int]:
    width = _BINARY.get(data[at])
    if width is None:
        raise _against_contract(f"expected the bytes of {what}")
    size, at = _unsigned(data, at + 1, width)
    if size > most:
        raise _against_contract(f"got {what} of {size} bytes, expected at most {most}")
    return data[at : at + size], _there(data, at + size)


def _integer(data: bytes, at: int) -> tuple[int, int]:
    head = data[at]
    if head < 0x80:
        return head, at + 1
    if head in _UNSIGNED:
        value, at = _unsigned(data, at + 1, _UNSIGNED[head])
    elif head in _SIGNED:
        start, at = at + 1, _there(data, at + 1 + _SIGNED[head])
        value = int.from_bytes(data[start:at], "big", signed=True)
    else:
        value = -1
    if not 0 <= value <= wire.MAX_CHUNK_ID:
        raise _against_contract("expected a chunk id, an integer from 0 to 2^63 - 1")
    return value, at


def _unsigned(data: bytes, at: int, width: int) -> tuple[int, int]:
    end = _there(data, at + width)
    return int.from_bytes(data[at:end], "big"), end


def _there(data: bytes, end: int) -> int:
    if end > len(data):
        raise IndexError
    return end


def _against_contract(what: str) -> InvalidAnswer:
    return InvalidAnswer(f"the server's answer violates the HTTP contract: {what}")
