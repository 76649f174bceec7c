"""`xtrace local`: the local indexes of this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from xtrace_cli.errors import DifferingIndex, WrongUse
from xtrace_cli.groups import new_group
from xtrace_cli.options.connection import CredentialsFile
from xtrace_cli.options.passphrase import PassphraseFile
from xtrace_cli.output import Json, fields, note, show
from xtrace_cli.synchronising import shown_synchronisation
from xtrace_cli.workspace import ContextFile, Given, KnowledgeBaseName, Workspace, with_workspace

if TYPE_CHECKING:
    from xtrace_sdk.collection.collection import Collection
    from xtrace_sdk.x_vec.local.shared_index import SharedLocalIndex
    from xtrace_sdk.x_vec.local.verifying import LocalIndexReport

app = new_group("local", "The local indexes of this machine: what they take, verify, share, clear.")


@app.command()
def status(as_json: Json = False) -> None:
    """Print the folder of the local indexes, how many there are, and their size.

    Searches keep one for each knowledge base of up to 100,000 chunks. XTRACE_LOCAL_INDEX=off keeps none, and `auto`,
    `codes` or `replica` keep one of larger knowledge bases too.
    """
    from xtrace_sdk.x_vec.local.folder import default_folder, indexes

    found = indexes(default_folder())
    result = {"folder": str(default_folder()), "indexes": len(found), "bytes": sum(one.size for one in found)}
    show(result, as_json, lambda: fields((name, str(value)) for name, value in result.items()))


@app.command()
def verify(
    kb: KnowledgeBaseName = None,
    fetch: Annotated[
        int,
        typer.Option(
            "--fetch",
            min=0,
            metavar="CONTENTS",
            help="Fetch this many contents that are not kept here, chosen at random, and compare them too.",
        ),
    ] = 0,
    fetch_all: Annotated[bool, typer.Option("--all", help="Fetch and compare all contents.")] = False,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Bring the local index of a knowledge base up to date, and compare it with all chunks that the service has.

    So it is noticed if the service left out a change. Contents that are kept here are compared with what the index says
    of them. An index that began with a shared one is checked further with `--fetch` or `--all`. The exit status is 1 if
    they differ: remove the index with `xtrace local clear`, and find out why.
    """

    async def act(workspace: Workspace) -> "LocalIndexReport":
        collection = await _indexed(workspace, kb, "verified")
        with shown_synchronisation(collection):
            return await collection.verify_local_index(fetch=None if fetch_all else fetch)

    found = with_workspace(Given(credentials, context, passphrase_file), act)
    differing = {"missing": len(found.missing), "surplus": len(found.surplus), "wrong": len(found.wrong)}
    result = {"chunks": found.chunks, "contents": found.contents} | differing
    line = f"{found.chunks} chunks and {found.contents} contents were compared, differ {sum(differing.values())}"
    show(result, as_json, lambda: note(line))
    if not found.is_good:
        raise DifferingIndex(
            f"the local index lacks {len(found.missing)} chunks that the service has, has {len(found.surplus)} that it "
            f"lacks, and {len(found.wrong)} contents differ: clear it with `xtrace local clear`, and find out why"
        )


@app.command()
def share(
    kb: KnowledgeBaseName = None,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Bring the local index of a knowledge base up to date, and leave a sealed copy on the service for other clients.

    They fetch it instead of all contents when they begin an index. Searches share an index by themselves after they
    have read 16,384 contents, so this is of use after smaller loads, or to replace a copy that clients reject. Needs
    an API key with permission to write.
    """

    async def act(workspace: Workspace) -> "SharedLocalIndex":
        collection = await _indexed(workspace, kb, "shared")
        with shown_synchronisation(collection):
            return await collection.share_local_index()

    done = with_workspace(Given(credentials, context, passphrase_file), act)
    result = {"chunks": done.chunks, "segments": done.segments, "sent": done.sent}
    line = f"other clients can fetch an index of {done.chunks} chunks; sent {done.segments} segments, {done.sent} bytes"
    show(result, as_json, lambda: note(line))


async def _indexed(workspace: Workspace, kb: str | None, done: str) -> "Collection":
    """The collection with its local index. Raises `WrongUse` if none is kept."""
    collection = await workspace.collection(kb)
    if collection.local_index_path is None:
        raise WrongUse(f"XTRACE_LOCAL_INDEX=off keeps no local index that could be {done}")
    return collection


@app.command()
def clear(as_json: Json = False) -> None:
    """Remove all local indexes. The next search of each knowledge base fetches its contents again."""
    from xtrace_sdk.x_vec.local.folder import default_folder, indexes, remove

    found = indexes(default_folder())
    for one in found:
        remove(one.path)
    result = {"cleared": len(found), "bytes": sum(one.size for one in found)}
    show(result, as_json, lambda: note(f"cleared {result['cleared']} local indexes, {result['bytes']} bytes"))
