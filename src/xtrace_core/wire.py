"""The payloads of the HTTP contract, each defined once for the server and the client.

Structs carry ciphertexts, nonces and other binary fields as `bytes`: msgspec writes them as base64 (standard
alphabet, padded) in JSON and as they are in MessagePack. A ciphertext is the **little-endian** bytes of an
integer without padding to a fixed width; a receiver accepts any length up to the full width. An *index* (the
encrypted vector of one chunk) is a list of ciphertexts, and so is a query.

A field whose default is `UNSET` is left out of the message when it is not set, and that differs from null: in
a patch `UNSET` leaves a tag alone while None removes it. Fields that a receiver does not know are ignored,
except in `meta_data` and quotas, where they are an error.
"""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from xtrace_core.limits import MAX_CIPHERTEXT_BYTES, MAX_CIPHERTEXTS
from xtrace_core.permissions import Permission
from xtrace_core.secrecy import Secretive

PROBLEM_JSON = "application/problem+json"
MSGPACK = "application/x-msgpack"
MSGPACK_NAMES = frozenset((MSGPACK, "application/msgpack", "application/vnd.msgpack"))
"""What senders call it."""

API_KEY_HEADER = "x-api-key"
ADMIN_KEY_HEADER = "x-xtrace-key"
ORGANISATION_HEADER = "x-xtrace-org-id"
OPERATOR_KEY_HEADER = "x-xtrace-operator-key"
IDEMPOTENCY_KEY_HEADER = "idempotency-key"

MAX_NONCE_BYTES = 32
MAX_PAGE_TOKEN_CHARACTERS = 1 << 20
"""A token holds the value that the last chunk of its page was sorted by, and so may be longer than a tag."""
MAX_NAME_SALT_BYTES = 128
MAX_ORGANISATION_NAME = 256
MAX_QUERIES = 32
"""How many queries one search may carry."""

TAGS = ("tag1", "tag2", "tag3", "tag4", "tag5")

Tag = Literal["tag1", "tag2", "tag3", "tag4", "tag5"]
SortBy = Literal["chunk_id", "created_at", "updated_at", "tag1", "tag2", "tag3", "tag4", "tag5"]
SortOrder = Literal["asc", "desc"]
OnConflict = Literal["skip", "replace", "fail"]
"""What an insertion does with a chunk whose name is stored already."""
Outcome = Literal["inserted", "replaced", "known"]
"""What it did with a chunk; `known` is one that was there, and stays as it was."""

Nonce = Annotated[bytes, Meta(max_length=MAX_NONCE_BYTES)]
Index = Annotated[list[Annotated[bytes, Meta(max_length=MAX_CIPHERTEXT_BYTES)]], Meta(max_length=MAX_CIPHERTEXTS)]
"""An encrypted vector as the service gives it; no modulus that a service accepts has longer ciphertexts."""
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
ChunkId = Count
"""As the service gives it."""
MAX_CHUNK_ID = 2**63 - 1
SaltBytes = Annotated[bytes, Meta(min_length=1, max_length=MAX_NAME_SALT_BYTES)]
CONTEXT_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
ContextName = Annotated[str, Meta(pattern=CONTEXT_NAME)]
"""What people call a context of an organisation; part of a path."""
Identifier = Annotated[str, Meta(min_length=1, max_length=256)]
PathIdentifier = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^(?!\.{1,2}$)[^/\x00-\x1f]+$(?!\n)")]
"""One that stands in the path of an address by itself."""

PROJECTION_FIELDS = frozenset(
    (
        "chunk_id",
        "meta_data",
        "name",
        "created_at",
        "updated_at",
        "chunk_content",
        "index",
        "nonce",
        "facets",
        *TAGS,
    )
)
"""What a projection may name: the top-level fields of a chunk, and single fields of its `meta_data`."""


