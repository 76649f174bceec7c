"""`xtrace xvec`: the records of a knowledge base.

`retrieve` and `query` are `xtrace search`, `copy` is `xtrace kb copy`; `upsert` and `upsert-file` are in
`xvec_upsert.py`.
"""

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xtrace_cli.commands.search import Where, search
from xtrace_cli.errors import UnknownRecords, WrongUse
from xtrace_cli.groups import new_group
from xtrace_cli.options.connection import CredentialsFile
from xtrace_cli.options.passphrase import PassphraseFile
from xtrace_cli.output import Json, Yes, check_confirmable, confirm, note, printable, say, show
from xtrace_cli.workspace import ContextFile, Given, KnowledgeBaseName, Workspace, with_workspace

if TYPE_CHECKING:
    from xtrace_sdk.collection.record import Record

app = new_group("xvec", "Records of a knowledge base: search, read, write, delete, count.")
app.command("retrieve")(search)
app.command("query")(search)

_SHOWN_CHARACTERS = 200


@app.command()
def head(
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=100_000, help="How many.")] = 10,
    where: Where = None,
    order_by: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Sort by this metadata field; reads all matching records first."),
    ] = None,
    descending: Annotated[
        bool, typer.Option("--descending", help="With --order-by, sort in descending order.")
    ] = False,
    kb: KnowledgeBaseName = None,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Print the first records, in the order in which they were stored."""

    async def act(workspace: Workspace) -> "list[Record]":
        collection, found = await workspace.collection(kb), list["Record"]()
        records = collection.iter(where, order_by=order_by, descending=descending)
        async with aclosing(records):
            async for record in records:
                found.append(record)
                if len(found) == count:
                    break
        return found

    _show_records(with_workspace(Given(credentials, context, passphrase_file), act), as_json, whole=False)


@app.command()
def fetch(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The ids of records.")],
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Include the copies of the vectors; only with --json.")
    ] = False,
    kb: KnowledgeBaseName = None,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Print complete records. The exit status is 1 if an id is unknown."""

    async def act(workspace: Workspace) -> "list[Record]":
        return await (await workspace.collection(kb)).get(ids, include_vectors=vectors and as_json)

    found = with_workspace(Given(credentials, context, passphrase_file), act)
    _show_records(found, as_json, whole=True)
    _check_known(ids, [record.id for record in found])


@app.command()
def count(
    where: Where = None,
    kb: KnowledgeBaseName = None,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Print the number of records, or of those that match a filter."""

    async def act(workspace: Workspace) -> int:
        return await (await workspace.collection(kb)).count(where)

    number = with_workspace(Given(credentials, context, passphrase_file), act)
    show({"count": number}, as_json, lambda: typer.echo(number))


@app.command()
def delete(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="The ids of records.")] = None,
    where: Where = None,
    yes: Yes = False,
    kb: KnowledgeBaseName = None,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Delete records by id or by a filter; `--where '{}'` deletes all. This cannot be undone."""
    if bool(ids) == (where is not None):
        raise WrongUse("name either ids or a filter with --where")
    check_confirmable(yes)
    given = Given(credentials, context, passphrase_file)

    async def counted(workspace: Workspace) -> tuple[int, str]:
        collection = await workspace.collection(kb)
        if ids:
            _check_known(ids, [record.id for record in await collection.get(ids)])
        return len(set(ids)) if ids else await collection.count(where), workspace.kb_name(kb)

    async def act(workspace: Workspace) -> int:
        collection = await workspace.collection(kb)
        return await (collection.delete(ids) if ids else collection.delete(where=where))

    if not yes:
        number, name = with_workspace(given, counted)
        confirm(f"Delete {number} records of {name}? This cannot be undone.", yes)
    deleted = with_workspace(given, act)
    show({"deleted": deleted}, as_json, lambda: note(f"deleted {deleted} records"))


def _show_records(records: "Sequence[Record]", as_json: bool, *, whole: bool) -> None:
    show([as_object(record) for record in records], as_json, lambda: _print_records(records, whole))


def as_object(record: "Record") -> dict[str, Any]:
    """Returns a record in the format of `upsert-file`, with its times."""
    known: dict[str, Any] = {"id": record.id, "text": record.text, "metadata": record.metadata}
    if record.vector is not None:
        known["vector"] = [float(element) for element in record.vector]
    times = {"created_at": record.created_at, "updated_at": record.updated_at}
    return known | {name: time.isoformat() for name, time in times.items() if time is not None}


def _print_records(records: "Sequence[Record]", whole: bool) -> None:
    from xtrace_cli.answers.hits import text_of
    from xtrace_cli.answers.words import ImportantWords

    for number, record in enumerate(records):
        if number and whole:
            typer.echo()
        say(printable(record.id))
        text = text_of(record)
        for line in text.split("\n") if whole else [ImportantWords("").excerpt(text, _SHOWN_CHARACTERS)]:
            typer.echo(f"   {printable(line)}".rstrip())


def _check_known(ids: Sequence[str], known: Sequence[str]) -> None:
    from xtrace_cli.options.small_files import nearest

    unknown = [one for one in dict.fromkeys(ids) if one not in set(known)]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise UnknownRecords(
            f"{len(unknown)} of {len(set(ids))} records do not exist: {', '.join(unknown[:3])}{more}"
            f"{nearest(unknown[0], list(known))}"
        )
