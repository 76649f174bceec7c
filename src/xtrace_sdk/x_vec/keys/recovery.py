"""Recovery keys: a second way into a context, on paper.

A recovery key is 32 random bytes, written as 24 words of a list of 2,048 with a checksum of 8 bits: the encoding of
BIP-39, so that a key can be written, stamped and checked with what exists for that. Nothing else of BIP-39 is used.
The list (bip39/english.txt, with its licence) is fixed by that standard, so it is kept here instead of depending on a
package: no other code sees a recovery key. No two words of it begin with the same four letters.
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
        """The key of its words, in any case, on one line or more; numbers and punctuation between them do not count.

        Raises `InvalidArgument` unless there are 24 that fit together. A word that is not in the list is named by its
        position.
        """
        self._key = _decode(re.findall(r"[^\W\d_]+", words.lower()))

    @classmethod
    def generate(cls) -> Self:
        """A new key."""
        return cls(" ".join(_encode(secrets.token_bytes(KEY_BYTES))))

    def words(self) -> str:
        """The 24 words, one space between them: to be written down, and kept away from the context. Secret."""
        return " ".join(_encode(self._key))

    def key(self) -> bytes:
        """The 32 bytes. Secret."""
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
