"""The payloads of the HTTP contract, each defined once for the server and the client.

Ciphertexts, nonces and other binary fields are `bytes`: msgspec writes them as base64 (standard alphabet, padded) in
JSON, and unchanged in MessagePack. A ciphertext is the **little-endian** bytes of an integer, not padded to a fixed
width; a receiver accepts any length up to the full width. An *index* (the encrypted vector of one chunk) is a list of
ciphertexts, and so is a query.

An `UNSET` field is omitted from the message, which differs from null: in a patch, `UNSET` keeps a tag and None removes
it. Receivers ignore unknown fields, except in `meta_data` and quotas, where they are an error.
"""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from xtrace_core.lattice.parameters import BLOCK_ROWS
from xtrace_core.limits import MAX_CIPHERTEXT_BYTES, MAX_CIPHERTEXTS
from xtrace_core.permissions import Permission
from xtrace_core.secrecy import Secretive

PROBLEM_JSON = "application/problem+json"
MSGPACK = "application/x-msgpack"
MSGPACK_NAMES = frozenset((MSGPACK, "application/msgpack", "application/vnd.msgpack"))
"""The media types that senders use for MessagePack."""

API_KEY_HEADER = "x-api-key"
ADMIN_KEY_HEADER = "x-xtrace-key"
ORGANISATION_HEADER = "x-xtrace-org-id"
OPERATOR_KEY_HEADER = "x-xtrace-operator-key"
IDEMPOTENCY_KEY_HEADER = "idempotency-key"

MAX_NONCE_BYTES = 32
MAX_PAGE_TOKEN_CHARACTERS = 1 << 20
"""A token contains the value by which the last chunk of its page was sorted, so it may be longer than a tag."""
MAX_NAME_SALT_BYTES = 128
MAX_ORGANISATION_NAME = 256
MAX_QUERIES = 32
"""The maximum number of queries in one search."""
MAX_CHANGES = 10_000
"""The maximum number of ids in one answer about changed chunks."""
MAX_BLOCK_SLOTS = BLOCK_ROWS
"""The maximum number of vectors in a block."""
MAX_BLOCK_QUERIES = 8
"""The maximum number of queries in one search of blocks."""
MAX_BLOCKS_READ = 256
"""The maximum number of blocks in one answer to a read of blocks."""
MAX_BLOCKS_CHANGED = 16
"""The maximum number of blocks that one write replaces or removes."""
MAX_BLOCK_ID = 2**53 - 1
"""So that a block id is a whole number in every language."""
MAX_SEGMENT_BYTES = 8 * 2**20
"""The maximum size of one segment of a shared index."""
MAX_SEGMENTS = 4096
"""The maximum number of segments of a shared index."""
MAX_INDEX_MANIFEST_BYTES = 256 * 1024
MAX_INDEX_VERSION = 2**53 - 1
"""So that a version is a whole number in every language."""
SEGMENT_MEDIA_TYPE = "application/octet-stream"

TAGS = ("tag1", "tag2", "tag3", "tag4", "tag5")

Tag = Literal["tag1", "tag2", "tag3", "tag4", "tag5"]
SortBy = Literal["chunk_id", "created_at", "updated_at", "tag1", "tag2", "tag3", "tag4", "tag5"]
SortOrder = Literal["asc", "desc"]
OnConflict = Literal["skip", "replace", "fail"]
"""What an insertion does with a chunk whose name is already stored."""
Outcome = Literal["inserted", "replaced", "known"]
"""What an insertion did with a chunk; `known` means that it was already stored, and is unchanged."""

