"""Keys from a local file that nobody else may read, for machines that mount their secrets as files.

The file is one line of text, `xtrace-key-file-1` and 64 hexadecimal digits: 32 random bytes.
"""

import os
import secrets
import stat
from pathlib import Path
from typing import ClassVar, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from xtrace_sdk.errors import InaccessibleFile, InvalidContext, KeyProviderFault
from xtrace_sdk.x_vec.keys.aead import KEY_BYTES
from xtrace_sdk.x_vec.keys.secrecy import Secretive

_HEADING = b"xtrace-key-file-1 "
_SALT_BYTES = 16
_LONGEST_FILE = 256


class KeyFileProvider(Secretive):
    """Derives the key from the 32 random bytes of a key file; whoever has the file opens the context.

    The wrapped key is `xtrace-key-file-1 ‖ salt (16)`. The file is read when a key is needed and not kept in memory.
    """

    __slots__ = ("_path",)

    kind: ClassVar[str] = "key_file"

    _MAGIC: ClassVar[bytes] = b"xtrace-key-file-1"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """The provider of a key file that exists; it is not read yet."""
        self._path = Path(path)

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Self:
        """Makes a new key file (mode 0600), and missing folders. Raises `InaccessibleFile`, also if it exists."""
        file = Path(path)
        line = _HEADING + secrets.token_hex(KEY_BYTES).encode() + b"\n"
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise InaccessibleFile(f"the key file {file} cannot be made: {error.strerror}") from None
        return cls(file)

    def new_key(self) -> tuple[bytes, bytes]:
        """A key under a fresh salt. Raises `InaccessibleFile`, and `KeyProviderFault` as `unwrap_key` does."""
        wrapped_key = self._MAGIC + secrets.token_bytes(_SALT_BYTES)
        return self.unwrap_key(wrapped_key), wrapped_key

    def unwrap_key(self, wrapped_key: bytes) -> bytes:
        """The key under the salt of a stored context.

        Raises `InvalidContext` for a wrapped key of another provider, `InaccessibleFile` if the key file cannot be
        read, `KeyProviderFault` if others can read it too or if it holds no key.
        """
        if len(wrapped_key) != len(self._MAGIC) + _SALT_BYTES or not wrapped_key.startswith(self._MAGIC):
            raise InvalidContext("the context's wrapped_key was not made from a key file: use its own key provider")
        salt = wrapped_key[len(self._MAGIC) :]
        derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=b"xtrace/key-file/1")
        return derivation.derive(self._read())

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                # Of the file that is open, so that nobody exchanges it after the look at its mode.
                status = os.fstat(file.fileno())
                line = file.read(_LONGEST_FILE)
        except OSError as error:
            raise InaccessibleFile(f"the key file {self._path} cannot be read: {error.strerror}") from None
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise KeyProviderFault(
                f"the key file {self._path} has mode {mode:04o}, so others may know the key, expected 0600 or 0400: "
                "make a new one if they may have read it, else take their permission away (chmod 600)"
            )
        digits = line.removeprefix(_HEADING).strip()
        try:
            key = bytes.fromhex(digits.decode("ascii")) if line.startswith(_HEADING) else b""
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise KeyProviderFault(f"the file {self._path} holds no key, or was cut off: expected an XTrace key file")
        return key
