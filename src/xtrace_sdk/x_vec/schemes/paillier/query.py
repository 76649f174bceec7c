"""An encrypted query, with the values that remove it from the service's answers."""

from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.bits import PackedBits


class EncryptedQuery(Secretive):
    """An encrypted query vector, with the bits and noise that remove it from answers and never leave this object."""

    __slots__ = ("_noise", "ciphertexts", "messages", "packed")

    def __init__(
        self, ciphertexts: list[bytes], messages: list[Rows], packed: PackedBits, noise: list[tuple[int, int]]
    ) -> None:
        self.ciphertexts = ciphertexts
        """The ciphertexts in their wire format: little-endian without padding."""
        self.messages = messages
        """The plaintext of each ciphertext, `(1, width)`. Secret."""
        self.packed = packed
        """The query vector from `VectorEncoding.pack`, `(1, bytes)`. Secret."""
        self._noise = noise

    def noise(self, ciphertext: int, prime: int) -> int:
        """Returns the noise of one ciphertext under the first (0) or second (1) prime. Secret."""
        return self._noise[ciphertext][prime]
