"""AES-256 of many blocks under one key."""

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from xtrace_sdk.x_vec.keys.secrecy import Secretive

BLOCK_BYTES = 16


class Aes(Secretive):
    """Encrypts blocks, each on its own, under one key. Safe for concurrent use by several threads."""

    __slots__ = ("_idle", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._idle: list[CipherContext] = []
        """Idle cipher contexts: creating one takes as long as a hundred blocks."""

    def encrypt(self, blocks: bytes) -> bytes:
        """Returns the encrypted blocks."""
        aes = self._idle_or_new()
        encrypted = aes.update(blocks)
        self._idle.append(aes)
        return encrypted

    def encrypt_into(self, blocks: bytes, output: memoryview) -> None:
        """Writes the encrypted blocks to `output`, which has to be 15 bytes longer than they are."""
        aes = self._idle_or_new()
        aes.update_into(blocks, output)
        self._idle.append(aes)

    def _idle_or_new(self) -> CipherContext:
        try:
            return self._idle.pop()
        except IndexError:
            # ECB is AES itself, applied to each block.
            return Cipher(algorithms.AES256(self._key), modes.ECB()).encryptor()  # noqa: S305
