"""The default limits of one call, and limits that no answer to a search exceeds.

The service rejects larger calls (its settings can raise or lower each limit of a call); the client splits them.
"""

from typing import Final

MAX_CHUNKS: Final = 10_000
"""Chunks in one insertion, update or patch."""
MAX_WRITE_COST: Final = 12_000
"""The maximum cost of one insertion, update or patch for the database's writer, in the units of `write_cost`: about
0.3 seconds, while all other writers wait."""
MAX_EMBED_LEN: Final = 4096
"""Positions of a vector."""
MAX_IDS: Final = 100_000
"""Chunk ids, or names of chunks, in one call."""

# What a reader of a search's answer accepts, in either format: far more than a server sends, but too little for a
# hostile one to fill the memory.

MAX_CIPHERTEXTS: Final = 1024
"""Ciphertexts in one row, for all queries of a batch together."""
MAX_CIPHERTEXT_BYTES: Final = 2048
"""The width of a ciphertext under the longest modulus that a service accepts (8,192 bits)."""
MAX_BLOCK_ROWS: Final = 1 << 12
"""Rows that are read together; reading a row takes a few kilobytes, however short it is on the wire."""
MAX_BLOCK_BYTES: Final = 1 << 22
"""Bytes that are read together: at least one row of the maximum length. A server sends 256 KiB."""
MAX_ROWS: Final = 1 << 26
"""Rows of a whole answer; the client keeps the id of each, 8 bytes."""
