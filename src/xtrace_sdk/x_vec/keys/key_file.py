"""Keys from a local file that other users cannot read or change, for machines that mount their secrets as files.

The file is one line of text, `xtrace-key-file-1` and 64 hexadecimal digits: 32 random bytes.
"""

import os
import secrets
import stat
from pathlib import Path
from typing import ClassVar, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from xtrace_core.files import create_file
from xtrace_sdk.arguments import checked_calls
from xtrace_sdk.errors import InaccessibleFile, InvalidContext, KeyProviderFault
from xtrace_sdk.x_vec.keys.aead import KEY_BYTES
from xtrace_sdk.x_vec.keys.existing_protocol import ExistingNames
from xtrace_sdk.x_vec.keys.secrecy import Secretive

_HEADING = b"xtrace-key-file-1 "
_SALT_BYTES = 16
_LONGEST_FILE = 256
_ROOT = 0
_HAS_OWNERS = hasattr(os, "geteuid")
"""Windows has no owners and modes of this kind: there, the file is as private as its folder."""


@checked_calls
class KeyFileProvider(ExistingNames, Secretive):
    """Derives the key from the 32 random bytes of a key file; anyone who has the file can open the context.

    The wrapped key is `xtrace-key-file-1 ‖ salt (16)`. The file is read when a key is needed and not kept in memory.
    """

    __slots__ = ("_path",)

    kind: ClassVar[str] = "key_file"

    _MAGIC: ClassVar[bytes] = b"xtrace-key-file-1"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Creates a provider for an existing key file, which is not read yet."""
        self._path = Path(path)

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Self:
        """Creates a new key file (mode 0600), and missing folders. Raises `InaccessibleFile`, also if it exists."""
        file = Path(path)
        try:
            create_file(file, _HEADING + secrets.token_hex(KEY_BYTES).encode() + b"\n")
        except OSError as error:
            raise InaccessibleFile(f"the key file {file} cannot be created: {error.strerror}") from None
        return cls(file)

    def new_key(self) -> tuple[bytes, bytes]:
        """Derives a key with a fresh salt. Raises `InaccessibleFile`, and `KeyProviderFault` as `unwrap_key` does."""
        wrapped_key = self._MAGIC + secrets.token_bytes(_SALT_BYTES)
        return self.unwrap_key(wrapped_key), wrapped_key

    def unwrap_key(self, wrapped_key: bytes) -> bytes:
        """Derives the key with the salt of a stored context.

        Raises `InvalidContext` for a wrapped key of another provider, `InaccessibleFile` if the key file cannot be
        read, `KeyProviderFault` if others can read or replace it, or if it does not contain a key.
        """
        if len(wrapped_key) != len(self._MAGIC) + _SALT_BYTES or not wrapped_key.startswith(self._MAGIC):
            raise InvalidContext("the context's wrapped_key was not made from a key file: use its own key provider")
        salt = wrapped_key[len(self._MAGIC) :]
        derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=b"xtrace/key-file/1")
        return derivation.derive(self._read())

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                # The status of the open file, so that it cannot be exchanged after its owner and mode were checked.
                _check_file(self._path, os.fstat(file.fileno()))
                line = file.read(_LONGEST_FILE)
            # Secrets are often mounted as links: both folders determine the file at this path.
            for folder in {self._path.absolute().parent, self._path.resolve().parent}:
                _check_folder(self._path, folder, folder.stat())
        except OSError as error:
            raise InaccessibleFile(f"the key file {self._path} cannot be read: {error.strerror}") from None
        digits = line.removeprefix(_HEADING).strip()
        try:
            key = bytes.fromhex(digits.decode("ascii")) if line.startswith(_HEADING) else b""
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise KeyProviderFault(
                f"the file {self._path} does not contain a key, or was cut off: expected an XTrace key file"
            )
        return key


def _check_file(path: Path, status: os.stat_result) -> None:
    if not _HAS_OWNERS:
        return
    _check_owner(f"the key file {path}", status)
    mode = stat.S_IMODE(status.st_mode)
    # If root mounts a secret for a service, the service's group can read it.
    allowed = 0o740 if status.st_uid == _ROOT else 0o700
    if mode & ~allowed:
        raise KeyProviderFault(
            f"the key file {path} has mode {mode:04o}, so others can read or change the key, expected 0600 or 0400 "
            "(0640 or 0440 if root owns it): create a new one if they may have read it, else run chmod 600 on it"
        )


def _check_folder(path: Path, folder: Path, status: os.stat_result) -> None:
    if not _HAS_OWNERS:
        return
    what = f"the folder {folder} of the key file {path}"
    _check_owner(what, status)
    # In a sticky folder such as /tmp, only the owner of a file can replace it.
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        mode = stat.S_IMODE(status.st_mode)
        raise KeyProviderFault(f"{what} has mode {mode:04o}, so others can replace the file: run chmod go-w on it")


def _check_owner(what: str, status: os.stat_result) -> None:
    user = os.geteuid()
    if status.st_uid not in (user, _ROOT):
        raise KeyProviderFault(
            f"{what} belongs to the user {status.st_uid}, who can change it, expected {user} (this process's user) "
            f"or {_ROOT} (root): use your own file, or run chown on it"
        )
