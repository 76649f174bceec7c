"""The names of chunks: the same text with the same metadata has a different name in each knowledge base
(docs/formats.md, "Names").

A chunk's *base name* is derived from its content, and stays on the client. With a salt, it gives the chunk's name in
one knowledge base. The service stores the salt; a tag under the context's metadata key shows for which knowledge base
it was made, so the service cannot return the salt of a different one.
"""

import hmac
from collections.abc import Iterable
from typing import Final

from xtrace_sdk.errors import ForeignNameSalt, InvalidArgument
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.keys.mac import Mac
from xtrace_sdk.x_vec.keys.secrecy import Secretive

SALT_BYTES: Final = 32


def new_name_salt(hedge: Hedge, metadata_key: bytes, kb_id: str) -> bytes:
    """Creates a salt for a knowledge base, in its stored form."""
    return _tagged(metadata_key, hedge.draw("name salt", [_encoded(kb_id)], SALT_BYTES), kb_id)


class ChunkNames(Secretive):
    """Derives the names of chunks in one knowledge base."""

    __slots__ = ("_mac", "_metadata_key", "_salt")

    def __init__(self, metadata_key: bytes, kb_id: str, stored_salt: bytes) -> None:
        """Raises `ForeignNameSalt` unless the stored salt was made with this key for this knowledge base."""
        salt = stored_salt[:SALT_BYTES]
        if not hmac.compare_digest(stored_salt, _tagged(metadata_key, salt, kb_id)):
            raise ForeignNameSalt(
                f"the service's salt for the names of chunks in the knowledge base {kb_id} was not made for it: if "
                "it is a copy of another one, confirm that with DataLoader.adopt_names; if not, the salt was replaced"
            )
        self._metadata_key = metadata_key
        self._salt = salt
        self._mac = Mac(_digest(metadata_key, b"xtrace/name-key/1", salt))

    def name(self, base_name: str) -> str:
        """Returns the name of the chunk with this base name: 32 hexadecimal digits."""
        return self._mac.digest(base_name.encode())[:16].hex()

    def by_name(self, base_names: Iterable[str]) -> dict[str, str]:
        """Returns the base names by their names."""
        return {self.name(base_name): base_name for base_name in base_names}

    def salt_for(self, kb_id: str) -> bytes:
        """Returns the same salt in its stored form for a copy of the knowledge base."""
        return _tagged(self._metadata_key, self._salt, kb_id)


def _tagged(metadata_key: bytes, salt: bytes, kb_id: str) -> bytes:
    return salt + _digest(metadata_key, b"xtrace/name-salt/1", salt, _encoded(kb_id))


def _digest(key: bytes, label: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join((label, *parts)), "sha256")


def _encoded(kb_id: str) -> bytes:
    try:
        return kb_id.encode()
    except (AttributeError, UnicodeEncodeError):
        raise InvalidArgument(
            f"kb_id is {type(kb_id).__name__} that is not valid as an id, expected an id from the service"
        ) from None
