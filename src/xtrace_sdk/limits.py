"""Limits of what the client accepts from others: the service, a file, a key service, a model's API.

Every limit is checked before memory is allocated or anything is computed. Limits that both sides of the wire share are
in `xtrace_core.limits`.
"""

from typing import Final

# Answers of the service

MAX_ANSWER_BYTES: Final = 64 << 20
"""An answer with chunks, unless the caller sets `max_answer_bytes`. It fits 500 chunks of 100 KB each, the metadata of
about 300,000 chunks, or 120,000 rows of a search that is not streamed. If an answer has only the smallest chunks,
decoding takes up to 20 times as much memory.
"""
MAX_COUNT_BYTES: Final = 64 << 10
"""An answer with only a number, an id or a salt."""
MAX_ACKNOWLEDGEMENT_BYTES: Final = 8 << 20
"""The answer to a write or a deletion; 10,000 ids take 2 % of it."""
MAX_ERROR_BYTES: Final = 1 << 20
"""An error answer, of which one sentence is shown."""
MAX_CONTEXT_BYTES: Final = 1 << 20
"""A saved context, in a file or on the service; real ones take some 10 KB."""

MAX_NAMED_ROWS: Final = 10_000
"""Bad rows of one search whose ids an error lists; the rest are only counted."""

MAX_LISTED_CHUNKS: Final = 100_000
"""Bad chunks that a verification lists; the rest are only counted."""

# Keys and contexts

MAX_KEY_TEXT: Final = 64 << 10
"""Characters of a key as other clients write it in JSON; the longest modulus needs a third of it."""
MAX_WRAPPED_KEY_BYTES: Final = 6144
"""The wrapped key from AWS KMS (`CiphertextBlob`)."""
MAX_SCRYPT_BYTES: Final = 1 << 30
"""Memory that scrypt may use for a stored context (128·N·r): eight times what new contexts need."""
MAX_SCRYPT_P: Final = 4
"""scrypt's parameter p for a stored context: opening takes at most some ten seconds."""

# Models

MAX_DIMENSIONS: Final = 16_384
"""Numbers in one vector from a model's API; real ones have up to some 12,000."""
MAX_NUMBER_BYTES: Final = 40
"""Characters of one of these numbers, including the separator."""
MAX_COMPLETION_BYTES: Final = 8 << 20
"""A language model's answer; a streamed word takes some 300 bytes, so this fits 25,000 words."""
MAX_EVENT_BYTES: Final = 1 << 20
"""One event of a streamed answer; real ones have up to some 2,000 bytes."""
