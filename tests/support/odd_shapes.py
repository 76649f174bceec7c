"""A scheme without encryption in which nothing is as wide as under Paillier: for the seam between service and scheme.

A row has six bytes, which the public part says. A query is empty, or one ciphertext of one byte. The answer to an empty
query is the row, as one ciphertext; that to a byte are two ciphertexts of six bytes: the row plus the byte, and the row
in reverse.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from xtrace_core.arithmetic import Rows
from xtrace_core.schemes.interface import EvaluationFactory, InvalidCiphertext, Query

ROW_BYTES: Final = 6
TYPE: Final = "InsecureOddShapes"


class OddShapes:
    """The service's half."""

    row_bytes: Final = ROW_BYTES
    blocks: Final = None

    def __init__(self, pk: str) -> None:
        assert pk == "{}"

    def row(self, index: Sequence[bytes]) -> bytes:
        if len(index) != 1 or len(index[0]) > ROW_BYTES:
            raise InvalidCiphertext("expected one ciphertext of at most six bytes")
        return index[0].ljust(ROW_BYTES, b"\0")

    def index(self, row: bytes) -> list[bytes]:
        return [row.rstrip(b"\0")]

    def check_query(self, query: Query, row_bytes: int | None) -> None:
        if [len(ciphertext) for ciphertext in query] not in ([], [1]):
            raise InvalidCiphertext("expected no ciphertext, or one of one byte")

    def answer_shape(self, queries: Sequence[Query]) -> tuple[int, int]:
        return sum([2 if query else 1 for query in queries]), ROW_BYTES

    def evaluate(self, rows: Rows, queries: Sequence[Query]) -> Rows:
        answers: list[Rows] = []
        for query in queries:
            answers += [rows + np.uint8(query[0][0]), rows[:, ::-1]] if query else [rows]
        return np.concatenate(answers, axis=1)


SCHEMES: Mapping[str, EvaluationFactory] = {TYPE: OddShapes}
NAMED_LIKE_A_REAL_ONE: Mapping[str, EvaluationFactory] = {"PaillierClient": OddShapes}