def ciphertext_to_bytes(value: int) -> bytes:
    """The integer's little-endian bytes without padding, as a ciphertext travels; negative is an
    `OverflowError`."""
    return value.to_bytes((value.bit_length() + 7) // 8, "little")


def ciphertext_from_bytes(data: bytes) -> int:
    """The integer of a ciphertext's little-endian bytes, whatever its length."""
    return int.from_bytes(data, "little")


class NamedFields(Struct):
    """A struct that also answers like the JSON object that it stands for: `kb["numberOfVectors"]`, `in`, `dict(kb)`.

    Keys are the names on the wire; a field that is `UNSET` is not there.
    """

    def __getitem__(self, key: str) -> Any:
        return self._object()[key]

    def __contains__(self, key: object) -> bool:
        return key in self._object()

    def __iter__(self) -> Iterator[str]:
        return iter(self._object())

    def __len__(self) -> int:
        return len(self._object())

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a field by its name on the wire, or the default."""
        return self._object().get(key, default)

    def keys(self) -> KeysView[str]:
        """The names on the wire."""
        return self._object().keys()

    def values(self) -> ValuesView[Any]:
        """The values, in the order of the names."""
        return self._object().values()

    def items(self) -> ItemsView[str, Any]:
        """Names and values."""
        return self._object().items()

    def _object(self) -> dict[str, Any]:
        names = zip(self.__struct_encode_fields__, self.__struct_fields__, strict=True)
        found = {name: getattr(self, field_name) for name, field_name in names}
        return {name: value for name, value in found.items() if value is not UNSET}


Mapping.register(NamedFields)


# Chunks


class MetaData(Struct, forbid_unknown_fields=True):
    """The metadata of a chunk: what a chunk carries, and what a patch changes.

    On insertion and update None means not set, as does an empty list of facets. In a patch None removes the
    field, and a field that is left out stays as it is.
    """

    tag1: str | UnsetType | None = UNSET
    tag2: str | UnsetType | None = UNSET
    tag3: str | UnsetType | None = UNSET
    tag4: str | UnsetType | None = UNSET
    tag5: str | UnsetType | None = UNSET
    facets: list[str] | UnsetType | None = UNSET


class NewChunk(Struct, omit_defaults=True):
    """A chunk to insert: encrypted content, encrypted vector, plain metadata."""

    chunk_content: str
    index: list[bytes]
    meta_data: MetaData | None = None
    name: str | None = None
    nonce: Nonce | None = None


class ChunkUpdate(Struct, kw_only=True, omit_defaults=True):
    """Everything that a stored chunk is to hold from now on; what is left out is removed.

    With `if_updated_at`, only if that is the stored chunk's `updated_at` still.
    """

    chunk_id: int
    chunk_content: str
    index: list[bytes]
    meta_data: MetaData | None = None
    name: str | None = None
    nonce: Nonce | None = None
    if_updated_at: str | None = None


class ChunkPatch(Struct, kw_only=True):
    """The fields of a stored chunk that are to change. A patched index without a nonce removes the nonce.

    With `if_updated_at`, only if that is the stored chunk's `updated_at` still.
    """

    chunk_id: int
    chunk_content: str | UnsetType = UNSET
    index: list[bytes] | UnsetType = UNSET
    meta_data: MetaData | UnsetType = UNSET
    name: str | UnsetType | None = UNSET
    nonce: Nonce | UnsetType | None = UNSET
    if_updated_at: str | UnsetType | None = UNSET


class InsertChunks(Struct, omit_defaults=True):
    """Chunks to store under new ids.

    With `on_conflict` their names, all different and none empty, are unique in the knowledge base and context among
    chunks that are stored so: a chunk whose name is there is left out (`skip`), replaces the one that has it
    (`replace`), or fails the whole request (`fail`).
    """

    kb_id: str
    context_id: str
    chunks: list[NewChunk]
    on_conflict: OnConflict | None = None


class InsertedChunks(Struct, omit_defaults=True):
    """The ids that hold now, in the order of the request, and with `on_conflict` what was done with each chunk."""

    chunk_ids: list[ChunkId]
    results: list[Outcome] | UnsetType = UNSET


class UpdateChunks(Struct):
    kb_id: str
    context_id: str
    chunk_updates: list[ChunkUpdate]


class PatchChunks(Struct):
    kb_id: str
    context_id: str
    chunk_patches: list[ChunkPatch]


class Acknowledgement(Struct):
    """An object whatever is in it: the answer to what was done, or not done, as a whole."""


class UpdatedCount(Struct):
    updated_count: Count


class WouldUpdateCount(Struct):
    would_update_count: Count


class DeletedCount(Struct):
    deleted_count: Count


class WouldDeleteCount(Struct):
    would_delete_count: Count


class Chunk(Struct, kw_only=True):
    """A stored chunk as it comes back, with the fields that were asked for. A chunk without a nonce has no
    `nonce`."""

    chunk_id: ChunkId
    meta_data: MetaData | UnsetType = UNSET
    name: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET
    chunk_content: str | UnsetType = UNSET
    index: Index | UnsetType = UNSET
    nonce: Nonce | UnsetType = UNSET


class FindNames(Struct):
    """Which of these names are stored under a context? Ours alone: a resumed load skips what is there."""

    kb_id: str
    context_id: str
    names: list[str]


class FoundNames(Struct):
    """For each name that is stored, the smallest id of a chunk that has it."""

    chunk_ids: dict[str, ChunkId]


# Search


class ComputeHamming(Struct, kw_only=True, omit_defaults=True):
    """An encrypted query; `id_range` (on the wire `range`) bounds the chunk ids, both ends included."""

    kb_id: str
    context_id: str
    query: list[bytes]
    meta_filter: Any = None
    id_range: tuple[int, int] | None = field(default=None, name="range")


class ComputeHammingBatch(Struct, kw_only=True, omit_defaults=True):
    """Several encrypted queries over the same candidates. Ours alone: answered in frames, each row with the ciphertexts
    of the first query, then of the second, and so on."""

    kb_id: str
    context_id: str
    queries: Annotated[list[list[bytes]], Meta(min_length=1, max_length=MAX_QUERIES)]
    meta_filter: Any = None
    id_range: tuple[int, int] | None = field(default=None, name="range")


class SearchRow(Struct, array_like=True):
    """One candidate's element of the MessagePack array that answers `ComputeHamming`, by ascending chunk
    id."""

    ciphertexts: Index
    chunk_id: ChunkId
    nonce: Nonce | None = None


class SearchMetaData(Struct, kw_only=True, omit_defaults=True):
    kb_id: str
    context_id: str
    meta_filter: Any = None
    projection: list[str] | None = None
    return_content: bool | None = None


class PageMetaData(Struct, kw_only=True, omit_defaults=True):
    """A page of a metadata search: by `offset`, or by the opaque `page_token` of the page before."""

    kb_id: str
    context_id: str
    meta_filter: Any = None
    projection: list[str] | None = None
    limit: Annotated[int, Meta(ge=0)] | None = None
    offset: Annotated[int, Meta(ge=0)] | None = None
    sort_by: SortBy = "chunk_id"
    sort_order: SortOrder = "desc"
    return_content: bool | None = None
    page_token: str | None = None


class Page(Struct):
    results: list[Chunk]
    total: Count
    limit: Count | None
    offset: Count
    has_more: bool
    next_page_token: Annotated[str, Meta(max_length=MAX_PAGE_TOKEN_CHARACTERS)] | None


class DeleteByMetaData(Struct):
    kb_id: str
    context_id: str
    meta_filter: Any
    dry_run: bool = False


class PatchByMetaData(Struct):
    kb_id: str
    context_id: str
    meta_filter: Any
    patch: MetaData
    dry_run: bool = False


# Execution contexts


class ContextData(Struct, kw_only=True, omit_defaults=True):
    """A stored execution context. Without `sk`, `key_provider` and `wrapped_key` only its public part is
    known.

    `pk` and `config` are JSON texts; `sk` is encrypted and opaque to the service.
    """

    type: str
    pk: str
    config: str
    sk: str | None = None
    key_provider: str | None = None
    wrapped_key: str | None = None


class SaveContext(Struct, omit_defaults=True):
    """A context to save. Ours alone: with `name` the first context that is saved under the name keeps it.

    If another context has the name, nothing is stored, and the answer has that one's id.
    """

    data: ContextData
    context_id: PathIdentifier
    name: ContextName | None = None


class SavedContext(Struct):
    context_id: str


class ListedContext(Struct):
    """What the service tells of a context besides its public key. Ours alone.

    `type` is that of `ContextData`, `created_at` the time at which it was first saved. Without `restorable` the service
    has the public part alone, so it cannot give its keys back.
    """

    context_id: str
    type: str | None
    created_at: str | None
    restorable: bool


class ContextList(Struct):
    """The ids of contexts and, if `restorable=true` asks for them, of those whose secrets are stored too.

    The service has the public part alone of the others, so it cannot give their keys back. `details=true` asks for more
    of each of them.
    """

    contexts: list[str]
    restorable: list[str] | UnsetType = UNSET
    details: list[ListedContext] | UnsetType = UNSET


class KnowledgeBaseContexts(Struct):
    context_ids: list[str]


class ContextKnowledgeBases(Struct):
    kb_ids: list[str]


class Binding(Struct):
    kb_id: str
    context_id: str


class StoreNameSalt(Struct, omit_defaults=True):
    """A salt for the names of a context's chunks in a knowledge base, opaque to the service. Ours alone.

    It is stored only if the stored one equals `replaces`, or, without `replaces`, if none is stored.
    """

    salt: SaltBytes
    replaces: SaltBytes | None = None


class NameSalt(Struct):
    """The salt that is stored, null if there is none."""

    salt: SaltBytes | None


class StoreSuccessor(Struct, omit_defaults=True):
    """The context that a rotation moves another one's chunks to. Ours alone.

    It is stored only if the stored one equals `replaces`, or, without `replaces`, if none is stored.
    """

    successor: PathIdentifier
    replaces: Identifier | None = None


class Successor(Struct):
    """The id of the context that replaces another, null if none does."""

    successor: Identifier | None


# Control plane


class CreateKnowledgeBase(Struct, omit_defaults=True):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None


class KnowledgeBase(NamedFields, rename="camel"):
    id: str
    name: str
    description: str
    number_of_vectors: Count
    created_at: str
    updated_at: str
    deleted_at: str | UnsetType = UNSET
    """Only of one that is being deleted, in a list that asks for those."""


class CreateApiKey(Struct, omit_defaults=True):
    """A key to create; without `expires_at` (on the wire `expiresAt`), a time with its zone, it does not expire."""

    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="expiresAt")


class ChangeApiKey(Struct, omit_defaults=True):
    """What to change of a key; a field that is `UNSET` stays, and without `expires_at` (null) it does not expire."""

    name: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    expires_at: Annotated[datetime, Meta(tz=True)] | UnsetType | None = field(default=UNSET, name="expiresAt")


class ApiKey(NamedFields, rename="camel"):
    """An API key as listed: by its hash and its first five characters, never whole."""

    hash: str
    first_n: str
    name: str
    description: str
    created_at: str
    last_used_at: str | None
    expires_at: str | None = None
    """From when on it opens nothing; None for a key that does not expire."""


class CreatedApiKey(Secretive, NamedFields, rename="camel"):
    """A new API key with its secret, which will not be shown again."""

    api_key: ApiKey
    secret_key: str

    def __repr__(self) -> str:
        return f"CreatedApiKey(api_key={self.api_key!r}, secret_key='…')"


class RevokedKey(Struct):
    hash: str


class DeletedKnowledgeBase(Struct):
    id: str


class SetPermission(Struct):
    permission: Permission


class KnowledgeBasePermission(NamedFields, rename="camel"):
    knowledge_base_id: str
    permission: Count


class AuditEntry(NamedFields, rename="camel"):
    """An event in the audit log. `actor` is the hash of a key, or says who else; `count` is how often it happened."""

    id: Count
    at: str
    action: str
    actor: str
    subject: str
    detail: str
    request_id: str
    count: Count


# The server's operator


class CreateOrganisation(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=MAX_ORGANISATION_NAME)]


class Usage(NamedFields, rename="camel"):
    """What an organisation has stored, and how many requests came with its API keys, by UTC.

    Bytes are those of contents, vectors, names and metadata of its chunks, and of its contexts.
    """

    chunks: Count
    bytes: Count
    contexts: Count
    knowledge_bases: Count
    requests_this_minute: Count
    requests_today: Count


class Quotas(NamedFields, rename="camel"):
    """The most that an organisation may have; None for unlimited."""

    chunks: Count | None
    bytes: Count | None
    contexts: Count | None
    requests_per_minute: Count | None
    requests_per_day: Count | None


class SetQuotas(Struct, rename="camel", forbid_unknown_fields=True):
    """The quotas that are to change; null makes one unlimited, and what is left out stays."""

    chunks: Count | UnsetType | None = UNSET
    bytes: Count | UnsetType | None = UNSET
    contexts: Count | UnsetType | None = UNSET
    requests_per_minute: Count | UnsetType | None = UNSET
    requests_per_day: Count | UnsetType | None = UNSET


OrganisationState = Literal["active", "suspended", "deleting", "importing"]
"""What an organisation is; `importing` is none yet, but an import that is not complete."""


class Organisation(NamedFields, rename="camel"):
    id: str
    name: str
    state: OrganisationState
    created_at: str
    suspended_at: str | None
    """Since when none of its keys opens anything; None if they do."""
    usage: Usage
    quotas: Quotas
    deleted_at: str | UnsetType = UNSET
    """Only of one whose deletion is still being carried out."""


class CreatedOrganisation(Secretive, NamedFields, rename="camel"):
    """A new organisation with its first keys, which will not be shown again."""

    organisation: Organisation
    admin_key: str
    api_key: str

    def __repr__(self) -> str:
        return f"CreatedOrganisation(organisation={self.organisation!r}, admin_key='…', api_key='…')"


class DeletedOrganisation(Struct):
    id: str


class AdminKey(NamedFields, rename="camel"):
    """An admin key as listed: by its hash, never itself."""

    hash: str
    created_at: str


class CreatedAdminKey(Secretive, NamedFields, rename="camel"):
    """A new admin key with its secret, which will not be shown again."""

    admin_key: AdminKey
    secret_key: str

    def __repr__(self) -> str:
        return f"CreatedAdminKey(admin_key={self.admin_key!r}, secret_key='…')"


class RevokedAdminKey(Struct):
    """`left` is how many admin keys the organisation has now."""

    hash: str
    left: Count


class CreatedOperatorKey(Secretive, Struct, rename="camel"):
    """A new operator key, which will not be shown again."""

    secret_key: str

    def __repr__(self) -> str:
        return "CreatedOperatorKey(secret_key='…')"


# Errors


class Problem(Struct, kw_only=True):
    """The body of every error (RFC 9457). `code` is stable; `message` equals `detail` for clients that print
    it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    message: str
