"""How much the client accepts of what others send: the service, a file, a key service, a model's API.

Every limit is checked before anything is allocated or computed for what it bounds. What both sides of the wire agree
on is in `xtrace_core.limits`.
"""

from typing import Final

# Keys

MAX_SCRYPT_BYTES: Final = 1 << 30
"""Memory that scrypt may need for a stored context (128·N·r): eight times what new contexts need."""
MAX_SCRYPT_P: Final = 4
"""Times that scrypt may go through this memory: a passphrase opens within some ten seconds, or not at all."""