Nonce = Annotated[bytes, Meta(max_length=MAX_NONCE_BYTES)]
Index = Annotated[list[Annotated[bytes, Meta(max_length=MAX_CIPHERTEXT_BYTES)]], Meta(max_length=MAX_CIPHERTEXTS)]
"""An encrypted vector as the service returns it; a service accepts no modulus with longer ciphertexts."""
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
ChunkId = Count
"""A chunk id as the service returns it."""
MAX_CHUNK_ID = 2**63 - 1
BlockId = Annotated[int, Meta(ge=1, le=MAX_BLOCK_ID)]
IndexVersion = Annotated[int, Meta(ge=0, le=MAX_INDEX_VERSION)]
"""The version of a shared index; 0 where there is none."""
INDEX_KIND = r"^[a-z][a-z0-9-]{0,31}\Z"
IndexKind = Annotated[str, Meta(pattern=INDEX_KIND)]
"""What a shared index contains; a context has at most one of each kind in a knowledge base."""
SHA256_HEX = r"^[0-9a-f]{64}\Z"
Sha256Hex = Annotated[str, Meta(pattern=SHA256_HEX)]
IndexManifest = Annotated[bytes, Meta(max_length=MAX_INDEX_MANIFEST_BYTES)]
SaltBytes = Annotated[bytes, Meta(min_length=1, max_length=MAX_NAME_SALT_BYTES)]
CONTEXT_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
ContextName = Annotated[str, Meta(pattern=CONTEXT_NAME)]
"""The name of a context within its organisation; part of a path."""
Identifier = Annotated[str, Meta(min_length=1, max_length=256)]
PathIdentifier = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^(?!\.{1,2}$)[^/\x00-\x1f]+$(?!\n)")]
"""An identifier that is one segment of a URL's path."""

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
"""The valid names in a projection: the top-level fields of a chunk, and single fields of its `meta_data`."""


def ciphertext_to_bytes(value: int) -> bytes:
    """Returns the integer's little-endian bytes without padding, as ciphertexts are sent. Raises `OverflowError` for a
    negative integer."""
    return value.to_bytes((value.bit_length() + 7) // 8, "little")


def ciphertext_from_bytes(data: bytes) -> int:
    """Returns the integer of a ciphertext's little-endian bytes, of any length."""
    return int.from_bytes(data, "little")


class NamedFields(Struct):
    """A struct that can also be read like its JSON object: `kb["numberOfVectors"]`, `in`, `dict(kb)`.

    Keys are the names on the wire; an `UNSET` field is absent.
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
    """The metadata of a chunk, or the changes that a patch makes to it.

    On insertion and update, None and an empty list of facets mean "not set". In a patch, None removes a field, and an
    omitted field keeps its value.
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
    """The complete new state of a stored chunk; omitted fields are removed.

    With `if_updated_at`, applied only if the stored chunk's `updated_at` still equals it.
    """

    chunk_id: int
    chunk_content: str
    index: list[bytes]
    meta_data: MetaData | None = None
    name: str | None = None
    nonce: Nonce | None = None
    if_updated_at: str | None = None


class ChunkPatch(Struct, kw_only=True):
    """The fields of a stored chunk to change. A patched index without a nonce removes the nonce.

    With `if_updated_at`, applied only if the stored chunk's `updated_at` still equals it.
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

    With `on_conflict`, names must be non-empty and distinct, and are unique in the knowledge base and context among
    chunks stored this way. A chunk whose name already exists is skipped (`skip`), replaces the stored one (`replace`),
    or makes the whole request fail (`fail`).
    """

    kb_id: str
    context_id: str
    chunks: list[NewChunk]
    on_conflict: OnConflict | None = None


class InsertedChunks(Struct, omit_defaults=True):
    """The ids of the chunks in the order of the request and, with `on_conflict`, what was done with each chunk."""

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
    """An object with any content: the answer to a call that succeeds or fails as a whole."""


class UpdatedCount(Struct):
    updated_count: Count


class WouldUpdateCount(Struct):
    would_update_count: Count


class DeletedCount(Struct):
    deleted_count: Count


class WouldDeleteCount(Struct):
    would_delete_count: Count


class Chunk(Struct, kw_only=True):
    """A stored chunk in an answer, with the requested fields. A chunk without a nonce has no `nonce` field."""

    chunk_id: ChunkId
    meta_data: MetaData | UnsetType = UNSET
    name: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET
    chunk_content: str | UnsetType = UNSET
    index: Index | UnsetType = UNSET
    nonce: Nonce | UnsetType = UNSET


class FindNames(Struct):
    """Asks which of these names are stored under a context. An extension: a resumed load skips what is stored."""

    kb_id: str
    context_id: str
    names: list[str]


class FoundNames(Struct):
    """For each stored name, the smallest id of a chunk with that name."""

    chunk_ids: dict[str, ChunkId]


# The local index


class FindChanges(Struct):
    """Which chunks with ids above `after` were written under the context after the revision `since`? Ours alone.

    Revision 0 is before every write, id 0 before every chunk.
    """

    kb_id: str
    context_id: str
    since: Count
    after: Count = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_CHANGES)] = MAX_CHANGES


