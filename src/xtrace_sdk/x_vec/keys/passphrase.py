"""Keys from a passphrase, by scrypt (RFC 7914) with a random salt."""

import secrets
import struct
import unicodedata
from typing import ClassVar

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from xtrace_sdk.arguments import checked_calls
from xtrace_sdk.errors import InvalidArgument, InvalidContext, KeyProviderFault
from xtrace_sdk.limits import MAX_SCRYPT_BYTES, MAX_SCRYPT_P
from xtrace_sdk.x_vec.keys.aead import KEY_BYTES
from xtrace_sdk.x_vec.keys.existing_protocol import ExistingNames
from xtrace_sdk.x_vec.keys.secrecy import Secretive


@checked_calls
class PassphraseKeyProvider(ExistingNames, Secretive):
    """Derives the key from a passphrase; needs no service.

    The passphrase is normalised (Unicode NFC), because systems encode the same "é" in different ways. Contexts of
    other clients use it as typed.

    The wrapped key is `xtrace-scrypt-1 ‖ log2 N ‖ r ‖ p ‖ salt (16)`. Anyone who has a stored context can try
    passphrases; each try takes half a second and 128 MiB. Use a long random one.
    """

    __slots__ = ("_log2_n", "_passphrase", "_typed")

    kind: ClassVar[str] = "passphrase"

    _MAGIC: ClassVar[bytes] = b"xtrace-scrypt-1"
    _PARAMETERS: ClassVar[struct.Struct] = struct.Struct("BBB16s")
    _LOG2_N: ClassVar[int] = 17  # OWASP Password Storage Cheat Sheet: N = 2^17, r = 8, p = 1
    _EXISTING_CLIENTS_LOG2_N: ClassVar[int] = 14
    _LOWEST_LOG2_N: ClassVar[int] = 14

    def __init__(self, passphrase: str, *, insecure_log2_n: int | None = None) -> None:
        """`insecure_log2_n` lowers the cost of new keys, for tests. Raises `InvalidArgument` for an empty
        passphrase."""
        if not passphrase:
            raise InvalidArgument("the passphrase is empty, expected one that is hard to guess")
        try:
            self._typed = passphrase.encode()
        except UnicodeEncodeError:  # its attributes contain the passphrase
            raise InvalidArgument("the passphrase contains unpaired surrogates, expected valid Unicode text") from None
        self._passphrase = unicodedata.normalize("NFC", passphrase).encode()
        self._log2_n = self._LOG2_N if insecure_log2_n is None else insecure_log2_n

    def new_key(self) -> tuple[bytes, bytes]:
        """Derives a key with a fresh salt. Takes about half a second and 128 MiB of memory."""
        salt = secrets.token_bytes(16)
        wrapped_key = self._MAGIC + self._PARAMETERS.pack(self._log2_n, 8, 1, salt)
        return _derive(self._passphrase, salt, self._log2_n, 8, 1), wrapped_key

    def unwrap_key(self, wrapped_key: bytes) -> bytes:
        """Derives the key with the salt of a stored context.

        Raises `InvalidContext` for parameters out of bounds, before any work, and `KeyProviderFault` if this machine
        does not have enough memory.
        """
        size = len(self._MAGIC) + self._PARAMETERS.size
        if len(wrapped_key) != size or not wrapped_key.startswith(self._MAGIC):
            raise InvalidContext("the context's wrapped_key was not made from a passphrase: use its own key provider")
        log2_n, r, p, salt = self._PARAMETERS.unpack(wrapped_key[len(self._MAGIC) :])
        # N below 2^(16·r) is the function's own limit (RFC 7914, section 2).
        if not (1 <= log2_n < 16 * r and 128 * r << log2_n <= MAX_SCRYPT_BYTES and 1 <= p <= MAX_SCRYPT_P):
            raise InvalidContext(
                f"the context's wrapped_key requires scrypt with N = 2^{log2_n}, r = {r}, p = {p}, expected N from 2 "
                f"to below 2^(16·r), 128·N·r up to {MAX_SCRYPT_BYTES >> 20} MiB, and p from 1 to {MAX_SCRYPT_P}: "
                "it was changed"
            )
        return _derive(self._passphrase, salt, log2_n, r, p)

    @classmethod
    def weakness(cls, wrapped_key: bytes) -> str:
        """Returns why trying passphrases for a wrapped key is cheap; empty if it is not, or for an unknown format."""
        if len(wrapped_key) != len(cls._MAGIC) + cls._PARAMETERS.size or not wrapped_key.startswith(cls._MAGIC):
            return ""
        log2_n = wrapped_key[len(cls._MAGIC)]
        if log2_n >= cls._LOWEST_LOG2_N:
            return ""
        return f"its key is derived by scrypt with N = 2^{log2_n}, expected at least 2^{cls._LOWEST_LOG2_N}"

    def existing_clients_key(self, wrapped_key: bytes) -> bytes:
        """Derives the key as other clients of this wire format do: their wrapped key is only the salt."""
        return _derive(self._typed, wrapped_key, self._EXISTING_CLIENTS_LOG2_N, 8, 1)


def _derive(passphrase: bytes, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    try:
        return Scrypt(salt=salt, length=KEY_BYTES, n=1 << log2_n, r=r, p=p).derive(passphrase)
    except MemoryError:
        raise KeyProviderFault(
            f"deriving the key takes {(128 * r << log2_n) >> 20} MiB of memory, which this machine does not have "
            "available: close other programs, or open the context on another machine"
        ) from None
