"""The execution context: the homomorphic key pair and the content key as one protected object.

What is stored of it (a file, or `data` on the service) are the public parts in clear and the secrets under the key of a
key provider (docs/formats.md, "Execution context"). The id of a native context is a hash of the public parts, so
one context's name cannot be given to another.
"""

import asyncio
import base64
import functools
import hmac
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, Self

from xtrace_sdk.arguments import checked_calls
from xtrace_sdk.errors import InvalidArgument, InvalidContext, InvalidManifest
from xtrace_sdk.x_vec.chunks.cipher import ContentCipher
from xtrace_sdk.x_vec.chunks.private_metadata import PrivateMetaData, private_fields
from xtrace_sdk.x_vec.contexts.context_keys import ContextKeys
from xtrace_sdk.x_vec.contexts.manifest import Accepted, Manifest
from xtrace_sdk.x_vec.contexts.names import ChunkNames, new_name_salt
from xtrace_sdk.x_vec.contexts.opening import WayIn, open_saved, way_in
from xtrace_sdk.x_vec.contexts.retired import retired_cipher, retired_client
from xtrace_sdk.x_vec.contexts.saved_context import (
    PublicPart,
    SavedContext,
    canonical_json,
    parse,
    read_file,
    read_public_part,
)
from xtrace_sdk.x_vec.contexts.weakness import WeakKeyWarning, guarded_client, warn_of_weakness
from xtrace_sdk.x_vec.inference.model import EmbeddingModel, HasModel, model_of
from xtrace_sdk.x_vec.keys.provider import AnyKeyProvider, KeyProvider, PassphraseKeyProvider, as_key_provider
from xtrace_sdk.x_vec.keys.recovery import RecoveryKey
from xtrace_sdk.x_vec.keys.sealed_secret import Envelope, Slot
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.interface import HomomorphicClient, SchemeParameters
from xtrace_sdk.x_vec.schemes.paillier.scheme import MIN_KEY_LEN
from xtrace_sdk.x_vec.schemes.registry import create_client, has_parameter, scheme_name

__all__ = ["ContextStore", "ExecutionContext", "PublicPart", "WeakKeyWarning", "read_public_part"]


_DEFAULT_EMBED_LEN: Final = 512


class ContextStore(Protocol):
    """What a context needs of `XTraceIntegration` to be saved and restored."""

    async def store_exec_context(self, exec_context_dict: dict[str, Any], context_id: str) -> Any: ...
    async def get_serialized_exec_context(self, context_id: str) -> dict[str, Any]: ...


class NamedContextStore(Protocol):
    """What a context with a name needs of `XTraceIntegration`."""

    async def store_exec_context(
        self, exec_context_dict: dict[str, Any], context_id: str, *, name: str | None = None
    ) -> Any: ...
    async def get_serialized_exec_context(self, context_id: str) -> dict[str, Any]: ...
    async def find_exec_context(self, name: str) -> str | None: ...


