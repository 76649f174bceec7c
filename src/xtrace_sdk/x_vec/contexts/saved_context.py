"""Reads and writes the saved form of execution contexts: the fields of a file, or of `data` on the service.

Nothing here needs a key (docs/formats.md, "Execution context").
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from xtrace_core.files import create_file, write_file
from xtrace_sdk.arguments import checked_call
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument, InvalidContext
from xtrace_sdk.limits import MAX_CONTEXT_BYTES
from xtrace_sdk.x_vec.chunks.private_metadata import private_fields
from xtrace_sdk.x_vec.keys.sealed_secret import has_recovery_key, is_sealed
from xtrace_sdk.x_vec.schemes.registry import scheme_name

FORMAT_VERSION = 2


class PublicParts(msgspec.Struct, frozen=True):
    """The public part of a context, as texts: `pk` and `config` are JSON."""

    type: str
    pk: str
    config: str

    def public_data(self) -> dict[str, str]:
        """Returns only the public parts, in the service's form."""
        return {"type": self.type, "pk": self.pk, "config": self.config}

    @property
    def public_id(self) -> str:
        """The SHA-256 of the public parts in hexadecimal: the id of a native context."""
        return hashlib.sha256(canonical_json(self.public_data())).hexdigest()

    @property
    def associated_data(self) -> bytes:
        """The associated data that binds a sealed secret to the public parts."""
        return b"xtrace/context/1" + hashlib.sha256(canonical_json(self.public_data())).digest()

    def config_object(self) -> dict[str, Any]:
        """Returns the configuration. Raises `InvalidContext` if it is not a JSON object."""
        return json_object(self.config, "config")

    @property
    def is_ours(self) -> bool:
        """Whether the context is native: the configurations of other clients do not have a version.

        Raises `InvalidContext` for a version that this software does not know.
        """
        version = self.config_object().get("version")
        if version not in (None, FORMAT_VERSION):
            raise InvalidContext(
                f"the context's format version is {version!r}, expected {FORMAT_VERSION}: "
                "it was written by other software, or a later version of XTrace"
            )
        return version is not None

    @property
    def private_metadata(self) -> tuple[str, ...]:
        """The names of the private metadata fields; other clients' contexts have none.

        Raises `InvalidContext` for a value that this software does not write.
        """
        config = self.config_object()
        if "private_metadata" not in config or not self.is_ours:
            return ()
        named = config["private_metadata"]
        try:
            fields = private_fields(named) if isinstance(named, list) else ()
        except InvalidArgument:
            fields = ()
        if not fields or list(fields) != named:
            raise InvalidContext(
                "the context's private_metadata is not a valid list of fields: the context was changed, or written "
                "by a later version"
            )
        return fields


class SavedContext(PublicParts, frozen=True):
    """A complete context; `id` is set only in files."""

    sk: str
    key_provider: str
    wrapped_key: str
    id: str | None = None

    @property
    def is_sealed(self) -> bool:
        """Whether `sk` is in this software's form."""
        return is_sealed(self.sk)

    def wrapped_key_bytes(self) -> bytes:
        """Returns the wrapped key for the key provider. Raises `InvalidContext` if it is not valid base64."""
        try:
            return base64.b64decode(self.wrapped_key, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidContext("the context's wrapped_key is not valid base64: it was changed or cut off") from None

    def serialized(self) -> dict[str, str]:
        """Returns the fields that the service stores."""
        return {
            **self.public_data(),
            "sk": self.sk,
            "key_provider": self.key_provider,
            "wrapped_key": self.wrapped_key,
        }

    def check_own_id(self) -> None:
        """Raises `InvalidContext` if the file's id does not match its public parts."""
        if self.id is not None and self.id != self.public_id:
            raise InvalidContext("the context's id does not belong to its public parts: the file was changed")

    def write(self, path: Path) -> None:
        """Writes the file (mode 0600) atomically, and missing folders. Raises `InaccessibleFile`.

        The file of a different context is kept beside it, under the first digits of that context's id.
        """
        try:
            self._keep_another(path)
            write_file(path, self._document())
        except OSError as error:
            raise InaccessibleFile(f"the context cannot be written to {path}: {error.strerror}") from None

    def create(self, path: Path) -> bool:
        """Writes the file as `write` does unless it exists; returns whether it did. Raises `InaccessibleFile`."""
        try:
            create_file(path, self._document())
        except FileExistsError:
            return False
        except OSError as error:
            raise InaccessibleFile(f"the context cannot be written to {path}: {error.strerror}") from None
        return True

    def _document(self) -> bytes:
        document = self.serialized() if self.id is None else {"id": self.id, **self.serialized()}
        return msgspec.json.format(msgspec.json.encode(document)) + b"\n"

    def _keep_another(self, path: Path) -> None:
        # It may be the only copy of its keys, and data encrypted under them would be lost.
        try:
            before = read_public_file(path)
        except (InaccessibleFile, InvalidContext):
            return
        if before.public_data() != self.public_data():
            write_file(path.with_name(f"{path.name}.{before.public_id[:12]}"), path.read_bytes())


def read_file(path: Path) -> SavedContext:
    """Reads the context in a file. Raises `InaccessibleFile`, and `InvalidContext` if it does not contain one."""
    return parse(_read_object(path), f"the file {path}")


def read_public_file(path: Path) -> PublicParts:
    """Reads the public parts of the context in a file, which may have nothing else. Raises what `read_file` raises."""
    return parse_public(_read_object(path), f"the file {path}")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONTEXT_BYTES + 1)
    except OSError as error:
        raise InaccessibleFile(f"the context file {path} cannot be read: {error.strerror}") from None
    what = f"the file {path}"
    if len(data) > MAX_CONTEXT_BYTES:
        raise InvalidContext(f"{what} is larger than a saved context can be")
    return json_object(data, what)


