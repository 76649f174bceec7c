"""How much one call may hold where the operator has not decided otherwise, and what no answer of a search exceeds.

The service refuses more (its settings can raise or lower each bound of a call), the client sends less at a time.
"""

from typing import Final

MAX_CHUNKS: Final = 10_000
"""Chunks in one insertion, update or patch."""
MAX_WRITE_COST: Final = 12_000
"""What one insertion, update or patch may cost the database's writer, in the units of `write_cost`: some 0.3 seconds,
for which everyone else waits who writes."""
MAX_IDS: Final = 100_000
"""Chunk ids, or names of chunks, in one call."""

# What a reader of a search's answer accepts, in either format: far above what a server sends, and small enough that a
# hostile one cannot fill the memory.

MAX_CIPHERTEXTS: Final = 1024
"""Ciphertexts in one row, those of all queries of a batch together."""
MAX_CIPHERTEXT_BYTES: Final = 2048
"""The width of a ciphertext under the longest modulus that a service accepts (8,192 bits)."""
MAX_BLOCK_ROWS: Final = 1 << 12
"""Rows that are read together; reading a row takes some kilobytes, however short it is on the wire."""
MAX_BLOCK_BYTES: Final = 1 << 22
"""Bytes that are read together, which is at least one of the longest rows; a server sends 256 KiB."""
MAX_ROWS: Final = 1 << 26
"""Rows of a whole answer; the client remembers the id of each, 8 bytes."""
