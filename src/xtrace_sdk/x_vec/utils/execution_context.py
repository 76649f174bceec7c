"""The execution context: the homomorphic key pair and the content key as one protected object.

What is stored of it (a file, or `data` on the service) are the public parts in clear and the secrets under the key of a
key provider (docs/formats.md, "Execution context"). Its id is a hash of the public parts, so nobody can give one
context's name to another.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec

from xtrace_sdk.errors import InaccessibleFile, InvalidArgument, InvalidContext
from xtrace_sdk.x_vec.crypto.content import KEY_BYTES, ContentCipher
from xtrace_sdk.x_vec.crypto.homomorphic import MIN_KEY_LEN, HomomorphicClient
from xtrace_sdk.x_vec.crypto.key_provider import KeyProvider, PassphraseKeyProvider
from xtrace_sdk.x_vec.crypto.schemes import SCHEMES, generate_client, load_client
from xtrace_sdk.x_vec.crypto.sealed_secret import open_secret, seal_secret
from xtrace_sdk.x_vec.crypto.secrecy import Secretive

FORMAT_VERSION = 1
_MAX_FILE_BYTES = 1 << 20


class ContextStore(Protocol):
    """What a context needs of `XTraceIntegration` to be saved and restored."""

    async def store_exec_context(self, data: dict[str, Any], context_id: str) -> Any: ...
    async def get_serialized_exec_context(self, context_id: str) -> dict[str, Any]: ...


class _Stored(msgspec.Struct, frozen=True):
    """A context as stored; `id` only in files."""

    type: str
    pk: str
    config: str
    sk: str
    key_provider: str
    wrapped_key: str
    id: str | None = None

    @property
    def public_id(self) -> str:
        """The context id: SHA-256, in hexadecimal, of the public parts."""
        return hashlib.sha256(_public_parts(self.type, self.pk, self.config)).hexdigest()

    @property
    def associated_data(self) -> bytes:
        """What binds the sealed secret to the public parts."""
        return _associated_data(self.type, self.pk, self.config)


@dataclass(frozen=True, slots=True)
class PublicPart:
    """What a saved context tells everybody. Only opening the context proves that it was not changed."""

    id: str | None
    """None for a context that other software saved: its id is a hash of secrets too."""
    scheme: str
    """As `homomorphic_client_type` names it, or the stored type of a scheme that this version does not know."""
    embed_len: int
    key_len: int
    alpha_len: int | None
    encoding: str | None
    version: int | None
    """The version of the format, None where other software wrote it."""
    key_provider: str


class ExecutionContext(Secretive):
    """Keys for one body of encrypted data: create it, save it, restore it, and hand it to a loader and a retriever.

    Contexts are equal if their public identities are; the identity is safe to log, the object shows nothing else.
    """

    __slots__ = ("_metadata_key", "_stored", "aes", "homomorphic", "key_provider")

    def __init__(
        self,
        homomorphic: HomomorphicClient,
        content_key: bytes,
        metadata_key: bytes,
        stored: _Stored,
        provider: KeyProvider,
    ) -> None:
        """Use `create`, `load_from_disk` or `load_from_remote` instead."""
        self.homomorphic = homomorphic
        """The scheme's client half: encrypts vectors and queries, reads distances."""
        self.aes = ContentCipher(content_key)
        """The content cipher."""
        self.key_provider = provider
        self._metadata_key = metadata_key
        self._stored = stored

    @classmethod
    def create(
        cls,
        key_provider: KeyProvider,
        homomorphic_client_type: str,
        embedding_length: int,
        key_len: int = MIN_KEY_LEN,
        path: str | os.PathLike[str] | None = None,
        *,
        alpha_len: int | None = None,
        insecure_allow_weak_parameters: bool = False,
    ) -> Self:
        """A new context; with `path`, saved there at once.

        Args:
            key_provider: gives the key that protects the context.
            homomorphic_client_type: `paillier_lookup` (fast; its assumption is in docs/security.md) or `paillier`.
            embedding_length: positions of the vectors, 1 to 4096.
            key_len: bits of each prime; 1024 gives 112-bit security, 1536 gives 128-bit.
            path: a file to save to.
            alpha_len: bits of the subgroup orders of `paillier_lookup`; the default follows from `key_len`.
            insecure_allow_weak_parameters: allows key lengths that protect nothing, for tests.

        Raises `UnknownScheme`, `WeakParameters`, `InvalidArgument`, and what the key provider raises. Takes about
        0.1 s for the key, besides the key provider's own time.
        """
        if not isinstance(key_provider, KeyProvider):
            raise InvalidArgument(
                f"the key provider is a {type(key_provider).__name__}, expected one like PassphraseKeyProvider"
            )
        homomorphic = generate_client(
            homomorphic_client_type, embedding_length, key_len, alpha_len, insecure_allow_weak_parameters
        )
        keys = {name: secrets.token_bytes(KEY_BYTES) for name in ("content_key", "metadata_key")}
        secret = homomorphic.secrets() | {name: key.hex() for name, key in keys.items()}
        parts = (
            homomorphic.type,
            _canonical_json(homomorphic.public_key()).decode(),
            _canonical_json({**homomorphic.config(), "version": FORMAT_VERSION}).decode(),
        )
        key, wrapped_key = key_provider.new_key()
        stored = _Stored(
            *parts,
            sk=seal_secret(key, _canonical_json(secret), _associated_data(*parts)),
            key_provider=key_provider.kind,
            wrapped_key=base64.b64encode(wrapped_key).decode(),
        )
        context = cls(homomorphic, keys["content_key"], keys["metadata_key"], stored, key_provider)
        if path is not None:
            context.save_to_disk(path)
        return context

    # What others may know

    @property
    def id(self) -> str:
        """The context's public id: 64 hexadecimal digits."""
        return self._stored.public_id

    def embed_len(self) -> int:
        """The number of positions of this context's vectors."""
        return self.homomorphic.embed_len

    def key_len(self) -> int:
        """The length in bits of each prime."""
        return self.homomorphic.key_len

    def public_data(self) -> dict[str, str]:
        """The public parts as stored: all that the service needs to search."""
        return {"type": self._stored.type, "pk": self._stored.pk, "config": self._stored.config}

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, ExecutionContext) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<ExecutionContext {self.id}>"

    # Names for what the service may compare but not read

    def pseudonym(self, purpose: str, *values: str) -> str:
        """A keyed hash of the values: 32 hexadecimal digits, the same for the same purpose, values and context.

        An observer learns which pseudonyms are equal, and nothing else. HMAC-SHA-256, cut to 128 bits.
        """
        message = _canonical_json([purpose, *values])
        return hmac.digest(self._metadata_key, message, "sha256")[:16].hex()

    # Saving and restoring

    def save_to_disk(self, path: str | os.PathLike[str]) -> None:
        """Writes the context to a file (mode 0600) that only its key provider opens; missing folders are created.

        The file appears whole or not at all. Raises `InaccessibleFile` if it cannot be written.
        """
        document = {"id": self.id, **self._serialized()}
        try:
            _write_atomically(Path(path), msgspec.json.format(msgspec.json.encode(document)) + b"\n")
        except OSError as error:
            raise InaccessibleFile(f"the context cannot be written to {os.fspath(path)}: {error.strerror}") from None

    @classmethod
    def load_from_disk(
        cls,
        passphrase: str | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        key_provider: KeyProvider | None = None,
    ) -> Self:
        """The context of a file, opened with a passphrase or another key provider.

        Raises `InaccessibleFile` if the file cannot be read, `InvalidContext` if it holds no context or a changed one,
        `WrongKey` for a wrong passphrase or key.
        """
        provider = _provider(passphrase, key_provider)
        if path is None:
            raise InvalidArgument("path is missing, expected the file that the context was saved to")
        return cls._open(_parse_file(Path(path)), provider)

    async def save_to_remote(self, integration: ContextStore) -> str:
        """Stores the context on the service and returns its id.

        The service gets the public parts, and the secrets encrypted: it can guess at a passphrase, and learns nothing
        else. Saving again is harmless.
        """
        await integration.store_exec_context(self._serialized(), self.id)
        return self.id

    @classmethod
    async def load_from_remote(
        cls,
        passphrase: str | None = None,
        context_id: str | None = None,
        integration: ContextStore | None = None,
        key_provider: KeyProvider | None = None,
    ) -> Self:
        """The context stored on the service under that id, opened with a passphrase or another key provider.

        Raises `NotFound`, `WrongKey`, and `InvalidContext` if what the service gives is not that context.
        """
        provider = _provider(passphrase, key_provider)
        if context_id is None or integration is None:
            raise InvalidArgument("context_id or integration is missing: say which context, and which service has it")
        data = await integration.get_serialized_exec_context(context_id)
        stored = _parse(data, f"the context {context_id} on the service")
        if stored.public_id != context_id:
            raise InvalidContext(f"the service gave another context than {context_id}: do not use it")
        return await asyncio.to_thread(cls._open, stored, provider)

    @classmethod
    def _open(cls, stored: _Stored, provider: KeyProvider) -> Self:
        _check_id(stored)
        if stored.key_provider != provider.kind:
            raise InvalidContext(
                f"the context was saved with the key provider {stored.key_provider!r}, got {provider.kind!r}"
            )
        config = _json_object(stored.config, "config")
        if config.get("version") != FORMAT_VERSION:
            raise InvalidContext(
                f"the context's format version is {config.get('version')!r}, expected {FORMAT_VERSION}: "
                "it was written by other software"
            )
        key = provider.unwrap_key(_wrapped_key(stored))
        secret = _json_object(open_secret(key, stored.sk, stored.associated_data), "secret")
        homomorphic = load_client(stored.type, config, secret)
        if _canonical_json(homomorphic.public_key()).decode() != stored.pk:
            raise InvalidContext("the context's secret key does not belong to its public key")
        try:
            keys = [bytes.fromhex(secret[name]) for name in ("content_key", "metadata_key")]
        except (KeyError, TypeError, ValueError):
            raise InvalidContext("the context's secret lacks a key") from None
        return cls(homomorphic, keys[0], keys[1], stored, provider)

    def _serialized(self) -> dict[str, str]:
        return {
            **self.public_data(),
            "sk": self._stored.sk,
            "key_provider": self._stored.key_provider,
            "wrapped_key": self._stored.wrapped_key,
        }


