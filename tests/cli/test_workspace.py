"""What a command works with: the context, its model, a knowledge base by its name."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from xtrace_cli.errors import UnknownKnowledgeBase, UntrustedFolder, WrongUse
from xtrace_cli.workspace import MODEL, Given, Workspace, with_workspace
from xtrace_sdk.errors import InvalidArgument, WrongKey
from xtrace_sdk.sync import ExecutionContext as BlockingContext
from xtrace_sdk.sync import XTraceIntegration as BlockingIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.keys.provider import PassphraseKeyProvider
from xtrace_server.credentials import Credentials, write_credentials

PASSPHRASE = "correct horse battery staple"
# A passphrase that is quickly tried, because many tests open these contexts.
pytestmark = pytest.mark.filterwarnings("ignore::xtrace_sdk.WeakKeyWarning")
QUICK = PassphraseKeyProvider(PASSPHRASE, insecure_log2_n=14)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a context that remembers its model."""
    path = tmp_path_factory.mktemp("keys") / "context.json"
    provider, name, dim, bits = MODEL
    ExecutionContext.create(QUICK, "paillier_lookup", embedding=Embedding(provider, name, dim, bits=bits), path=path)
    return path


@pytest.fixture(scope="module")
def without_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a context that remembers none."""
    path = tmp_path_factory.mktemp("keys") / "context.json"
    ExecutionContext.create(QUICK, "paillier_lookup", 384, path=path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, credentials: Credentials, saved: Path) -> Path:
    """The working folder, with a context and the credentials of an organisation with two knowledge bases."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XTRACE_PASSPHRASE", PASSPHRASE)
    write_credentials(Path("xtrace-data", "credentials.json"), credentials)
    Path("keys").mkdir()
    shutil.copy(saved, Path("keys", "context.json"))
    with client(credentials) as xtrace:
        xtrace.create_kb("letters")
        xtrace.create_kb("notes")
    return tmp_path


def client(credentials: Credentials) -> BlockingIntegration:
    return BlockingIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, api_url=credentials.api_url
    )


def seen(look: Callable[[Workspace], object], given: Given | None = None) -> object:
    """What is seen in the open workspace."""

    async def act(workspace: Workspace) -> object:
        return look(workspace)

    return with_workspace(given or Given(), act)


def kb_id(name: str | None = None, *, create: bool = False) -> str:
    """The id of the knowledge base that a collection is opened in."""

    async def act(workspace: Workspace) -> str:
        return (await workspace.collection(name, create=create)).kb_id

    return with_workspace(Given(), act)


