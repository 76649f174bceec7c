"""How much the client accepts of what others send: the service, a file, a key service, a model's API.

Every limit is checked before anything is allocated or computed for what it bounds. What both sides of the wire agree
on is in `xtrace_core.limits`.
"""

from typing import Final

# Answers of the service

MAX_ANSWER_BYTES: Final = 64 << 20
"""An answer with chunks, unless the caller chooses otherwise (`max_answer_bytes`).

It holds 500 chunks of 100 KB each, the metadata of some 300,000, or 120,000 rows of a search that is not streamed.
Decoding takes up to 20 times as much memory, where an answer has nothing but the smallest chunks.
"""
MAX_COUNT_BYTES: Final = 64 << 10
"""An answer that has nothing but a number, an id or a salt."""
MAX_ACKNOWLEDGEMENT_BYTES: Final = 8 << 20
"""The answer to a write or a deletion: 10,000 ids take a fiftieth of it."""
MAX_ERROR_BYTES: Final = 1 << 20
"""An error, of which a sentence is shown."""
MAX_CONTEXT_BYTES: Final = 1 << 20
"""A saved context, in a file or on the service; those that there are take some 10 KB."""

MAX_NAMED_ROWS: Final = 10_000
"""Bad rows of one search whose ids an error has; how many more there are is counted."""

MAX_LISTED_CHUNKS: Final = 100_000
"""Bad chunks that a verification lists; how many more there are is counted."""

# Keys and contexts

MAX_KEY_TEXT: Final = 64 << 10
"""Characters of a key as other clients write it, in JSON; that of the longest modulus has a third of it."""
MAX_WRAPPED_KEY_BYTES: Final = 6144
"""What AWS KMS gives as the wrapping of a key (`CiphertextBlob`)."""
MAX_SCRYPT_BYTES: Final = 1 << 30
"""Memory that scrypt may need for a stored context (128·N·r): eight times what new contexts need."""
MAX_SCRYPT_P: Final = 4
"""Times that scrypt may go through this memory: a passphrase opens within some ten seconds, or not at all."""

# Models

MAX_DIMENSIONS: Final = 16_384
"""Numbers in one vector of a model behind an API; those that there are have up to some 12,000."""
MAX_NUMBER_BYTES: Final = 40
"""Characters of one of these numbers, with what separates it from the next."""
MAX_COMPLETION_BYTES: Final = 8 << 20
"""A language model's answer: a streamed word takes some 300 bytes, so 25,000 of them."""
MAX_EVENT_BYTES: Final = 1 << 20
"""One event of a streamed answer; those that there are have up to some 2,000."""