@checked_calls
class ExecutionContext(Secretive):
    """Keys for one body of encrypted data: create it, save it, restore it, and hand it to a loader and a retriever.

    Contexts are equal if their public identities are; the identity is safe to log, the object shows nothing else.
    """

    __slots__ = (
        *("_aes", "_envelope", "_homomorphic", "_is_kept", "_keys", "_predecessor", "_saved"),
        *("accepted", "key_provider"),
    )

    def __init__(
        self: Self,
        keys: ContextKeys,
        provider: KeyProvider | None,
        saved: SavedContext | None,
        envelope: Envelope | None = None,
        *,
        is_retired: bool = False,
        accepted: Accepted | None = None,
        allow_weak_encryption: bool = True,
    ) -> None:
        """Use `create`, `load_from_disk` or `load_from_remote` instead."""
        self._keys = keys
        self.accepted = accepted or Accepted()
        """Which of the chunks that are stored under this context count."""
        self._saved = saved
        self._envelope = envelope
        self._is_kept = saved is not None
        self._homomorphic = keys.homomorphic if allow_weak_encryption else guarded_client(keys.homomorphic)
        if is_retired:
            self._homomorphic = retired_client(keys.homomorphic)
        self._aes = retired_cipher(keys.content) if is_retired else keys.content
        self._predecessor: Self | None = None
        if keys.predecessor is not None:
            accepted = Accepted(keys.manifests)
            self._predecessor = type(self)(keys.predecessor, None, None, is_retired=True, accepted=accepted)
        self.key_provider = provider

    @classmethod
    def create(
        cls,
        passphrase: str | AnyKeyProvider | None = None,
        homomorphic_client_type: str = "paillier",
        embedding_length: int | None = None,
        key_len: int | None = None,
        salt: Any = None,
        path: str | os.PathLike[str] | None = None,
        key_provider: AnyKeyProvider | None = None,
        *,
        alpha_len: int | None = None,
        private_metadata: PrivateMetaData = False,
        embedding: EmbeddingModel | HasModel | None = None,
        recovery_key: RecoveryKey | None = None,
        insecure_allow_weak_parameters: bool = False,
    ) -> Self:
        """A new context; with `path`, saved there at once.

        Args:
            passphrase: protects the context; or a key provider in its place.
            homomorphic_client_type: `paillier_lookup` (fast; its assumption is in docs/security.md) or `paillier`.
            embedding_length: positions of the vectors, 1 to 4096; by default those of the vectors of `embedding`, or
                512 without it.
            key_len: bits of each prime, by default 1024; 1024 gives 112-bit security, 1536 gives 128-bit.
            salt: must not be given, because each context draws its own.
            path: a file to save to, as `save_to_disk` does.
            key_provider: gives the key that protects the context; a passphrase beside it is not used.
            alpha_len: bits of the subgroup orders of `paillier_lookup`; the default follows from `key_len`.
            private_metadata: fields of metadata whose values the service shall not see, for good: True for all, or
                some of `tag1` to `tag5` and `facets`. It gets keyed hashes of them (docs/metadata.md).
            embedding: the model that the vectors will be from, for good: an `Embedding`, or an `EmbeddingModel`. The
                context remembers its provider, name, dimensions, bits and prompts among its secrets. Loaders and
                retrievers then refuse another model, and use this one where they get none.
            recovery_key: a second key that opens the context, for the day when the first is lost (docs/keys.md).
            insecure_allow_weak_parameters: allows key lengths that protect nothing, for tests.

        Raises `UnknownScheme`, `WeakParameters`, `InvalidArgument`, and what the key provider raises. Takes about
        0.1 s for the key, besides the key provider's own time.
        """
        if salt is not None:
            raise InvalidArgument("salt cannot be chosen: each context draws its own and keeps it; leave it out")
        provider = _provider(passphrase if key_provider is None else key_provider)
        fields = private_fields(private_metadata)
        model = model_of(embedding)
        in_one_ciphertext = model is not None and model.bits is not None
        parameters = SchemeParameters(key_len, alpha_len, insecure_allow_weak_parameters, in_one_ciphertext)
        homomorphic = create_client(homomorphic_client_type, _embed_len(embedding_length, model), parameters)
        keys = ContextKeys.generate(homomorphic, fields, embedding=model)
        return cls._new(keys, provider, recovery_key, path)

    @classmethod
    async def create_or_load(
        cls,
        key_provider: AnyKeyProvider,
        homomorphic_client_type: str,
        embedding_length: int | None = None,
        key_len: int | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        integration: NamedContextStore | None = None,
        alpha_len: int | None = None,
        private_metadata: PrivateMetaData = False,
        embedding: EmbeddingModel | HasModel | None = None,
        insecure_allow_weak_parameters: bool = False,
    ) -> Self:
        """The context in the file `path`, or the one under `name` on the service; a new one, saved there, if missing.

        Of any number of processes and machines that call this at once, one creates the context, and all get that one.
        The other arguments are those of `create`, for the case that it is missing; a context that is there stays as it
        is. Give `path`, or `name` and `integration`.

        Raises what `create`, and `load_from_disk` or `load_from_remote`, raise, and `InaccessibleFile` on a file system
        without hard links.
        """
        if (path is None) == (name is None) or (name is None) != (integration is None):
            raise InvalidArgument("expected either path, or name and integration")
        # In a thread: key providers and files may take their time.
        new: Callable[[], Self] = functools.partial(
            cls.create,
            key_provider,
            homomorphic_client_type,
            embedding_length,
            key_len,
            alpha_len=alpha_len,
            private_metadata=private_metadata,
            embedding=embedding,
            insecure_allow_weak_parameters=insecure_allow_weak_parameters,
        )
        if path is not None:
            return await asyncio.to_thread(cls._create_or_load_file, new, key_provider, Path(path))
        if name is None or integration is None:
            raise AssertionError("one of the two ways was given")
        context_id = await integration.find_exec_context(name)
        if context_id is None:
            context = await asyncio.to_thread(new)
            saved = context._expect_saved().serialized()
            context_id = await integration.store_exec_context(saved, context.id, name=name)
            if context_id == context.id:
                context._is_kept = True
                return context
        return await cls.load_from_remote(None, context_id, integration, key_provider)

    @classmethod
    def _create_or_load_file(cls, new: Callable[[], Self], key_provider: AnyKeyProvider, path: Path) -> Self:
        if not path.exists():
            context = new()
            if context._expect_saved().create(path):
                context._is_kept = True
                return context
        return cls.load_from_disk(path=path, key_provider=key_provider)

    def successor(
        self,
        key_provider: AnyKeyProvider,
        homomorphic_client_type: str | None = None,
        key_len: int | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        alpha_len: int | None = None,
        recovery_key: RecoveryKey | None = None,
        manifests: Iterable[str | os.PathLike[str]] | None = None,
        insecure_allow_weak_parameters: bool = False,
    ) -> Self:
        """A new context that replaces this one: new primes, new content key, the same vectors and private fields.

        It knows this one as its `predecessor`: a `Retriever` of it finds what is stored under either, and
        `xtrace_sdk.x_vec.upkeep.rotation.rotate` moves the chunks. What is not given is as in this context, keys that
        are too short apart. It has the recovery key that is given and no other: this context's is not kept unless its
        words are given again.

        If this context's keys were stolen, give the `manifests` that were written before, one for each knowledge base
        (`xtrace_sdk.x_vec.upkeep.manifest`). Then nothing else that is stored under this context counts. Their digests
        are sealed in the new context; after loading it, give the manifests again with `open_manifests`.

        Raises as `create` does, `InvalidManifest`, and `InvalidArgument` if this context still has a predecessor.
        """
        key_provider = as_key_provider(key_provider)
        if self.predecessor is not None:
            raise InvalidArgument("this context still has a predecessor: finish that rotation (and remove it) first")
        scheme = homomorphic_client_type or scheme_name(self._keys.public.type)
        if key_len is None and has_parameter(scheme, "key_len"):
            key_len = max(self.key_len() or 0, MIN_KEY_LEN)
        parameters = SchemeParameters(key_len, alpha_len, insecure_allow_weak_parameters)
        homomorphic = create_client(scheme, self.embed_len(), parameters)
        read = None if manifests is None else self._own_manifests(manifests)
        sealed = None if read is None else {one.kb_id: one.digest for one in read}
        keys = ContextKeys.generate(homomorphic, predecessor=self._keys, manifests=sealed)
        new = self._new(keys, key_provider, recovery_key, path)
        if new.predecessor is not None and read is not None:
            new.predecessor.accepted.open(self.id, read)
        return new

    def _own_manifests(self, paths: Iterable[str | os.PathLike[str]]) -> list[Manifest]:
        read = [Manifest.read(path) for path in paths]
        if foreign := [one.kb_id for one in read if one.context_id != self.id]:
            raise InvalidManifest(f"the manifest of the knowledge base {foreign[0]} is of another context than this")
        if len({one.kb_id for one in read}) < len(read):
            raise InvalidManifest("there are two manifests of one knowledge base, expected one of each")
        return read

    def open_manifests(self, paths: Iterable[str | os.PathLike[str]]) -> Self:
        """Reads the manifests that this context was made with as a successor, and returns it.

        Until then, searches and other calls that meet a chunk under the predecessor raise `InvalidArgument`. Raises
        `InaccessibleFile`, and `InvalidManifest` for others than those whose digests are sealed in the context.
        """
        before = self._predecessor
        if before is None or before.accepted.is_everything:
            raise InvalidArgument(
                "this context was not made with manifests, or its rotation is finished: none are needed"
            )
        before.accepted.open(before.id, [Manifest.read(path) for path in paths])
        return self

    @classmethod
    def _new(
        cls,
        keys: ContextKeys,
        provider: AnyKeyProvider,
        recovery_key: RecoveryKey | None,
        path: str | os.PathLike[str] | None,
    ) -> Self:
        provider = as_key_provider(provider)
        context = cls(keys, provider, None).rewrap(provider)
        if recovery_key is not None:
            context.set_recovery_key(recovery_key)
        if path is not None:
            context.save_to_disk(path)
        return context

    # What others may know

    @property
    def id(self) -> str:
        """The context's public id: 64 hexadecimal digits."""
        return self._keys.id

    def embed_len(self) -> int:
        """The number of positions of this context's vectors."""
        return self.homomorphic.embed_len

    def key_len(self) -> int | None:
        """The length in bits of each prime; None for a scheme without primes."""
        return self._keys.public.config_object().get("key_len")

    @property
    def embedding_model(self) -> EmbeddingModel | None:
        """The model that this context's vectors are from, if it was created with one. The service does not learn it."""
        return self._keys.embedding

    @property
    def private_metadata(self) -> tuple[str, ...]:
        """The fields of metadata of which the service has keyed hashes only; empty if it sees all."""
        return self._keys.private_metadata

    def public_data(self) -> dict[str, str]:
        """The public parts as stored: all that the service needs to search."""
        return self._keys.public.public_data()

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, ExecutionContext) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<ExecutionContext {self.id}>"

    # Keys

    @property
    def homomorphic(self) -> HomomorphicClient:
        """The scheme's client half: encrypts vectors and queries, reads distances."""
        return self._homomorphic

    @property
    def aes(self) -> ContentCipher:
        """The content cipher."""
        return self._aes

    @property
    def is_ours(self) -> bool:
        """Whether this software made the keys, and not another client of the wire format."""
        return self._keys.public.is_ours

    @property
    def predecessor(self) -> Self | None:
        """The context that this one replaces, while chunks may still be stored under it. It encrypts nothing."""
        return self._predecessor

    @property
    def replaced(self) -> str | None:
        """The id of the context that this one replaced, once that rotation is finished; otherwise None."""
        return self._keys.replaced

    @property
    def lineage(self) -> tuple[Self, ...]:
        """The contexts under which this one's chunks are, the predecessor first.

        A rotation moves chunks from the first to the last: a reader that queries them in this order sees every chunk at
        least once.
        """
        return (self,) if self._predecessor is None else (self._predecessor, self)

    @property
    def is_kept(self) -> bool:
        """Whether the context was loaded, or saved since it was made: its keys are not in this process alone."""
        return self._is_kept

    def pseudonym(self, purpose: str, *values: str) -> str:
        """A keyed hash of the values: 32 hexadecimal digits, the same for the same purpose, values and context.

        A context and its predecessor give the same. An observer learns which pseudonyms are equal, and nothing else.
        HMAC-SHA-256, cut to 128 bits.
        """
        message = canonical_json([purpose, *values])
        return hmac.digest(self._keys.metadata_key, message, "sha256")[:16].hex()

    def new_name_salt(self, kb_id: str) -> bytes:
        """A new salt for the names of chunks in a knowledge base, for the service to keep: 64 bytes.

        It shows nothing, and cannot be given for another knowledge base's.
        """
        return new_name_salt(self._keys.homomorphic.hedge, self._keys.metadata_key, kb_id)

    def chunk_names(self, kb_id: str, stored_salt: bytes) -> ChunkNames:
        """The names of chunks in a knowledge base whose salt the service keeps; a predecessor's are the same.

        Raises `ForeignNameSalt` for a salt that was not made for this knowledge base under this context.
        """
        return ChunkNames(self._keys.metadata_key, kb_id, stored_salt)

    def rewrap(self, new_provider: AnyKeyProvider) -> Self:
        """Protects the context by another provider's key from now on, and returns it; save it to make that last.

        The id, the keys of the data, the recovery key and all chunks stay as they are, so this revokes nothing: a copy
        of the context as it was saved before still opens with the old provider. Only a rotation does. What another
        client saved is written in our form then. Raises what the provider raises.
        """
        new_provider = as_key_provider(new_provider)
        key, wrapped_key = new_provider.new_key()
        public = self._keys.public
        if self._envelope is None:
            envelope = Envelope.new(key, public.associated_data)
        else:
            envelope = self._envelope.with_slot(Slot.PROVIDER, key)
        self._seal(envelope, new_provider.kind, base64.b64encode(wrapped_key).decode())
        self.key_provider = new_provider
        return self

    @property
    def has_recovery_key(self) -> bool:
        """Whether a recovery key opens the context too."""
        return self._envelope is not None and self._envelope.has_recovery_key

    def set_recovery_key(self, recovery_key: RecoveryKey | None) -> Self:
        """Lets this recovery key, or with None none, open the context, and returns it; save it to make that last.

        A recovery key that it had before opens only copies that were saved before. Raises `InvalidArgument` for a
        context that another client saved and that was not rewrapped.
        """
        saved, envelope = self._expect_saved(), self._envelope
        if envelope is None:
            raise InvalidArgument("this context was saved by other software: rewrap it before it gets a recovery key")
        changed = (
            envelope.without_recovery_key()
            if recovery_key is None
            else envelope.with_slot(Slot.RECOVERY, recovery_key.key())
        )
        self._seal(changed, saved.key_provider, saved.wrapped_key)
        return self

    def forget_predecessor(self) -> Self:
        """Takes the predecessor's keys out of the context, and returns it; save it to make that last.

        For the end of a rotation, which `rotate(…, finish=True)` brings about: nothing that is stored under the
        predecessor counts for this context any more. Copies that were saved before still accept it.
        """
        self._keys = self._keys.without_predecessor()
        self._predecessor = None
        if self._saved is not None and self._envelope is not None:
            self._seal(self._envelope, self._saved.key_provider, self._saved.wrapped_key)
        return self

    def _seal(self, envelope: Envelope, key_provider: str, wrapped_key: str) -> None:
        self._envelope = envelope
        self._saved = SavedContext(
            **self._keys.public.public_data(),
            sk=envelope.seal(canonical_json(self._keys.secret())),
            key_provider=key_provider,
            wrapped_key=wrapped_key,
            id=self.id,
        )

    # Saving and restoring

    def to_dict_enc(self) -> dict[str, str]:
        """What is saved of the context on the service: the public parts, and the secrets encrypted."""
        return self._expect_saved().serialized()

    def serialize_exec_context(self) -> dict[str, str]:
        """The same as `to_dict_enc`, ready for `XTraceIntegration.store_exec_context`."""
        return self.to_dict_enc()

    def to_dict_plain(self) -> NoReturn:
        """Raises `InvalidArgument`: a context never gives its secret keys away in clear."""
        raise InvalidArgument(
            "a context does not give its secret keys away in clear: to_dict_enc returns what is saved, encrypted; "
            "rewrap protects it by another key"
        )

    def save_to_disk(self, path: str | os.PathLike[str]) -> None:
        """Writes the context to a file (mode 0600) that only its key provider opens, or its recovery key.

        Missing folders are created.

        The file appears whole or not at all. That of another context, whose keys may be nowhere else, is kept as
        `PATH.ID`, with the first 12 digits of its id. Raises `InaccessibleFile` if the file cannot be written.
        """
        self._expect_saved().write(Path(path))
        self._is_kept = True

    @classmethod
    def load_from_disk(
        cls,
        passphrase: str | None = None,
        path: str | os.PathLike[str] | None = None,
        key_provider: AnyKeyProvider | None = None,
        *,
        recovery_key: RecoveryKey | str | None = None,
        insecure_allow_weak_encryption: bool = False,
    ) -> Self:
        """The context of a file, opened with a passphrase, another key provider, or a recovery key or its words.

        A passphrase beside a key provider is not used.

        One opened with its recovery key has no `key_provider`: rewrap it, to have one again.

        A file that another client of the wire format saved opens too. If the context is weak (short primes or noise
        groups, a passphrase that is cheap to guess), a `WeakKeyWarning` says so, and no chunks are encrypted under a
        weak key. With `insecure_allow_weak_encryption` they are, and nothing warns.

        Raises `InaccessibleFile` if the file cannot be read, `InvalidContext` if it does not contain a
        context or was changed, `WrongKey` for a wrong passphrase or key.
        """
        way = way_in(passphrase, key_provider, recovery_key)
        if path is None:
            raise InvalidArgument("path is missing, expected the file that the context was saved to")
        return cls._open(read_file(Path(path)), way, insecure_allow_weak_encryption)

    async def save_to_remote(self, integration: ContextStore) -> str:
        """Stores the context on the service and returns its id.

        The service gets the public parts, and the secrets encrypted: it can guess at a passphrase, and learns nothing
        else. Saving again replaces the encrypted secrets.
        """
        await integration.store_exec_context(self._expect_saved().serialized(), self.id)
        self._is_kept = True
        return self.id

    @classmethod
    async def load_from_remote(
        cls,
        passphrase: str | None = None,
        context_id: str | None = None,
        integration: ContextStore | None = None,
        key_provider: AnyKeyProvider | None = None,
        *,
        recovery_key: RecoveryKey | str | None = None,
        insecure_allow_weak_encryption: bool = False,
    ) -> Self:
        """The context stored on the service under that id, opened as `load_from_disk` opens a file.

        Raises `NotFound`, `WrongKey`, and `InvalidContext` if what the service gives is not that
        context.
        """
        way = way_in(passphrase, key_provider, recovery_key)
        if context_id is None or integration is None:
            raise InvalidArgument("context_id or integration is missing: say which context, and which service has it")
        data = await integration.get_serialized_exec_context(context_id)
        saved = parse(data, f"the context {context_id} on the service")
        if saved.is_ours and saved.public_id != context_id:
            raise _foreign(context_id)
        context = await asyncio.to_thread(cls._open, saved, way, insecure_allow_weak_encryption)
        if context.id != context_id:
            raise _foreign(context_id)
        return context

    @classmethod
    def _open(cls, saved: SavedContext, way: WayIn, allow_weak_encryption: bool) -> Self:
        opened = open_saved(saved, way)
        if not allow_weak_encryption:
            warn_of_weakness(opened.keys, opened.saved)
        provider = None if isinstance(way, RecoveryKey) else way
        return cls(opened.keys, provider, opened.saved, opened.envelope, allow_weak_encryption=allow_weak_encryption)

    def _expect_saved(self) -> SavedContext:
        if self._saved is None:
            raise InvalidArgument("this context is known as a predecessor only: rewrap it before it is saved")
        return self._saved


def _embed_len(given: int | None, model: EmbeddingModel | None) -> int:
    if given is not None and model is not None and given != model.embed_len:
        bits = f"{model.dim} dimensions" if model.bits is None else f"{model.bits} bits"
        raise InvalidArgument(f"embedding_length is {given}, but the embedding has {bits}: leave it out")
    if model is not None:
        return model.embed_len
    return _DEFAULT_EMBED_LEN if given is None else given


def _foreign(context_id: str) -> InvalidContext:
    return InvalidContext(f"the service gave another context than {context_id}: do not use it")


def _provider(given: str | AnyKeyProvider | None) -> KeyProvider:
    if given is None:
        raise InvalidArgument("expected a passphrase or a key_provider, which protects the new context")
    return PassphraseKeyProvider(given) if isinstance(given, str) else as_key_provider(given)