def test_a_collection_is_opened_by_name(
    folder: Path, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(credentials) as xtrace:
        ids = {kb.name: kb.id for kb in xtrace.list_kbs()}
        assert kb_id("letters") == ids["letters"] == kb_id(ids["letters"])
        monkeypatch.setenv("XTRACE_KB", "notes")
        assert kb_id() == ids["notes"]


def test_an_unknown_name_is_refused_with_the_nearest_and_nothing_is_created(
    folder: Path, credentials: Credentials
) -> None:
    with pytest.raises(
        UnknownKnowledgeBase, match=r"^the knowledge base leters does not exist: did you mean letters\?"
    ):
        kb_id("leters")
    with pytest.raises(UnknownKnowledgeBase, match=r": there are letters, notes$"):
        kb_id()  # "documents"
    with client(credentials) as xtrace:
        assert sorted(kb.name for kb in xtrace.list_kbs()) == ["letters", "notes"]


def test_only_a_command_that_creates_creates(folder: Path, credentials: Credentials) -> None:
    created = kb_id(create=True)
    with client(credentials) as xtrace:
        assert {kb.id: kb.name for kb in xtrace.list_kbs()}[created] == "documents"
    assert kb_id() == created == kb_id("documents", create=True)


def test_without_an_admin_key_an_id_is_needed(folder: Path, credentials: Credentials) -> None:
    with client(credentials) as xtrace:
        ids = {kb.name: kb.id for kb in xtrace.list_kbs()}
        context = BlockingContext.load_from_disk(PASSPHRASE, "keys/context.json")
        context.save_to_remote(xtrace)
        xtrace.register_kb_binding(ids["notes"], context.id)
    credentials.admin_key = ""
    write_credentials(Path("xtrace-data", "credentials.json"), credentials)
    assert kb_id(ids["notes"]) == ids["notes"]
    for create in (True, False):
        with pytest.raises(UnknownKnowledgeBase, match=f"needs the admin key.*: there are {ids['notes']}$"):
            kb_id("notes", create=create)


def test_the_context_comes_from_the_nearest_source(
    folder: Path, credentials: Credentials, without_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = seen(lambda workspace: workspace.context.id)
    Path("others").mkdir()
    shutil.copy(without_model, Path("others", "context.json"))
    Path(".env").write_text("XTRACE_EXECUTION_CONTEXT_PATH=others/context.json\n")
    second = seen(lambda workspace: workspace.context.id)
    assert second != first == seen(lambda workspace: workspace.context.id, Given(context=Path("keys", "context.json")))
    # The file that is named is missing, and the service has the other one.
    with client(credentials) as xtrace:
        BlockingContext.load_from_disk(PASSPHRASE, "keys/context.json").save_to_remote(xtrace)
    Path("others", "context.json").unlink()
    monkeypatch.setenv("XTRACE_CONTEXT_ID", str(first))
    assert seen(lambda workspace: workspace.context.id) == first


def test_the_passphrase_comes_from_the_nearest_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTRACE_PASSPHRASE", "incorrect horse")
    with pytest.raises(WrongKey):
        seen(lambda workspace: workspace.context.id)
    Path("passphrase").write_text(f"{PASSPHRASE}\n")
    right = seen(lambda workspace: workspace.context.id, Given(passphrase_file=Path("passphrase")))
    monkeypatch.delenv("XTRACE_PASSPHRASE")
    monkeypatch.setenv("XTRACE_PASS_PHRASE", PASSPHRASE)
    assert seen(lambda workspace: workspace.context.id) == right
    monkeypatch.delenv("XTRACE_PASS_PHRASE")
    with pytest.raises(WrongUse, match="a passphrase is needed"):
        seen(lambda workspace: workspace.context.id)
    Path(".env").write_text(f"XTRACE_PASSPHRASE='{PASSPHRASE}'\n")
    assert seen(lambda workspace: workspace.context.id) == right


def test_a_context_that_the_folder_opens_gets_no_key_from_elsewhere(
    folder: Path, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XTRACE_PASSPHRASE")
    Path(".env").write_text(f"XTRACE_PASSPHRASE='{PASSPHRASE}'\nXTRACE_CONTEXT=keys/context.json\n")
    ours = seen(lambda workspace: workspace.context.id)  # all of it is the folder's
    shutil.move("xtrace-data/credentials.json", folder.parent / "credentials.json")
    elsewhere = Given(credentials=folder.parent / "credentials.json")
    with pytest.raises(UntrustedFolder, match=r"\.env in this folder names what opens .*, so its author can read"):
        seen(lambda workspace: workspace.context.id, elsewhere)
    named = Given(elsewhere.credentials, Path("keys", "context.json"))
    assert seen(lambda workspace: workspace.context.id, named) == ours
    # The user's own passphrase opens only what the user, or somebody who knows it, has sealed.
    monkeypatch.setenv("XTRACE_PASSPHRASE", PASSPHRASE)
    assert seen(lambda workspace: workspace.context.id, elsewhere) == ours


def test_without_a_context_it_says_how_to_get_one(folder: Path) -> None:
    Path("keys", "context.json").unlink()
    with pytest.raises(WrongUse, match="run `xtrace init` to create one, or name its file with --context"):
        seen(lambda workspace: workspace.context.id)


def test_the_model_is_the_one_that_the_context_remembers(folder: Path) -> None:
    def look(workspace: Workspace) -> tuple[object, ...]:
        assert workspace.embedding is workspace.embedding
        model = workspace.embedding
        return model.provider, model.model_name, model.dim, model.bits

    assert seen(look) == MODEL


def test_a_model_that_only_the_folder_names_is_not_loaded(
    folder: Path, without_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(without_model, Path("keys", "context.json"))
    with pytest.raises(InvalidArgument, match="set XTRACE_EMBEDDING_MODEL_PATH"):
        seen(lambda workspace: workspace.embedding)
    Path(".env").write_text("XTRACE_EMBEDDING_MODEL_PATH=model\n")
    with pytest.raises(UntrustedFolder, match=r"\.env in this folder names a model, which was not loaded"):
        seen(lambda workspace: workspace.embedding)
    monkeypatch.setenv("XTRACE_EMBEDDING_MODEL_PATH", "model")
    named = seen(lambda workspace: (workspace.embedding.provider, workspace.embedding.dim))
    assert named == ("sentence_transformer", 384)
