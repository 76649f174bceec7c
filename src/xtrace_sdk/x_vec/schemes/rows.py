"""Stored rows, answers and nonces as every scheme reads them: arrays of fixed width, and which of them fit."""

import numpy as np

from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.schemes.interface import Answers, Ciphertext, Nonces, Valid


def ciphertext_rows(rows: Answers, count: int, width: int) -> tuple[Rows, Valid]:
    """Returns `(n, count, width)`, and whether each row has `count` ciphertexts of at most `width` bytes.

    Shorter ciphertexts are padded with zeros, because the zeros at their end are not sent. Rows that do not fit are
    zeros.
    """
    good = np.ones(len(rows), dtype=np.bool_)
    if isinstance(rows, np.ndarray):
        if rows.dtype != np.uint8 or rows.shape[1:2] != (count,) or rows.shape[2] > width:
            return np.zeros((len(rows), count, width), dtype=np.uint8), ~good
        if rows.shape[2] < width:  # by chance all are short
            rows = np.pad(rows, ((0, 0), (0, 0), (0, width - rows.shape[2])))
        return rows, good
    data = []
    for i, row in enumerate(rows):
        parts = [_little_endian(ciphertext) for ciphertext in row]
        if len(parts) != count or any(len(part) > width for part in parts):
            good[i] = False
            parts = [b""] * count
        data += [part.ljust(width, b"\0") for part in parts]
    return np.frombuffer(b"".join(data), dtype=np.uint8).reshape(len(rows), count, width), good


def nonce_rows(nonces: Nonces, size: int) -> tuple[Rows, Valid]:
    """Returns `(n, size)`, and whether each nonce has this size; the others are zeros."""
    if isinstance(nonces, np.ndarray):
        fits = nonces.dtype == np.uint8 and nonces.shape[1:] == (size,)
        return (
            nonces if fits else np.zeros((len(nonces), size), dtype=np.uint8),
            np.full(len(nonces), fits, dtype=np.bool_),
        )
    good = np.array([isinstance(nonce, bytes) and len(nonce) == size for nonce in nonces], dtype=np.bool_)
    data = b"".join(
        [nonce if nonce is not None and ok else bytes(size) for nonce, ok in zip(nonces, good, strict=True)]
    )
    return np.frombuffer(data, dtype=np.uint8).reshape(len(nonces), size), good


def _little_endian(ciphertext: Ciphertext) -> bytes:
    if isinstance(ciphertext, bytes):
        return ciphertext
    if ciphertext < 0:
        return b""
    return int(ciphertext).to_bytes((int(ciphertext).bit_length() + 7) // 8, "little")
