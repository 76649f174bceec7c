"""An inverted index of the texts of one segment: which rows have which token, how often, and how long each text is.

Written here because the index is sealed whole, merged without its texts, and stays below 80 bytes a text, with numpy
alone; the search engines that packages bring (tantivy, bm25s) keep files of their own in plaintext, or a wide matrix.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.x_vec.local.columns import deflated, inflated, packed, unpacked
from xtrace_sdk.x_vec.local.tokens import TOKENISER, tokens

Rows = NDArray[np.uint32]
Counts = NDArray[np.uint8]
_MAX_COUNT: Final = 255
_MAX_LENGTH: Final = 65_535
_VARINT_BITS: Final = 7


class Postings(NamedTuple):
    """The rows that have a token, ascending, and how often each has it, up to 255 times."""

    rows: Rows
    counts: Counts


class _Packed(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    tokeniser: int
    rows: int
    lexicon: bytes
    frequencies: bytes
    gaps: bytes
    counts: bytes
    lengths: bytes


class WordIndex:
    """The inverted index of a fixed number of texts, which are its rows."""

    __slots__ = ("_counts", "_gaps", "_gaps_at", "_lexicon", "_postings_at", "lengths")

    def __init__(
        self, lexicon: list[str], frequencies: NDArray[np.int64], gaps: NDArray[np.uint8], counts: Counts, lengths: Rows
    ) -> None:
        """`gaps` are variable-length numbers, `frequencies[i]` of them for the token `lexicon[i]`."""
        self._lexicon = lexicon
        self._gaps = gaps
        self._counts = counts
        self._postings_at = np.concatenate(([0], np.cumsum(frequencies)))
        # A number ends with the byte whose highest bit is 0.
        ends = np.flatnonzero(gaps < 1 << _VARINT_BITS) + 1
        self._gaps_at = np.concatenate(([0], ends))[self._postings_at]
        self.lengths = lengths
        """The number of tokens of each text, up to 65,535: `(rows,)`."""

    @classmethod
    def build(cls, texts: Iterable[str | None]) -> Self:
        """Returns the index of the texts; None counts as an empty text."""
        numbers: dict[str, int] = {}
        lengths, of_rows, of_tokens, counts = list[int](), list[int](), list[int](), list[int]()
        for row, text in enumerate(texts):
            found = tokens(text) if text else []
            lengths.append(len(found))
            counted = Counter(found)
            of_rows += [row] * len(counted)
            of_tokens += [numbers.setdefault(token, len(numbers)) for token in counted]
            counts += counted.values()
        return cls._of(
            list(numbers),
            np.array(of_tokens, np.int64),
            np.array(of_rows, np.int64),
            np.minimum(np.array(counts, np.int64), _MAX_COUNT).astype(np.uint8),
            np.minimum(np.array(lengths, np.int64), _MAX_LENGTH).astype(np.uint32),
        )

    @classmethod
    def merge(cls, indexes: Sequence["WordIndex"], kept: Sequence[NDArray[np.bool_]]) -> Self:
        """Returns one index of the kept rows of several, in their order: what `build` gives for their texts."""
        numbers: dict[str, int] = {}
        first, parts = 0, list[tuple[NDArray[np.int64], NDArray[np.int64], Counts]]()
        for index, keep in zip(indexes, kept, strict=True):
            places = np.cumsum(keep) - 1 + first
            of_tokens = np.repeat(
                np.array([numbers.setdefault(token, len(numbers)) for token in index._lexicon], np.int64),
                np.diff(index._postings_at),
            )
            rows = index._all_rows()
            inside = keep[rows]
            parts.append((of_tokens[inside], places[rows[inside]], index._counts[inside]))
            first += int(keep.sum())
        lengths = [index.lengths[keep] for index, keep in zip(indexes, kept, strict=True)]
        of_tokens, of_rows, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
        used = np.unique(of_tokens)
        named = list(numbers)
        return cls._of(
            [named[number] for number in used.tolist()],
            np.searchsorted(used, of_tokens),
            of_rows,
            counts,
            np.concatenate(lengths),
        )

    @classmethod
    def _of(
        cls,
        named: list[str],
        of_tokens: NDArray[np.int64],
        of_rows: NDArray[np.int64],
        counts: Counts,
        lengths: Rows,
    ) -> Self:
        """The index of postings in any order, whose tokens are numbers in `named`, which has no others."""
        by_name = sorted(range(len(named)), key=named.__getitem__)
        places = np.empty(len(named), np.int64)
        places[by_name] = np.arange(len(named))
        of_tokens = places[of_tokens]
        order = np.lexsort((of_rows, of_tokens))
        of_tokens, of_rows, counts = of_tokens[order], of_rows[order], counts[order]
        gaps = np.diff(of_rows, prepend=-1) - 1
        is_first = np.diff(of_tokens, prepend=-1) != 0
        gaps[is_first] = of_rows[is_first]
        frequencies = np.bincount(of_tokens, minlength=len(named))
        return cls([named[number] for number in by_name], frequencies, _as_varints(gaps), counts, lengths)

    # Reading

    def __len__(self) -> int:
        return len(self.lengths)

    def postings(self, token: str) -> Postings | None:
        """The rows that have the token; None if no row has it."""
        place = bisect_left(self._lexicon, token)
        if place == len(self._lexicon) or self._lexicon[place] != token:
            return None
        gaps = _from_varints(self._gaps[self._gaps_at[place] : self._gaps_at[place + 1]])
        counts = self._counts[self._postings_at[place] : self._postings_at[place + 1]]
        return Postings((np.cumsum(gaps + 1) - 1).astype(np.uint32), counts)

    def _all_rows(self) -> NDArray[np.int64]:
        """The rows of all postings, token by token."""
        steps = _from_varints(self._gaps) + 1
        total = np.cumsum(steps)
        starts = self._postings_at[:-1]
        before = np.where(starts > 0, total[starts - 1], 0) if len(starts) else starts
        rows: NDArray[np.int64] = total - np.repeat(before, np.diff(self._postings_at)) - 1
        return rows

    # Storing

    def to_bytes(self) -> bytes:
        """Returns what `from_bytes` takes."""
        return msgspec.msgpack.encode(
            _Packed(
                TOKENISER,
                len(self),
                deflated("\n".join(self._lexicon).encode()),
                deflated(_as_varints(np.diff(self._postings_at)).tobytes()),
                deflated(self._gaps.tobytes()),  # as short as Rice codes, and inflated faster
                deflated(self._counts.tobytes()),
                packed(self.lengths, "<u2"),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Returns the index that `to_bytes` wrote.

        The data must be authentic. Raises `ValueError` for another version of the format or of the tokeniser.
        """
        stored = msgspec.msgpack.decode(data, type=_Packed)
        if stored.tokeniser != TOKENISER:
            raise ValueError(f"the words were found by tokeniser {stored.tokeniser}, this version has {TOKENISER}")
        lexicon = inflated(stored.lexicon).decode()
        named = lexicon.split("\n") if lexicon else []
        frequencies = _from_varints(np.frombuffer(inflated(stored.frequencies), np.uint8))
        gaps = np.frombuffer(inflated(stored.gaps), np.uint8)
        counts = np.frombuffer(inflated(stored.counts), np.uint8)
        postings = int((gaps < 1 << _VARINT_BITS).sum())
        if len(named) != len(frequencies) or not postings == len(counts) == frequencies.sum():
            raise ValueError("the columns of the words have different lengths")
        return cls(named, frequencies, gaps, counts, unpacked(stored.lengths, stored.rows, "<u2", np.uint32))


def _as_varints(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Numbers from 0 as bytes of 7 bits each, lowest first, the highest bit of all but the last set (LEB128)."""
    sizes = np.ones(len(numbers), np.int64)
    for size in range(1, 5):
        sizes += numbers >= 1 << _VARINT_BITS * size
    starts = np.cumsum(sizes) - sizes
    written = np.empty(int(sizes.sum()), np.uint8)
    for place in range(int(sizes.max(initial=0))):
        longer = sizes > place
        part = numbers[longer] >> _VARINT_BITS * place & 127
        written[starts[longer] + place] = part | np.where(sizes[longer] > place + 1, 128, 0)
    return written


def _from_varints(written: NDArray[np.uint8]) -> NDArray[np.int64]:
    ends = np.flatnonzero(written < 1 << _VARINT_BITS)
    if not len(ends):
        return np.empty(0, np.int64)
    starts = np.concatenate(([0], ends[:-1] + 1))
    places = np.arange(len(written)) - np.repeat(starts, ends + 1 - starts)
    numbers: NDArray[np.int64] = np.add.reduceat((written & 127).astype(np.int64) << _VARINT_BITS * places, starts)
    return numbers