def read_public_part(path: str | os.PathLike[str]) -> PublicPart:
    """The public part of the context in a file, read without its key.

    Raises `InaccessibleFile` if the file cannot be read, `InvalidContext` if it holds no context.
    """
    stored = _parse_file(Path(path))
    try:
        config = msgspec.convert(_json_object(stored.config, "config"), _PublicConfig)
    except msgspec.ValidationError as error:
        raise InvalidContext(f"the context's config is not valid ({error}): it was changed") from None
    known = config.version is not None
    if known:
        _check_id(stored)
    return PublicPart(
        id=stored.public_id if known else stored.id,
        scheme=next((name for name, client in SCHEMES.items() if client.type == stored.type), stored.type),
        key_provider=stored.key_provider,
        **msgspec.structs.asdict(config),
    )


class _PublicConfig(msgspec.Struct):
    """The fields of `config` that are shown."""

    embed_len: int
    key_len: int
    alpha_len: int | None = None
    encoding: str | None = None
    version: int | None = None


def _check_id(stored: _Stored) -> None:
    if stored.id is not None and stored.id != stored.public_id:
        raise InvalidContext("the context's id does not belong to its public parts: the file was changed")


def _provider(passphrase: str | None, key_provider: KeyProvider | None) -> KeyProvider:
    if (passphrase is None) == (key_provider is None):
        raise InvalidArgument("expected either a passphrase or a key_provider, and not both")
    return key_provider if key_provider is not None else PassphraseKeyProvider(passphrase or "")


