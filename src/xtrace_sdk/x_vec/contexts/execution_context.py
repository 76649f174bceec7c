"""The execution context: the homomorphic key pair and the content key as one protected object.

Its stored form (a file, or `data` on the service) contains the public parts in plaintext and the secrets encrypted
under a key provider's key (docs/formats.md, "Execution context"). The id of a native context is a hash of the public
parts, so a context cannot be passed off as another one.
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
_DERIVED_KEY_LABEL: Final = "xtrace/derived-key/1"


class ContextStore(Protocol):
    """The part of `XTraceIntegration` that saves and restores contexts."""

    async def store_exec_context(self, exec_context_dict: dict[str, Any], context_id: str) -> Any: ...
    async def get_serialized_exec_context(self, context_id: str) -> dict[str, Any]: ...


class NamedContextStore(Protocol):
    """The part of `XTraceIntegration` that finds contexts by name."""

    async def store_exec_context(
        self, exec_context_dict: dict[str, Any], context_id: str, *, name: str | None = None
    ) -> Any: ...
    async def get_serialized_exec_context(self, context_id: str) -> dict[str, Any]: ...
    async def find_exec_context(self, name: str) -> str | None: ...


@checked_calls
class ExecutionContext(Secretive):
    """Keys for one set of encrypted data: create it, save it, restore it, and pass it to a loader and a retriever.

    Contexts are equal if their public identities are. The `repr` shows only the identity, which is safe to log.
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
        """Which of the chunks stored under this context are accepted."""
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
        """Creates a new context; with `path`, saves it there at once.

        Args:
            passphrase: protects the context; a key provider is also accepted here.
            homomorphic_client_type: `paillier`, `paillier_lookup` (fast; its assumption is in docs/security.md) or
                `lattice` (docs/schemes.md).
            embedding_length: positions of the vectors, 1 to 4096; by default those of `embedding`, or 512 without it.
            key_len: bits of each prime, by default 1024; 1024 gives 112-bit security, 1536 gives 128-bit. `lattice`
                does not have primes, so omit it.
            salt: must not be passed, because each context generates its own.
            path: a file to save to, as `save_to_disk` does.
            key_provider: provides the key that protects the context; `passphrase` is then ignored.
            alpha_len: bits of the subgroup orders of `paillier_lookup`; the default follows from `key_len`.
            private_metadata: metadata fields whose values are hidden from the service, permanently: True for all, or
                some of `tag1` to `tag5` and `facets`. The service gets keyed hashes of them (docs/metadata.md).
            embedding: the model of the vectors, permanently: an `Embedding`, or an `EmbeddingModel`. The context
                stores its provider, name, dimensions, bits and prompts among its secrets. Loaders and retrievers then
                reject a different model, and use this one by default.
            recovery_key: a second key that opens the context, in case the first one is lost (docs/keys.md).
            insecure_allow_weak_parameters: allows insecure key lengths, for tests.

        Raises `UnknownScheme`, `WeakParameters`, `InvalidArgument`, and what the key provider raises. Takes about
        0.1 s for the key, besides the key provider's own time.
        """
        if salt is not None:
            raise InvalidArgument("salt cannot be chosen, because each context generates its own: omit it")
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
        """Loads the context in the file `path`, or under `name` on the service; creates and saves it if it is missing.

        If several processes or machines call this at the same time, one creates the context, and all get it. The other
        arguments are those of `create` and are used only if the context is missing. Pass `path`, or `name` and
        `integration`.

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
            saved = context._checked_saved().serialized()
            context_id = await integration.store_exec_context(saved, context.id, name=name)
            if context_id == context.id:
                context._is_kept = True
                return context
        return await cls.load_from_remote(None, context_id, integration, key_provider)

    @classmethod
    def _create_or_load_file(cls, new: Callable[[], Self], key_provider: AnyKeyProvider, path: Path) -> Self:
        if not path.exists():
            context = new()
            if context._checked_saved().create(path):
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
        """Creates a context that replaces this one, with a new key pair and a new content key, for the same vectors and
        fields.

        This context becomes its `predecessor`: a `Retriever` with the new context finds what is stored under either,
        and `xtrace_sdk.x_vec.upkeep.rotation.rotate` moves the chunks. Arguments default to this context's values,
        except for keys that are too short. The new context has only the recovery key passed here: to keep this
        context's recovery key, pass its words again.

        If this context's keys were stolen, pass the `manifests` that were written before, one for each knowledge base
        (`xtrace_sdk.x_vec.upkeep.manifest`). Then only the listed chunks are accepted. The manifests' digests are
        sealed in the new context; after loading it, pass the manifests again with `open_manifests`.

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
            raise InvalidManifest(f"the manifest of the knowledge base {foreign[0]} belongs to another context")
        if len({one.kb_id for one in read}) < len(read):
            raise InvalidManifest("there are two manifests of one knowledge base, expected one for each")
        return read

    def open_manifests(self, paths: Iterable[str | os.PathLike[str]]) -> Self:
        """Reads the manifests with which this context was created as a successor, and returns the context.

        Until then, calls that encounter a chunk under the predecessor raise `InvalidArgument`. Raises
        `InaccessibleFile`, and `InvalidManifest` for manifests whose digests are not sealed in the context.
        """
        before = self._predecessor
        if before is None or before.accepted.is_everything:
            raise InvalidArgument(
                "this context was created without manifests, or its rotation is finished: do not pass any"
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
        """The model of this context's vectors, if it was created with one. The service does not learn it."""
        return self._keys.embedding

    @property
    def private_metadata(self) -> tuple[str, ...]:
        """The metadata fields of which the service has only keyed hashes; empty if it sees all."""
        return self._keys.private_metadata

    def public_data(self) -> dict[str, str]:
        """The public parts as stored, which is all that the service needs to search."""
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
        """Whether the context is native, not from another client of the wire format."""
        return self._keys.public.is_ours

    @property
    def predecessor(self) -> Self | None:
        """The context that this one replaces, while chunks may still be stored under it. It never encrypts."""
        return self._predecessor

    @property
    def replaced(self) -> str | None:
        """The id of the context that this one replaced, if that rotation is finished; otherwise None."""
        return self._keys.replaced

    @property
    def lineage(self) -> tuple[Self, ...]:
        """The contexts under which chunks may be stored, the predecessor first.

        A rotation moves chunks from the first to the last: a reader that queries them in this order sees every chunk at
        least once.
        """
        return (self,) if self._predecessor is None else (self._predecessor, self)

    @property
    def is_kept(self) -> bool:
        """Whether the context was loaded, or saved since it was created, so that its keys are not only in this
        process."""
        return self._is_kept

    def pseudonym(self, purpose: str, *values: str) -> str:
        """Returns a keyed hash of the values: 32 hexadecimal digits, equal for the same purpose, values and context.

        A context and its predecessor return the same pseudonyms. An observer learns only which pseudonyms are equal.
        HMAC-SHA-256, truncated to 128 bits.
        """
        message = canonical_json([purpose, *values])
        return self._keys.pseudonyms.digest(message)[:16].hex()

    def derived_key(self, purpose: str, *values: str) -> bytes:
        """Returns a key (32 bytes) for data on this machine, which follows from the content key.

        Unlike pseudonyms, a predecessor's differs. HMAC-SHA-256.
        """
        return hmac.digest(self.aes.secret(), canonical_json([_DERIVED_KEY_LABEL, purpose, *values]), "sha256")

    def new_name_salt(self, kb_id: str) -> bytes:
        """Creates a salt for the names of chunks in a knowledge base, for the service to store: 64 bytes.

        It reveals nothing, and is not valid for another knowledge base.
        """
        return new_name_salt(self._keys.homomorphic.hedge, self._keys.metadata_key, kb_id)

    def chunk_names(self, kb_id: str, stored_salt: bytes) -> ChunkNames:
        """The names of chunks in a knowledge base with the salt from the service; a predecessor has the same names.

        Raises `ForeignNameSalt` for a salt that was not made for this knowledge base under this context.
        """
        return ChunkNames(self._keys.metadata_key, kb_id, stored_salt)

    def rewrap(self, new_provider: AnyKeyProvider) -> Self:
        """Protects the context with another provider's key, and returns it; save it afterwards.

        The id, the keys of the data, the recovery key and all chunks stay the same, so this revokes nothing: copies
        saved before still open with the old provider. Only a rotation revokes access. A context of another client is
        then saved in XTrace's format. Raises what the provider raises.
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
        """Whether a recovery key can open the context."""
        return self._envelope is not None and self._envelope.has_recovery_key

    def set_recovery_key(self, recovery_key: RecoveryKey | None) -> Self:
        """Sets the recovery key, or removes it with None, and returns the context; save it afterwards.

        A previous recovery key still opens copies saved before. Raises `InvalidArgument` for another client's context
        that was not rewrapped.
        """
        saved, envelope = self._checked_saved(), self._envelope
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
        """Removes the predecessor's keys from the context, and returns it; save it afterwards.

        `rotate(…, finish=True)` calls this at the end of a rotation: chunks under the predecessor are no longer
        accepted. Copies saved before still accept them.
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
        """The form that is saved on the service: the public parts, and the encrypted secrets."""
        return self._checked_saved().serialized()

    def serialize_exec_context(self) -> dict[str, str]:
        """The same as `to_dict_enc`, ready for `XTraceIntegration.store_exec_context`."""
        return self.to_dict_enc()

    def to_dict_plain(self) -> NoReturn:
        """Raises `InvalidArgument`: secret keys are never exported in plaintext."""
        raise InvalidArgument(
            "secret keys are never exported in plaintext: to_dict_enc returns the encrypted form; rewrap changes "
            "the key that protects it"
        )

    def save_to_disk(self, path: str | os.PathLike[str]) -> None:
        """Writes the context to a file (mode 0600) that only its key provider or its recovery key can open.

        Missing folders are created.

        The file is written atomically. If it contains a different context, whose keys may exist only there, the old
        file is kept as `PATH.ID`, with the first 12 digits of its id. Raises `InaccessibleFile` if the file cannot be
        written.
        """
        self._checked_saved().write(Path(path))
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
        """Opens the context in a file with a passphrase, another key provider, or a recovery key or its words.

        If both a passphrase and a key provider are passed, the passphrase is ignored.

        A context opened with its recovery key does not have a `key_provider`: rewrap it.

        Files of other clients of the wire format can be opened too. If the context is weak (short primes or noise
        groups, a cheap key derivation), a `WeakKeyWarning` is emitted, and a weak key encrypts no chunks. With
        `insecure_allow_weak_encryption` it does, without a warning.

        Raises `InaccessibleFile` if the file cannot be read, `InvalidContext` if it is not a context or was changed,
        and `WrongKey` for a wrong passphrase or key.
        """
        way = way_in(passphrase, key_provider, recovery_key)
        if path is None:
            raise InvalidArgument("path is missing, expected the file that the context was saved to")
        return cls._open(read_file(Path(path)), way, insecure_allow_weak_encryption)

    async def save_to_remote(self, integration: ContextStore) -> str:
        """Stores the context on the service and returns its id.

        The service gets the public parts and the encrypted secrets: it can try passphrases, and learns nothing else.
        Saving again replaces the encrypted secrets.
        """
        await integration.store_exec_context(self._checked_saved().serialized(), self.id)
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
        """Opens the context with this id from the service, as `load_from_disk` opens a file.

        Raises `NotFound`, `WrongKey`, and `InvalidContext` if the service returns a different context.
        """
        way = way_in(passphrase, key_provider, recovery_key)
        if context_id is None or integration is None:
            raise InvalidArgument(
                "context_id or integration is missing, expected the context's id and the service that has it"
            )
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

    def _checked_saved(self) -> SavedContext:
        if self._saved is None:
            raise InvalidArgument("this context was loaded as a predecessor: rewrap it before you save it")
        return self._saved


def _embed_len(given: int | None, model: EmbeddingModel | None) -> int:
    if given is not None and model is not None and given != model.embed_len:
        bits = f"{model.dim} dimensions" if model.bits is None else f"{model.bits} bits"
        raise InvalidArgument(f"embedding_length is {given}, but the embedding has {bits}: omit it")
    if model is not None:
        return model.embed_len
    return _DEFAULT_EMBED_LEN if given is None else given


def _foreign(context_id: str) -> InvalidContext:
    return InvalidContext(f"the service returned a different context than {context_id}: do not use it")


def _provider(given: str | AnyKeyProvider | None) -> KeyProvider:
    if given is None:
        raise InvalidArgument("expected a passphrase or a key_provider to protect the new context")
    return PassphraseKeyProvider(given) if isinstance(given, str) else as_key_provider(given)
