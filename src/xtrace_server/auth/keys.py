"""Keys: 40 random characters, then 6 check characters.

A key is random from its first character on, because clients find a key's hash by its first five. The check characters
(CRC-32 of the random part, base 62) distinguish a mistyped key from a revoked one; they add no secrecy. A key has 238
bits of randomness, so a single SHA-256 is enough.
"""

import hashlib
import secrets
import string
import zlib

RANDOM_CHARACTERS = 40
CHECK_CHARACTERS = 6
FIRST_N = 5

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


def new_key() -> str:
    """Returns a new key. The server stores only its hash."""
    random = "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return random + _checksum(random)


def is_well_formed(key: str) -> bool:
    """Returns whether the check characters are correct."""
    if len(key) != RANDOM_CHARACTERS + CHECK_CHARACTERS or not key.isascii():
        return False
    return key[RANDOM_CHARACTERS:] == _checksum(key[:RANDOM_CHARACTERS])


def hash_key(key: str) -> str:
    """Returns the stored form of a key: its SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def first_n(key: str) -> str:
    """Returns the first characters of a key, which lists show."""
    return key[:FIRST_N]


def _checksum(random: str) -> str:
    number, characters = zlib.crc32(random.encode()), []
    for _ in range(CHECK_CHARACTERS):
        number, digit = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[digit])
    return "".join(characters)
