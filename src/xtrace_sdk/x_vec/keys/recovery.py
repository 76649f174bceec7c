"""Recovery keys: a second way to open a context, on paper.

A recovery key is 32 random bytes, written as 24 words from a list of 2,048 with a checksum of 8 bits. This is the
encoding of BIP-39, so that existing tools can write and check it. Nothing else of BIP-39 is used. The word list
(bip39/english.txt, with its licence) is fixed by that standard. It is included here rather than in a dependency, so
that no other code sees a recovery key. The first four letters of each word are unique.
"""

import hashlib
import re
import secrets
from functools import cache
from importlib.resources import files
from typing import Final, Self

from xtrace_sdk.arguments import checked_calls
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.x_vec.keys.aead import KEY_BYTES
from xtrace_sdk.x_vec.keys.secrecy import Secretive

WORDS: Final = 24
_BITS: Final = 11


@checked_calls
class RecoveryKey(Secretive):
    """Opens a context as its key provider does, until it is replaced or the context is rotated.

    Anyone who has the words and a copy of the context can read everything under it.
    """

    __slots__ = ("_key",)

    def __init__(self, words: str) -> None:
        """Parses the words, in any case, on one line or several; numbers and punctuation between them are ignored.

        Raises `InvalidArgument` unless there are 24 words with a valid checksum. A word that is not in the list is
        named by its position.
        """
        self._key = _decode(re.findall(r"[^\W\d_]+", words.lower()))

    @classmethod
    def generate(cls) -> Self:
        """Generates a new key."""
        return cls(" ".join(_encode(secrets.token_bytes(KEY_BYTES))))

    def words(self) -> str:
        """Returns the 24 words, separated by spaces. They are secret: write them down, and keep them apart from the
        context."""
        return " ".join(_encode(self._key))

    def key(self) -> bytes:
        """Returns the 32 bytes, which are secret."""
        return self._key


@cache
def _list() -> tuple[str, ...]:
    return tuple((files("xtrace_sdk.x_vec.keys") / "bip39" / "english.txt").read_text("ascii").split())


def _encode(key: bytes) -> list[str]:
    number = int.from_bytes(key + _checksum(key), "big")
    return [_list()[number >> _BITS * (WORDS - 1 - i) & 2**_BITS - 1] for i in range(WORDS)]


def _decode(words: list[str]) -> bytes:
    if len(words) != WORDS:
        raise InvalidArgument(f"got a recovery key of {len(words)} words, expected {WORDS}")
    numbers = {word: number for number, word in enumerate(_list())}
    unknown = [str(position) for position, word in enumerate(words, start=1) if word not in numbers]
    if unknown:
        raise InvalidArgument(
            f"not in the word list of recovery keys: word {', '.join(unknown)} of {WORDS}; check how it is spelled"
        )
    number = 0
    for word in words:
        number = number << _BITS | numbers[word]
    data = number.to_bytes(_BITS * WORDS // 8, "big")
    if data[KEY_BYTES:] != _checksum(data[:KEY_BYTES]):
        raise InvalidArgument(
            "the checksum of the recovery key is wrong: one word is wrong, or two are swapped; compare each word "
            "with your notes"
        )
    return data[:KEY_BYTES]


def _checksum(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:1]