class ChunkChanges(Struct):
    """The ids of the first `limit` such chunks, ascending, and the revision that this is as of.

    If a chunk of the knowledge base was deleted or moved to another context after `since`, the last answer has either
    `gone`, the ids of the chunks of the knowledge base that were deleted since, ascending, or `living`, all chunks that
    are stored under the context, as ascending ranges of ids, both ends included.
    """

    living: list[tuple[ChunkId, ChunkId]] | None
    revision: Count
    chunk_ids: list[ChunkId]
    has_more: bool
    gone: list[ChunkId] | None = None


# Shared indexes: sealed copies of local indexes, opaque to the service. An extension


class IndexSegment(Struct):
    """A stored segment of a shared index: the SHA-256 of its bytes, and their number."""

    sha256: Sha256Hex
    bytes: Annotated[int, Meta(ge=1, le=MAX_SEGMENT_BYTES)]


class SharedIndex(Struct):
    """A shared index, with its segments in the order in which they were listed; empty with version 0 if there is
    none."""

    version: IndexVersion
    manifest: IndexManifest
    segments: Annotated[list[IndexSegment], Meta(max_length=MAX_SEGMENTS)]


class PutSharedIndex(Struct):
    """A shared index to store if the stored one still has the version `replaces`, 0 for none.

    `segments` are the hashes of stored segments, each once. Segments of the replaced index that are not listed are
    deleted.
    """

    kb_id: str
    context_id: str
    kind: IndexKind
    replaces: IndexVersion
    manifest: IndexManifest
    segments: Annotated[list[Sha256Hex], Meta(max_length=MAX_SEGMENTS)]


class SharedIndexVersion(Struct):
    """The version under which a shared index was stored."""

    version: Annotated[int, Meta(ge=1, le=MAX_INDEX_VERSION)]


# Search


class ComputeHamming(Struct, kw_only=True, omit_defaults=True):
    """An encrypted query; `id_range` (on the wire `range`) bounds the chunk ids, both ends included.

    With `unsealed`, an extension, only chunks in no block are candidates.
    """

    kb_id: str
    context_id: str
    query: list[bytes]
    meta_filter: Any = None
    id_range: tuple[int, int] | None = field(default=None, name="range")
    unsealed: bool = False


class ComputeHammingBatch(Struct, kw_only=True, omit_defaults=True):
    """Several encrypted queries over the same candidates. An extension, answered in frames: each row has the
    ciphertexts of the first query, then those of the second, and so on."""

    kb_id: str
    context_id: str
    queries: Annotated[list[list[bytes]], Meta(min_length=1, max_length=MAX_QUERIES)]
    meta_filter: Any = None
    id_range: tuple[int, int] | None = field(default=None, name="range")


class SearchRow(Struct, array_like=True):
    """One candidate in the MessagePack array that answers `ComputeHamming`, sorted by ascending chunk id."""

    ciphertexts: Index
    chunk_id: ChunkId
    nonce: Nonce | None = None


# Blocks: vectors encrypted together, an index over chunks of schemes that have them. An extension


