"""`xtrace share`: gives a colleague what is needed to search one knowledge base, and nothing else."""

import re
import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import typer

from xtrace_cli.errors import UnusableContext
from xtrace_cli.options.connection import CredentialsFile, known_connection
from xtrace_cli.options.expiry import Expires, moment_of
from xtrace_cli.options.knowledge_bases import named_kbs
from xtrace_cli.options.settings import current_settings
from xtrace_cli.output import Json, note, say, show
from xtrace_cli.workspace import ContextFile, context_file
from xtrace_core import wire
from xtrace_core.files import create_file
from xtrace_core.permissions import Permission
from xtrace_sdk.errors import InaccessibleFile

if TYPE_CHECKING:
    from xtrace_sdk.service.integration import XTraceIntegration


class _Shared(NamedTuple):
    kb: wire.KnowledgeBase
    context_id: str
    key: wire.CreatedApiKey
    others: list[str]
    """Other knowledge bases under the same context."""


def share(
    kb: Annotated[str, typer.Argument(metavar="KB", help="The knowledge base: its name, or its id.")],
    name: Annotated[
        str,
        typer.Option("--with", metavar="NAME", help="The person the API key is for; shown as its name in the list."),
    ],
    expires: Expires = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The credentials file to write; by default xtrace-NAME.json. It must not exist."
        ),
    ] = None,
    context: ContextFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Let someone else search a knowledge base: create an API key with read access only to it.

    Writes the key to a file, which only you can read, and prints the commands for them. They also need the passphrase
    of the context, which you send separately: it opens everything stored under the context
    (docs/recipes/give-somebody-access.md). Needs the admin key and an API key. Revoke access with `xtrace keys
    revoke`.
    """
    import asyncio

    file = to or Path(f"xtrace-{_file_name(name)}.json")
    if file.is_symlink() or file.exists():
        raise InaccessibleFile(f"{file} exists: it may contain someone's key, so name a new file with --to")
    expires_at = None if expires is None else moment_of(expires)
    settings = current_settings()
    connection = known_connection(credentials, settings)
    xtrace = connection.integration(("org_id", "api_key", "admin_key"))
    own_context = _context_in(context_file(context, settings))
    api_url, org_id = xtrace.api_url, connection.text("org_id")

    async def act() -> _Shared:
        async with xtrace:
            return await _shared(xtrace, kb, name, own_context, expires_at)

    shared = asyncio.run(act())
    _write(file, {"api_url": api_url, "org_id": org_id, "api_key": shared.key.secret_key})
    commands = [
        f"xtrace context restore {shared.context_id} keys/context.json --credentials {shlex.quote(file.name)}",
        f'xtrace search "a question" --kb {shared.kb.id} --credentials {shlex.quote(file.name)}',
    ]
    result: dict[str, Any] = {
        "kb_id": shared.kb.id,
        "context_id": shared.context_id,
        "key": shared.key.api_key,
        "file": str(file),
        "commands": commands,
        "also_under_context": shared.others,
    }
    show(result, as_json, lambda: _explain(file, name, commands))
    _warn(shared, api_url)


async def _shared(
    xtrace: "XTraceIntegration", kb: str, name: str, own_context: str | None, expires_at: datetime | None
) -> _Shared:
    (found,) = await named_kbs(xtrace, [kb])
    context_id = await _context_of(xtrace, found, own_context)
    others = [one for one in await xtrace.get_kbs_for_ctx(context_id) if one != found.id]
    key = await xtrace.create_api_key(name, f"reads {found.name}", expires_at=expires_at)
    try:
        await xtrace.set_key_permission(key.api_key.hash, found.id, Permission.READ)
    except BaseException:
        await xtrace.revoke_api_key(key.api_key.hash)
        raise
    return _Shared(found, context_id, key, others)


def _context_in(file: Path | None) -> str | None:
    """Returns the id of the context in the file, or None without a file. Raises what reading the file raises."""
    if file is None or not file.exists():
        return None
    from xtrace_sdk.x_vec.contexts.execution_context import read_public_part

    return read_public_part(file).id


async def _context_of(xtrace: "XTraceIntegration", kb: wire.KnowledgeBase, own_context: str | None) -> str:
    """Returns the context for the colleague to restore: the user's own, else the only one of the knowledge base.

    Raises `UnusableContext` if it is ambiguous, or if the service does not have its encrypted keys.
    """
    bound = await xtrace.get_ctx_for_kb(kb.id)
    if own_context is not None:
        context_id = own_context
        if context_id not in bound:
            raise UnusableContext(
                f"nothing is stored in {kb.name} under the context {context_id}: load documents first"
            )
    elif len(bound) == 1:
        context_id = bound[0]
    else:
        raise UnusableContext(f"{len(bound)} contexts are used in {kb.name}: name the file of one with --context")
    if context_id not in await xtrace.list_exec_contexts(restorable=True):
        raise UnusableContext(
            f"the service does not have the encrypted keys of the context {context_id}, so it can be opened only "
            "from its file: run `xtrace context save FILE` to store them"
        )
    return context_id


def _write(file: Path, credentials: dict[str, str]) -> None:
    try:
        create_file(file, msgspec.json.format(msgspec.json.encode(credentials), indent=2) + b"\n")
    except OSError as error:
        raise InaccessibleFile(
            f"the credentials cannot be written to {file}: {error.strerror}; revoke the new key with `xtrace keys "
            "revoke`"
        ) from None


def _explain(file: Path, name: str, commands: list[str]) -> None:
    say(f"1. Send {file} to {name} over a channel that you trust.")
    say("2. Send them the passphrase of the context separately from the file.")
    say("3. They install xtracedb and run:")
    for command in commands:
        say(f"     {command}")


def _warn(shared: _Shared, api_url: str) -> None:
    first = shared.key.api_key.first_n
    note(f"the API key {first}… can read only this knowledge base; revoke it with: xtrace keys revoke {first}")
    if shared.others:
        note(
            f"the passphrase also decrypts what is stored under this context in {len(shared.others)} other "
            "knowledge bases; only the API key keeps them out of those: for data that they must never read, use "
            "another context"
        )
    if urlsplit(api_url).hostname in ("127.0.0.1", "localhost", "::1"):
        note(f"the address in the file is {api_url}, which is this machine: they need an address that they can reach")


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.").lower() or "somebody"
