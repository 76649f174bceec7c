"""Searches of many generated records in memory: what a local index costs where their number is large.

Codes are those of random vectors, and texts are words drawn from the corpus, so nothing is encrypted, stored or sent: a
million records take some minutes.
"""

import random
import time
from itertools import chain

import numpy as np

from benchmarks.corpus import python_corpus
from benchmarks.harness import Measurement, row
from xtrace_sdk.x_vec.chunks.envelope import Content
from xtrace_sdk.x_vec.chunks.vector_copies import cosine_similarities
from xtrace_sdk.x_vec.local.codec import query
from xtrace_sdk.x_vec.local.fusion import fused
from xtrace_sdk.x_vec.local.loaded import Loaded, Part
from xtrace_sdk.x_vec.local.segment import Row, Segment
from xtrace_sdk.x_vec.local.state import State
from xtrace_sdk.x_vec.local.tokens import tokens

K, REACH, BY_WORDS = 10, 40, 20
SEGMENT_ROWS = 32_768
"""About as many as a segment has where a row takes 190 bytes."""
ROUNDS = 9
DIM = 256
WORDS = 30
"""Words of a generated text."""
INVOICES = 8_000
QUESTIONS = 100


def generated(count: int) -> tuple[list[Measurement], list[str], list[Segment]]:
    """Rows and figures of a search over this number of generated records, and their segments."""
    contents = _contents(count)
    started = time.perf_counter()
    segments = [
        Segment.of([Row(i, 0, contents[i]) for i in range(first, min(first + SEGMENT_ROWS, count))], DIM)
        for first in range(0, count, SEGMENT_ROWS)
    ]
    built = time.perf_counter() - started
    loaded = Loaded(State.empty(), [Part(one, np.ones(len(one), np.bool_)) for one in segments])
    size = sum(len(one.to_bytes()) for one in segments)
    rows = [
        row(f"candidates among {count:,} generated records, by vectors", _times(loaded, ""), "60 ms"),
        row(f"candidates among {count:,} generated records, by vectors and words", _times(loaded, "Invoice 4017")),
    ]
    figures = [
        f"{count:,} generated records: {1e6 * built / count:.0f} µs and {size / count:.0f} bytes each, contents apart",
        f"the right one of {INVOICES:,} invoices is first for {_right(loaded, contents)} of {QUESTIONS}",
    ]
    return rows, figures, segments


def _contents(count: int) -> list[Content]:
    """Texts of drawn words, the last ones invoices, with the copies of random vectors."""
    chance, numbers = random.Random(1), np.random.default_rng(1)
    words = list(chain.from_iterable(passage.split() for passage in python_corpus().passages))
    copies = numbers.integers(-127, 128, (count, DIM), np.int8)
    texts = (" ".join(chance.choices(words, k=WORDS)) for _ in range(count - INVOICES))
    invoices = (f"Invoice {number} for consulting in the third quarter." for number in range(INVOICES))
    return [Content(text, None, copy) for text, copy in zip(chain(texts, invoices), copies, strict=True)]


def _times(loaded: Loaded, question: str) -> list[float]:
    """Milliseconds of choosing the candidates for one question after another."""
    numbers, allowed = np.random.default_rng(2), [part.alive for part in loaded.parts]
    times = []
    for _ in range(ROUNDS):
        wanted = query(numbers.standard_normal(DIM).astype(np.float32))
        started = time.perf_counter()
        loaded.candidates(wanted, REACH, tokens(question), BY_WORDS, allowed)
        times.append(1000 * (time.perf_counter() - started))
    return times


def _right(loaded: Loaded, contents: list[Content]) -> int:
    """For how many of the questions the invoice with the right number is first."""
    numbers, allowed, right = np.random.default_rng(3), [part.alive for part in loaded.parts], 0
    for number in random.Random(1).sample(range(INVOICES), QUESTIONS):
        vector, asked = numbers.standard_normal(DIM).astype(np.float32), tokens(f"Invoice {number}")
        found = loaded.candidates(query(vector), REACH, asked, BY_WORDS, allowed)
        read = [contents[chunk_id] for chunk_id in found.chunk_ids]
        copies = np.array([one.vector_copy for one in read])
        scores = fused(
            asked, [one.text for one in read], found.word_scores, cosine_similarities(vector, copies).tolist()
        )
        right += found.chunk_ids[int(np.argmax(scores))] == len(contents) - INVOICES + number
    return right
