"""What commands that store and search need: the connection, the context, its model and a knowledge base.

A command takes four options and passes them on:

    def search(
        question: …,
        kb: KnowledgeBaseName = None,
        context: ContextFile = None,
        passphrase_file: PassphraseFile = None,
        credentials: CredentialsFile = None,
    ) -> None:
        async def act(workspace: Workspace) -> list[Hit]:
            notes = await workspace.collection(kb)
            return await notes.search(question)

        hits = with_workspace(Given(credentials, context, passphrase_file), act)

The settings supply what no option sets (`xtrace_cli.options.settings`). `xtrace init` writes them.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from xtrace_cli.errors import UnknownKnowledgeBase, UntrustedFolder, WrongUse
from xtrace_cli.options.connection import known_connection
from xtrace_cli.options.key_providers import named_provider, provider_of
from xtrace_cli.options.settings import Setting, Settings, Source, current_settings
from xtrace_cli.options.small_files import nearest
from xtrace_cli.options.trust import check_context
from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import ContextNotFound, InvalidArgument, KnowledgeBaseNotFound, OtherCollection

if TYPE_CHECKING:
    import asyncio

    from xtrace_sdk.collection.collection import Collection
    from xtrace_sdk.collection.filterable import Filterable
    from xtrace_sdk.service.integration import XTraceIntegration
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.inference.embedding import Embedding
    from xtrace_sdk.x_vec.keys.provider import KeyProvider
    from xtrace_sdk.x_vec.local.local_index import LocalKind

T = TypeVar("T")

DEFAULT_CONTEXT: Final = Path("keys", "context.json")
DEFAULT_KB: Final = "documents"
NO_INDEX: Final = "off"
"""What the setting of the local index says to keep none."""
MODEL: Final = ("wordllama", "l2_supercat", 256, 512)
"""The default model of a new context: provider, name, dimensions and bits."""

ContextFile = Annotated[
    Path | None,
    typer.Option(
        "--context",
        metavar="FILE",
        help=f"The context file; by default XTRACE_CONTEXT, else {DEFAULT_CONTEXT}, if it exists.",
    ),
]
KnowledgeBaseName = Annotated[
    str | None,
    typer.Option(
        "--kb",
        metavar="NAME",
        help="The knowledge base: its name, or its id, which needs no admin key; by default XTRACE_KB, else "
        f"{DEFAULT_KB}.",
    ),
]


@dataclass(frozen=True, slots=True)
class Given:
    """The options of a command; None leaves it to the settings."""

    credentials: Path | None = None
    context: Path | None = None
    passphrase_file: Path | None = None


class Workspace(Secretive):
    """An open connection and an opened context, with the model and the collections that they lead to."""

    __slots__ = ("_default_kb", "_embedding", "_local_index", "_model_path", "context", "xtrace")

    def __init__(self, xtrace: "XTraceIntegration", context: "ExecutionContext", settings: Settings) -> None:
        """Use `with_workspace` instead. Sends nothing."""
        self.xtrace: Final = xtrace
        self.context: Final = context
        self._default_kb = settings.text("kb") or DEFAULT_KB
        self._local_index = _local_kind(settings.text("local_index"))
        self._model_path = settings.get("embedding_model_path")
        self._embedding: Embedding | None = None

    @property
    def embedding(self) -> "Embedding":
        """Returns the embedding model: the context's, else the folder in `XTRACE_EMBEDDING_MODEL_PATH`.

        The whole workspace shares one object, so that the model is loaded once. Raises `InvalidArgument` if there is
        none, and `UntrustedFolder` if only a file in the working folder names it.
        """
        if self._embedding is None:
            self._embedding = self._find_embedding()
        return self._embedding

    def kb_name(self, name: str | None = None) -> str:
        """Returns the name, else the one in the settings, else `documents`."""
        return name or self._default_kb

    async def knowledge_base(self, name: str | None = None) -> str:
        """Returns the id of the knowledge base with this name or id, which must exist; by default the settings' one.

        With an admin key, names are looked up; if several have the name, the oldest is used. Without one, the name must
        be an id. Raises `UnknownKnowledgeBase`, which suggests the nearest name, and what the calls raise.
        """
        name = self.kb_name(name)
        if not self.xtrace.admin_key:
            return await self._known_id(name)
        kbs = sorted(await self.xtrace.list_kbs(), key=lambda kb: (kb.created_at, kb.id))
        found = [kb.id for kb in kbs if kb.name == name] or [kb.id for kb in kbs if kb.id == name]
        if not found:
            names = list(dict.fromkeys(kb.name for kb in kbs))
            raise UnknownKnowledgeBase(f"the knowledge base {name} does not exist{_suggested(name, names)}")
        return found[0]

    async def collection(
        self, name: str | None = None, *, create: bool = False, filterable: "Filterable | None" = None
    ) -> "Collection":
        """Returns the collection in the knowledge base with this name or id; by default the settings' one.

        Args:
            name: the name or the id, as `--kb` gives it.
            create: create a knowledge base of this name if there is none, which needs an admin key. Without it an
                unknown name raises `UnknownKnowledgeBase`, and nothing is created.
            filterable: as `Collection` takes it.

        Raises `UnknownKnowledgeBase`, `OtherCollection`, and what `embedding` and the calls raise.
        """
        from xtrace_sdk.collection.collection import Collection

        if create and self.xtrace.admin_key:
            return await Collection.open(
                self.xtrace,
                self.context,
                self.kb_name(name),
                embedding=self.embedding,
                filterable=filterable,
                local_index=self._local_index,
            )
        kb_id = await self.knowledge_base(name)
        return Collection(
            self.xtrace,
            self.context,
            kb_id,
            embedding=self.embedding,
            filterable=filterable,
            local_index=self._local_index,
        )

    async def document_collection(self, name: str | None = None, *, create: bool = False) -> "Collection":
        """Returns the same for `xtrace load`: a new collection gets the filterable fields of loaded files.

        A collection with other fields, which another program created, keeps them.
        """
        from xtrace_cli.documents.records import FILE, FILTERABLE

        try:
            collection = await self.collection(name, create=create, filterable=FILTERABLE)
            await collection.count({FILE: {"$exists": True}})  # reads its filterable fields
        except OtherCollection:
            return await self.collection(name)
        return collection

    async def _known_id(self, kb_id: str) -> str:
        try:
            await self.xtrace.get_ctx_for_kb(kb_id)
        except KnowledgeBaseNotFound:
            ids: list[str] = []
            with suppress(ContextNotFound):  # nothing was ever stored under it
                ids = await self.xtrace.get_kbs_for_ctx(self.context.id)
            raise UnknownKnowledgeBase(
                f"the knowledge base {kb_id} does not exist; looking up names needs the admin key; without it, use "
                f"an id"
                f"{_suggested(kb_id, ids)}"
            ) from None
        return kb_id

    def _find_embedding(self) -> "Embedding":
        from xtrace_sdk.x_vec.inference.embedding import Embedding, embedding_for

        if self.context.embedding_model is not None:
            return embedding_for(self.context.embedding_model)
        if self._model_path is None:
            raise InvalidArgument(
                "the context does not name a model: set XTRACE_EMBEDDING_MODEL_PATH to the folder of the model that "
                "its "
                "vectors are from"
            )
        if self._model_path.source.is_of_folder:
            # A model's folder can contain code.
            raise UntrustedFolder(
                f"{self._model_path.source.label} in this folder names a model, which was not loaded: set "
                "XTRACE_EMBEDDING_MODEL_PATH in the environment to allow it"
            )
        return Embedding("sentence_transformer", str(self._model_path.path), self.context.embed_len())


def with_workspace(given: Given, act: Callable[[Workspace], Awaitable[T]]) -> T:
    """Runs the act with an open workspace in a new event loop, and returns its result.

    Questions (a passphrase, whether a folder's file may use a key) are asked before the loop starts, so that Ctrl-C
    ends them at once. The context comes from the file in `--context`, in the setting `context`, or `keys/context.json`;
    else from the service, under the id in `XTRACE_CONTEXT_ID`.

    Inside `kept_open`, it stays open, and the next act with the same options reuses it.

    Raises `WrongUse` if something is missing, `WrongKey`, and what the files, the service and the act raise.
    """
    if _kept is not None:
        return _kept.run(given, act)
    import asyncio

    settings = current_settings()
    xtrace = _connection(given, settings)
    fetch = context_opener(given, settings)

    async def run() -> T:
        async with xtrace:
            return await act(Workspace(xtrace, await fetch(xtrace), settings))

    return asyncio.run(run())


class _Kept:
    """Workspaces that stay open in one event loop: one for each combination of files."""

    def __init__(self, runner: "asyncio.Runner") -> None:
        self._runner = runner
        self._open: dict[tuple[Given, str], Workspace] = {}

    def run(self, given: Given, act: Callable[[Workspace], Awaitable[T]]) -> T:
        settings = current_settings()
        chosen = given, settings.profile
        if chosen not in self._open:
            xtrace = _connection(given, settings)
            context = self._runner.run(_awaited(context_opener(given, settings)(xtrace)))
            self._open[chosen] = Workspace(xtrace, context, settings)
        return self._runner.run(_awaited(act(self._open[chosen])))

    def forget(self) -> None:
        """Closes the connections; the next act opens them again."""
        while self._open:
            self._runner.run(self._open.popitem()[1].xtrace.aclose())


_kept: _Kept | None = None


@contextmanager
def kept_open() -> Iterator[Callable[[], None]]:
    """Keeps workspaces open between commands inside the block, as in the shell. Yields a call that closes them."""
    import asyncio

    global _kept
    with asyncio.Runner() as runner:
        _kept = _Kept(runner)
        try:
            yield _kept.forget
        finally:
            _kept.forget()
            _kept = None


async def _awaited(call: Awaitable[T]) -> T:
    return await call


def context_opener(given: Given, settings: Settings) -> "Callable[[XTraceIntegration], Awaitable[ExecutionContext]]":
    """Returns a call that returns the context. The passphrase was asked for, and a context in a file is already open.

    For code that keeps a context longer than one command. Raises what `with_workspace` raises.
    """
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

    file = context_file(given.context, settings)
    context_id = settings.text("context_id")
    if file is not None and (file.exists() or context_id is None):
        opened = ExecutionContext.load_from_disk(path=file, key_provider=provider_of(file, given.passphrase_file))

        async def of_file(_: "XTraceIntegration") -> ExecutionContext:
            return opened

        return of_file
    if context_id is None:
        raise WrongUse(
            f"this needs a context, and {DEFAULT_CONTEXT} does not exist: run `xtrace init` to create one, or name its "
            "file with --context"
        )
    provider = _provider_of_id(context_id, given, settings)

    async def of_service(xtrace: "XTraceIntegration") -> ExecutionContext:
        return await ExecutionContext.load_from_remote(key_provider=provider, context_id=context_id, integration=xtrace)

    return of_service


def _connection(given: Given, settings: Settings) -> "XTraceIntegration":
    """Returns the connection, for the context that the options and settings name."""
    connection = known_connection(given.credentials, settings)
    if given.context is None:
        here = Source(str(DEFAULT_CONTEXT), Path.cwd(), is_of_folder=True)
        context = settings.get("context") or Setting("context", str(DEFAULT_CONTEXT), here)
        openers = [settings.get("key_file"), None if given.passphrase_file else settings.get("passphrase")]
        secrets = [connection.get("api_key"), connection.get("admin_key")]
        check_context(context, [one for one in openers if one is not None], [one for one in secrets if one is not None])
    return connection.integration(("org_id", "api_key"), may_use=("admin_key",))


def context_file(given: Path | None, settings: Settings) -> Path | None:
    """Returns the context's file, which may not exist; None if no file is named and the default one does not exist."""
    if given is not None:
        return given
    return settings.path("context") or (DEFAULT_CONTEXT if DEFAULT_CONTEXT.exists() else None)


def _provider_of_id(context_id: str, given: Given, settings: Settings) -> "KeyProvider":
    key_file, kms_key = settings.path("key_file"), settings.text("kms_key")
    return named_provider(given.passphrase_file, key_file, kms_key, None, context_id=context_id)


def _suggested(name: str, known: list[str]) -> str:
    if not known:
        return ": there is none yet"
    return nearest(name, known) or f": there are {', '.join(known[:5])}{' and others' if len(known) > 5 else ''}"


def _local_kind(text: str | None) -> "LocalKind | None":
    """The kind of local index in the settings, by default `small`. Raises `WrongUse`."""
    if text == NO_INDEX:
        return None
    from xtrace_sdk.x_vec.local.local_index import KINDS, local_kind

    if text and text not in KINDS:
        raise WrongUse(f"XTRACE_LOCAL_INDEX is {text[:64]}, expected {', '.join(KINDS)} or {NO_INDEX}")
    return local_kind(text or "small")
