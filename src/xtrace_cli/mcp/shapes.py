"""What the tools take and return. Their JSON schemas come from these classes, which also check every argument."""

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from xtrace_sdk.errors import InvalidArgument

T = TypeVar("T")

MAX_TEXT: Final = 20_000
MAX_QUERY: Final = 10_000
MAX_FOUND: Final = 50
MAX_LISTED: Final = 200
MAX_NAMED: Final = 100
"""The maximum number of ids, sources or files in one call."""
MAX_SHOWN: Final = 8_000
"""The maximum length of a text in a result."""
MAX_BYTES: Final = 1 << 20
"""The maximum size of all arguments of a call, as JSON."""
_NOT_BLANK: Final = r"\S"
_MAX_ID: Final = 1_024
_MAX_PATH: Final = 4_096

KnowledgeBase = Annotated[
    str, Meta(max_length=256, description="The knowledge base; by default the first that this server was started with.")
]
Where = Annotated[
    dict[str, Any],
    Meta(
        description='Only what matches this filter on the metadata, such as {"format": "pdf"}, {"page": {"$gte": 3}}, '
        '{"tags": {"$contains": "work"}} or {"$or": [{"kind": "memory"}, {"source": {"$begins_with": "notes/"}}]}.'
    ),
]
Tags = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=20, description="Words to filter by.")
]


class Arguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The arguments of every tool."""

    knowledge_base: KnowledgeBase = ""


class Remember(Arguments, kw_only=True):
    text: Annotated[
        str, Meta(pattern=_NOT_BLANK, max_length=MAX_TEXT, description="One fact, complete without the conversation.")
    ]
    key: Annotated[
        str,
        Meta(
            max_length=200,
            description="What the fact is about, such as user.home: a newer text under the same key replaces it.",
        ),
    ] = ""
    tags: Tags = []


class Search(Arguments, kw_only=True):
    query: Annotated[
        str,
        Meta(pattern=_NOT_BLANK, max_length=MAX_QUERY, description="What to look for, as a question or a sentence."),
    ]
    limit: Annotated[int, Meta(ge=1, le=MAX_FOUND, description="How many passages to return at most.")] = 8
    where: Where = {}
    min_similarity: Annotated[
        float, Meta(ge=-1, le=1, description="Leave out what is less similar than this, from -1 to 1.")
    ] = -1.0


class List(Arguments, kw_only=True):
    what: Annotated[
        Literal["memories", "files", "everything"],
        Meta(description="`files` lists each loaded file once; `everything` lists each of their passages."),
    ] = "memories"
    where: Where = {}
    limit: Annotated[int, Meta(ge=1, le=MAX_LISTED, description="How many entries to return at most.")] = 50
    offset: Annotated[int, Meta(ge=0, le=100_000, description="How many entries to skip.")] = 0


class Forget(Arguments, kw_only=True):
    ids: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=_MAX_ID)]],
        Meta(max_length=MAX_NAMED, description="Ids of memories, as `search` and `list` return them."),
    ] = []
    sources: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=_MAX_PATH)]],
        Meta(max_length=MAX_NAMED, description="Sources of loaded files, whose passages are all deleted."),
    ] = []


class LoadFile(Arguments, kw_only=True):
    paths: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=_MAX_PATH)]],
        Meta(
            min_length=1,
            max_length=MAX_NAMED,
            description="Absolute paths of files, or paths inside of an allowed folder.",
        ),
    ]


class Remembered(msgspec.Struct):
    id: str
    change: Literal["added", "replaced", "known"]
    """`known` means that exactly this was already stored, so nothing was written."""


class Passage(msgspec.Struct):
    id: str
    source: str
    """The file, or the id of a memory."""
    place: str
    """Where in the file: page, lines, headings."""
    text: str
    is_cut: bool
    """Whether the text is longer; the resource has the whole text."""
    metadata: dict[str, Any]
    uri: str
    """The resource with the complete record."""


class Hit(Passage):
    similarity: float
    """Cosine similarity, from -1 to 1."""


class Found(msgspec.Struct):
    hits: list[Hit]
    """The results, most similar first."""


class Listed(msgspec.Struct):
    total: int
    """The total number of entries."""
    entries: list[Passage]
    """The entries, oldest first."""


class Forgotten(msgspec.Struct):
    deleted: int
    """The number of deleted records: one for a memory, one for each passage of a file."""


class PassedOver(msgspec.Struct):
    reason: str
    files: list[str]


class Loaded(msgspec.Struct):
    new: int
    changed: int
    known: int
    """Files whose stored state is up to date."""
    passages: int
    """The number of stored passages."""
    passed_over: list[PassedOver]


def checked(arguments: dict[str, Any], shape: type[T]) -> T:
    """Returns the arguments as an object of the class. Raises `msgspec.ValidationError` and `InvalidArgument`."""
    try:
        size = len(msgspec.json.encode(arguments))
    except (UnicodeEncodeError, RecursionError):
        raise InvalidArgument("they contain unpaired surrogates or are nested too deeply") from None
    if size > MAX_BYTES:
        raise InvalidArgument(f"they take {size} bytes as JSON, expected at most {MAX_BYTES}")
    return msgspec.convert(arguments, shape)


def schema_of(shape: type) -> dict[str, Any]:
    """Returns the JSON schema of a class, with an object at its root."""
    _, parts = msgspec.json.schema_components((shape,), ref_template="#/$defs/{name}")
    root: dict[str, Any] = parts.pop(shape.__name__)
    return {**root, "$defs": parts} if parts else root
