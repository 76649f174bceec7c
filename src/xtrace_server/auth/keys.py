"""Keys: 40 random characters, then 6 check characters.

A key is random from its first character, because clients find a key's hash by its first five. The check
characters (CRC-32 of the random part, base 62) tell a mistyped key from a revoked one; they add no secrecy. A
key carries 238 bits of randomness, so one SHA-256 is all the hashing that it needs.
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
    """Returns whether the check characters are right."""
    if len(key) != RANDOM_CHARACTERS + CHECK_CHARACTERS or not key.isascii():
        return False
    return key[RANDOM_CHARACTERS:] == _checksum(key[:RANDOM_CHARACTERS])


def hash_key(key: str) -> str:
    """Returns a key as it is stored: its SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def first_n(key: str) -> str:
    """Returns the part of a key that lists show."""
    return key[:FIRST_N]


def _checksum(random: str) -> str:
    number, characters = zlib.crc32(random.encode()), []
    for _ in range(CHECK_CHARACTERS):
        number, digit = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[digit])
    return "".join(characters)