def _parse_file(path: Path) -> _Stored:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InaccessibleFile(f"the context file {path} cannot be read: {error.strerror}") from None
    what = f"the file {path}"
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidContext(f"{what} is larger than a saved context can be")
    return _parse(_json_object(data, what), what)


def _parse(data: dict[str, Any], what: str) -> _Stored:
    try:
        return msgspec.convert(data, _Stored)
    except msgspec.ValidationError as error:
        raise InvalidContext(
            f"{what} holds no complete saved context ({error}): it was cut off, or saved without its secret"
        ) from None


def _wrapped_key(stored: _Stored) -> bytes:
    try:
        return base64.b64decode(stored.wrapped_key, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidContext("the context's wrapped_key is no base64: it was changed or cut off") from None


def _json_object(data: bytes | str, what: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidContext(f"{what} is not the JSON of a saved context: another file, or one cut off") from None


def _canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces (as RFC 8785 has it for what occurs here: strings, integers, objects)."""
    return msgspec.json.encode(value, order="sorted")


def _public_parts(type_: str, pk: str, config: str) -> bytes:
    return _canonical_json({"type": type_, "pk": pk, "config": config})


def _associated_data(type_: str, pk: str, config: str) -> bytes:
    return b"xtrace/context/1" + hashlib.sha256(_public_parts(type_, pk, config)).digest()


def _write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
