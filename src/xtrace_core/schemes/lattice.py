"""The service's half of the scheme `lattice`: it sends records, which clients compare, and computes with blocks."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from xtrace_core.arithmetic import Rows
from xtrace_core.limits import MAX_EMBED_LEN
from xtrace_core.schemes.interface import InvalidCiphertext, InvalidPublicKey, Query
from xtrace_core.schemes.lattice_blocks import LatticeBlockEvaluation

PARAMETERS: Final = "lattice-1"
TAG_BYTES: Final = 16
_BLOCK_BITS: Final = 128
_BLOCK_BYTES: Final = 16


def record_bytes(embed_len: int) -> int:
    """Returns the length of a record: a tag, and the bits of a vector in whole blocks of AES."""
    return TAG_BYTES + _BLOCK_BYTES * -(-embed_len // _BLOCK_BITS)


class _PublicKey(msgspec.Struct):
    parameters: Literal["lattice-1"]
    embed_len: Annotated[int, msgspec.Meta(ge=1, le=MAX_EMBED_LEN)]
    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]


class LatticeEvaluation:
    """Stores one record of a fixed width for each chunk. The answer to any number of queries is the records."""

    def __init__(self, embed_len: int) -> None:
        self.row_bytes = record_bytes(embed_len)
        self.blocks = LatticeBlockEvaluation(embed_len)

    def row(self, index: Sequence[bytes]) -> bytes:
        if len(index) != 1:
            raise InvalidCiphertext(f"the index has {len(index)} ciphertexts, expected one record")
        if len(index[0]) > self.row_bytes:
            raise InvalidCiphertext(f"the record has {len(index[0])} bytes, expected at most {self.row_bytes}")
        return index[0].ljust(self.row_bytes, b"\0")

    def index(self, row: bytes) -> list[bytes]:
        return [row.rstrip(b"\0")]

    def check_query(self, query: Query, row_bytes: int | None) -> None:
        if query:
            raise InvalidCiphertext(
                f"the query has {len(query)} ciphertexts, expected none: clients of this scheme compare the records "
                "themselves"
            )

    def answer_shape(self, queries: Sequence[Query]) -> tuple[int, int]:
        return 1, self.row_bytes

    def evaluate(self, rows: Rows, queries: Sequence[Query]) -> Rows:
        return rows


def lattice_evaluation(pk: str) -> LatticeEvaluation:
    """Returns the evaluation for a stored `pk`. Raises `InvalidPublicKey` unless all its values are valid."""
    try:
        key = msgspec.json.decode(pk, type=_PublicKey)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidPublicKey(f"pk is not a public key of the scheme lattice: {error}") from None
    return LatticeEvaluation(key.embed_len)