class PlanBlocks(Struct, kw_only=True, omit_defaults=True):
    """How much is a search of blocks in this scope? `listed` (on the wire `list`) asks for every block too."""

    kb_id: str
    context_id: str
    meta_filter: Any = None
    id_range: tuple[int, int] | None = field(default=None, name="range")
    listed: bool = field(default=False, name="list")


class ListedBlock(Struct):
    """A block with `count` slots, `live_count` of which still stand for their chunks.

    `dead_since` is the time since which it has contained a vector that was deleted or replaced; None if it has none.
    """

    id: BlockId
    count: Count
    live_count: Count
    dead_since: str | None


class BlockPlan(Struct):
    """The candidates, those of them in no block, the blocks that contain the others, and the revision of the knowledge
    base that this is as of. `listed` (on the wire `list`) has all blocks of the context, if asked for.
    """

    candidates: Count
    unsealed: Count
    blocks: Count
    revision: Count
    listed: list[ListedBlock] | UnsetType = field(default=UNSET, name="list")


class SearchBlocks(Struct, kw_only=True, omit_defaults=True):
    """Encrypted queries for blocks, over the same candidates. The answer has the format of `block_frames`."""

    kb_id: str
    context_id: str
    queries: list[bytes]
    """From one to `MAX_BLOCK_QUERIES`."""
    meta_filter: Any = None
    id_range: tuple[int, int] | None = field(default=None, name="range")


class SealBlock(Struct, kw_only=True, omit_defaults=True):
    """A block to store: `chunk_ids`, ascending, are the chunks of its slots, and `nonces` those that it was made from.

    A slot is taken if its chunk still has the nonce, and is in no block or in one of `replaces`, which the new block
    replaces. Fewer than three quarters of all: then nothing is stored.
    """

    kb_id: str
    context_id: str
    chunk_ids: Annotated[list[ChunkId], Meta(min_length=1, max_length=MAX_BLOCK_SLOTS)]
    nonces: Annotated[list[Nonce], Meta(max_length=MAX_BLOCK_SLOTS)]
    header: bytes
    hints: bytes
    body: bytes
    replaces: Annotated[list[BlockId], Meta(max_length=MAX_BLOCKS_CHANGED)] = []


class SealedBlock(Struct):
    """A stored block, and how many of its slots stand for their chunks."""

    block_id: BlockId
    live: Count


class UnsealedCount(Struct):
    """How many chunks are in no block any longer."""

    unsealed_count: Count


class SearchMetaData(Struct, kw_only=True, omit_defaults=True):
    kb_id: str
    context_id: str
    meta_filter: Any = None
    projection: list[str] | None = None
    return_content: bool | None = None


class PageMetaData(Struct, kw_only=True, omit_defaults=True):
    """A page of a metadata search: at `offset`, or after the previous page, whose opaque `page_token` is sent."""

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
    """A stored execution context. Without `sk`, `key_provider` and `wrapped_key`, it is only the public part.

    `pk` and `config` are JSON texts; `sk` is encrypted and opaque to the service.
    """

    type: str
    pk: str
    config: str
    sk: str | None = None
    key_provider: str | None = None
    wrapped_key: str | None = None


class SaveContext(Struct, omit_defaults=True):
    """A context to save. `name` is an extension: the first context that is saved under a name keeps it.

    If another context has the name, nothing is stored, and the answer contains that context's id.
    """

    data: ContextData
    context_id: PathIdentifier
    name: ContextName | None = None


class SavedContext(Struct):
    context_id: str


class ListedContext(Struct):
    """What the service reveals about a context besides its public key. An extension.

    `type` is that of `ContextData`, `created_at` the time when the context was first saved. If `restorable` is false,
    the service has only the public part, so it cannot return the keys.
    """

    context_id: str
    type: str | None
    created_at: str | None
    restorable: bool