def parse_public(data: Mapping[str, Any], what: str) -> PublicParts:
    """Returns the public parts of a context's fields. Raises `InvalidContext` if one is missing."""
    try:
        return msgspec.convert(data, PublicParts)
    except msgspec.ValidationError as error:
        raise InvalidContext(f"{what} does not contain the public part of a context ({error})") from None


def parse(data: dict[str, Any], what: str) -> SavedContext:
    """Returns the context in a decoded JSON object. Raises `InvalidContext` if anything is missing."""
    try:
        return msgspec.convert(data, SavedContext)
    except msgspec.ValidationError as error:
        raise InvalidContext(
            f"{what} does not contain a complete saved context ({error}): it was cut off, or saved without its secret"
        ) from None


def json_object(data: bytes | str, what: str) -> dict[str, Any]:
    """Decodes the JSON object of a saved context. Raises `InvalidContext` for anything else."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidContext(f"{what} is not a saved context: it is another file, or was cut off") from None


def canonical_json(value: Any) -> bytes:
    """Returns JSON with sorted keys and without spaces (RFC 8785 for strings, integers and objects)."""
    return msgspec.json.encode(value, order="sorted")


@dataclass(frozen=True, slots=True)
class PublicPart:
    """The public part of a saved context. Only opening the context proves that it was not changed."""

    id: str | None
    """None for a context that other software saved, because its id also depends on secrets."""
    scheme: str
    """The name as in `homomorphic_client_type`, or the stored type of a scheme that this version does not know."""
    embed_len: int
    key_len: int | None
    """None for a scheme without primes."""
    alpha_len: int | None
    encoding: str | None
    version: int | None
    """The version of the format; None for other software's contexts."""
    key_provider: str
    private_metadata: tuple[str, ...] = ()
    """The metadata fields of which the service has only keyed hashes."""
    has_recovery_key: bool = False
    """Whether a recovery key also opens the context."""


@checked_call
def read_public_part(path: str | os.PathLike[str]) -> PublicPart:
    """Reads the public part of the context in a file, without its key.

    Raises `InaccessibleFile` if the file cannot be read, `InvalidContext` if it does not contain a context.
    """
    saved = read_file(Path(path))
    try:
        config = msgspec.convert(json_object(saved.config, "config"), _PublicConfig)
    except msgspec.ValidationError as error:
        raise InvalidContext(f"the context's config is not valid ({error}): it was changed") from None
    known = config.version is not None
    if known:
        saved.check_own_id()
    return PublicPart(
        id=saved.public_id if known else saved.id,
        scheme=scheme_name(saved.type),
        key_provider=saved.key_provider,
        private_metadata=saved.private_metadata,
        has_recovery_key=has_recovery_key(saved.sk),
        **msgspec.structs.asdict(config),
    )


_Number = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class _PublicConfig(msgspec.Struct):
    """The visible fields of `config`."""

    embed_len: _Number
    key_len: _Number | None = None
    alpha_len: _Number | None = None
    encoding: str | None = None
    version: _Number | None = None
