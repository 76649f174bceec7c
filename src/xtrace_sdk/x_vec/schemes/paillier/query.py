"""An encrypted query, with what takes it away again from the service's answers."""

from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.paillier.encoding import PackedBits


class EncryptedQuery(Secretive):
    """An encrypted query vector with its bits and its noise, which take it away again and never leave this object."""

    __slots__ = ("_noise", "ciphertexts", "messages", "packed")

    def __init__(
        self, ciphertexts: list[bytes], messages: list[Rows], packed: PackedBits, noise: list[tuple[int, int]]
    ) -> None:
        self.ciphertexts = ciphertexts
        """Little-endian without padding, as they travel."""
        self.messages = messages
        """What each ciphertext encrypts, `(1, width)`. Secret."""
        self.packed = packed
        """The query vector, `(1, bytes)`, as `VectorEncoding.pack` gives it. Secret."""
        self._noise = noise

    def noise(self, ciphertext: int, prime: int) -> int:
        """The noise of one ciphertext under the first (0) or second (1) prime. Secret."""
        return self._noise[ciphertext][prime]