class ContextList(Struct):
    """The ids of contexts and, with `restorable=true`, of those whose encrypted secrets are stored too.

    Of the others, the service has only the public part, so it cannot return their keys. `details=true` adds more about
    each context.
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
    """A salt for the names of a context's chunks in a knowledge base, opaque to the service. An extension.

    It is stored only if the current one equals `replaces` or, without `replaces`, if none is stored.
    """

    salt: SaltBytes
    replaces: SaltBytes | None = None


class NameSalt(Struct):
    """The stored salt, or null."""

    salt: SaltBytes | None


class StoreSuccessor(Struct, omit_defaults=True):
    """The context to which a rotation moves another context's chunks. An extension.

    It is stored only if the current one equals `replaces` or, without `replaces`, if none is stored.
    """

    successor: PathIdentifier
    replaces: Identifier | None = None


class Successor(Struct):
    """The id of the context that replaces this one, or null."""

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
    """Only for one that is being deleted, in a list that includes those."""


class CreateApiKey(Struct, omit_defaults=True):
    """A key to create. It expires at `expires_at` (on the wire `expiresAt`), a time with a time zone, or never."""

    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="expiresAt")


class ChangeApiKey(Struct, omit_defaults=True):
    """The changes to a key: an `UNSET` field keeps its value, and if `expires_at` is null, the key does not expire."""

    name: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    expires_at: Annotated[datetime, Meta(tz=True)] | UnsetType | None = field(default=UNSET, name="expiresAt")


class ApiKey(NamedFields, rename="camel"):
    """An API key as listed: its hash and first five characters, never the whole key."""

    hash: str
    first_n: str
    name: str
    description: str
    created_at: str
    last_used_at: str | None
    expires_at: str | None = None
    """When the key stops working; None if it does not expire."""


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
    """An event in the audit log. `actor` is the hash of a key, or names who else; `count` is how often it happened."""

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
    """What an organisation has stored, and how many requests its API keys have sent, in UTC minutes and days.

    `bytes` covers the contents, vectors, names and metadata of its chunks, and its contexts.
    """

    chunks: Count
    bytes: Count
    contexts: Count
    knowledge_bases: Count
    requests_this_minute: Count
    requests_today: Count


class Quotas(NamedFields, rename="camel"):
    """The limits of an organisation; None for unlimited."""

    chunks: Count | None
    bytes: Count | None
    contexts: Count | None
    requests_per_minute: Count | None
    requests_per_day: Count | None


class SetQuotas(Struct, rename="camel", forbid_unknown_fields=True):
    """The quotas to change: null makes one unlimited, and an omitted one keeps its value."""

    chunks: Count | UnsetType | None = UNSET
    bytes: Count | UnsetType | None = UNSET
    contexts: Count | UnsetType | None = UNSET
    requests_per_minute: Count | UnsetType | None = UNSET
    requests_per_day: Count | UnsetType | None = UNSET


OrganisationState = Literal["active", "suspended", "deleting", "importing"]
"""The state of an organisation; `importing` is an incomplete import, not yet an organisation."""


class Organisation(NamedFields, rename="camel"):
    id: str
    name: str
    state: OrganisationState
    created_at: str
    suspended_at: str | None
    """When its keys stopped working; None if they work."""
    usage: Usage
    quotas: Quotas
    deleted_at: str | UnsetType = UNSET
    """Only while the organisation is being deleted."""


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
    """An admin key as listed: its hash, never the key itself."""

    hash: str
    created_at: str


class CreatedAdminKey(Secretive, NamedFields, rename="camel"):
    """A new admin key with its secret, which will not be shown again."""

    admin_key: AdminKey
    secret_key: str

    def __repr__(self) -> str:
        return f"CreatedAdminKey(admin_key={self.admin_key!r}, secret_key='…')"


class RevokedAdminKey(Struct):
    """`left` is the number of admin keys that the organisation still has."""

    hash: str
    left: Count


class CreatedOperatorKey(Secretive, Struct, rename="camel"):
    """A new operator key, which will not be shown again."""

    secret_key: str

    def __repr__(self) -> str:
        return "CreatedOperatorKey(secret_key='…')"


# Errors


class Problem(Struct, kw_only=True):
    """The body of every error (RFC 9457). `code` is stable; `message` equals `detail`, for clients that print it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    message: str
