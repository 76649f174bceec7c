"""How much one call may hold where the operator has not decided otherwise.

The service refuses more (its settings can raise or lower each bound), the client sends less at a time.
"""

from typing import Final

MAX_CHUNKS: Final = 10_000
"""Chunks in one insertion, update or patch."""
MAX_IDS: Final = 100_000
"""Chunk ids, or names of chunks, in one call."""
