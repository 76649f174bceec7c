"""`xtrace context`: execution contexts, in files and on the service."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xtrace_cli.groups import new_group
from xtrace_cli.options.connection import CredentialsFile, with_api_key
from xtrace_cli.options.key_providers import KeyFile, KMSContext, KMSKey, named_provider, provider_of
from xtrace_cli.options.passphrase import PassphraseFile, new_passphrase
from xtrace_cli.options.recovery_key import RecoveryKeyFile, print_words, recovery_key_of, tested
from xtrace_cli.output import Json, Yes, confirm, fields, note, say, show, table
from xtrace_sdk.errors import InaccessibleFile

if TYPE_CHECKING:
    from xtrace_core.wire import ListedContext
    from xtrace_sdk.integrations.xtrace import XTraceIntegration
    from xtrace_sdk.x_vec.contexts.execution_context import PublicPart
    from xtrace_sdk.x_vec.keys.recovery import RecoveryKey

app = new_group("context", "Execution contexts: the keys of encrypted data, in files and on the service.")

NewFile = Annotated[Path, typer.Argument(metavar="PATH", help="The file to create; it must not exist.")]
SavedFile = Annotated[Path, typer.Argument(metavar="PATH", help="The file of a saved context.")]
ContextId = Annotated[
    str, typer.Argument(metavar="CONTEXT_ID", help="The context's id, as `xtrace context list` shows it.")
]


class Scheme(StrEnum):
    """The homomorphic schemes."""

    PAILLIER_LOOKUP = "paillier_lookup"
    PAILLIER = "paillier"
    LATTICE = "lattice"


class PrivateField(StrEnum):
    """The metadata fields that a context can hide."""

    ALL = "all"
    TAG1 = "tag1"
    TAG2 = "tag2"
    TAG3 = "tag3"
    TAG4 = "tag4"
    TAG5 = "tag5"
    FACETS = "facets"


@app.command()
def create(
    path: NewFile,
    scheme: Annotated[
        Scheme,
        typer.Option(
            help="The scheme of the vectors. `paillier_lookup` searches faster than `paillier`; with `lattice`, "
            "clients fetch small encrypted vectors and compare them."
        ),
    ] = Scheme.PAILLIER_LOOKUP,
    dimensions: Annotated[int, typer.Option(min=1, max=4096, help="The number of bits of a vector.")] = 512,
    key_len: Annotated[
        int | None,
        typer.Option(
            help="The bits of each prime of a Paillier scheme, by default 1024, which gives 112-bit security. Use 1536 "
            "(128-bit) if the data must stay secret beyond 2030; searches then take about twice as long, and vectors "
            "1.5 times the space."
        ),
    ] = None,
    private_metadata: Annotated[
        list[PrivateField] | None,
        typer.Option(
            help="A metadata field to hide from the service, or `all`; may be given several times. Cannot be "
            "changed later."
        ),
    ] = None,
    recovery_key: Annotated[
        bool, typer.Option("--recovery-key", help="Also create a recovery key, and print its words once.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Create new keys in a file protected by a passphrase, and print the context's id.

    Without the file, or without both the passphrase and the recovery key, the data cannot be read again.
    """
    _check_new(path)
    passphrase = new_passphrase(passphrase_file)
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext, read_public_part
    from xtrace_sdk.x_vec.keys.provider import PassphraseKeyProvider
    from xtrace_sdk.x_vec.keys.recovery import RecoveryKey

    key = RecoveryKey.generate() if recovery_key else None
    chosen = private_metadata or []
    ExecutionContext.create(
        PassphraseKeyProvider(passphrase),
        scheme.value,
        dimensions,
        key_len,
        path=path,
        private_metadata=PrivateField.ALL in chosen or [field.value for field in chosen],
        recovery_key=key,
    )
    public = read_public_part(path)
    if key is None:
        _show_id(public, as_json)
    else:
        tested(path, key)
        show({**_public(public), "recovery_key": key.words()}, as_json, lambda: _print_new(path, public, key))


@app.command("show")
def show_(path: SavedFile, as_json: Json = False) -> None:
    """Print the public part of a saved context. The passphrase is neither needed nor checked."""
    from xtrace_sdk.x_vec.contexts.execution_context import read_public_part

    public = _public(read_public_part(path))
    show(public, as_json, lambda: fields((name.replace("_", " "), _plain(value)) for name, value in public.items()))


@app.command()
def save(
    path: SavedFile,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    kms_key: KMSKey = None,
    kms_context: KMSContext = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Store a saved context on the service, with its secrets encrypted, and print its id.

    Asks for the passphrase to make sure that the stored context can be opened again; it is not sent.
    """
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

    context = ExecutionContext.load_from_disk(
        path=path, key_provider=provider_of(path, passphrase_file, key_file, kms_key, kms_context)
    )
    context_id = with_api_key(credentials, context.save_to_remote)
    show({"context_id": context_id}, as_json, lambda: say(context_id))


@app.command()
def restore(
    context_id: ContextId,
    path: NewFile,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    kms_key: KMSKey = None,
    kms_context: KMSContext = None,
    by_recovery_key: Annotated[
        bool,
        typer.Option(
            "--by-recovery-key", help="Open it with its recovery key; afterwards run `xtrace context recover`."
        ),
    ] = False,
    recovery_key_file: RecoveryKeyFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Fetch a context from the service, open it with its passphrase or key, and write it to a file."""
    _check_new(path)
    by_words = by_recovery_key or recovery_key_file is not None
    recovery_key = recovery_key_of(recovery_key_file) if by_words else None
    provider = None if by_words else named_provider(passphrase_file, key_file, kms_key, kms_context)
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext, read_public_part

    context = with_api_key(
        credentials,
        lambda xtrace: ExecutionContext.load_from_remote(
            key_provider=provider, recovery_key=recovery_key, context_id=context_id, integration=xtrace
        ),
    )
    context.save_to_disk(path)
    _show_id(read_public_part(path), as_json)


@app.command("list")
def list_(credentials: CredentialsFile = None, as_json: Json = False) -> None:
    """List the contexts on the service: when each was stored, its scheme, and its knowledge bases.

    A context that was never saved there, but was used to load chunks, cannot be restored: the service has only its
    public part.
    """
    from xtrace_sdk.x_vec.schemes.registry import scheme_name

    async def call(xtrace: "XTraceIntegration") -> "list[tuple[ListedContext, list[str]]]":
        found = await xtrace.describe_exec_contexts()
        return [(one, await xtrace.get_kbs_for_ctx(one.context_id)) for one in found]

    result = [
        {
            "context_id": one.context_id,
            "created_at": one.created_at,
            "scheme": None if one.type is None else scheme_name(one.type),
            "restorable": one.restorable,
            "kb_ids": kb_ids,
        }
        for one, kb_ids in with_api_key(credentials, call)
    ]
    show(result, as_json, lambda: _print_contexts(result))


@app.command()
def delete(context_id: ContextId, yes: Yes = False, credentials: CredentialsFile = None, as_json: Json = False) -> None:
    """Delete a context from the service, but not its files. Fails while chunks are stored under it."""
    confirm(f"Delete the context {context_id} from the service? Unless you have its file, its keys are lost.", yes)
    with_api_key(credentials, lambda xtrace: xtrace.delete_exec_context(context_id))
    show({"context_id": context_id, "deleted": True}, as_json, lambda: note(f"deleted the context {context_id}"))


def _check_new(path: Path) -> None:
    # The file of another context may contain the only copy of its keys.
    if path.is_symlink() or path.resolve().exists():
        raise InaccessibleFile(f"{path} exists: contexts are never overwritten, so name a new file")


def _show_id(part: "PublicPart", as_json: bool) -> None:
    show(_public(part), as_json, lambda: typer.echo(part.id))


def _print_new(path: Path, part: "PublicPart", key: "RecoveryKey") -> None:
    typer.echo(part.id)
    print_words(path, key)


def _public(part: "PublicPart") -> dict[str, Any]:
    """Returns the public part under the command line's names, without values that this kind of context lacks."""
    known = {
        "context_id": part.id,
        "scheme": part.scheme,
        "dimensions": part.embed_len,
        "key_len": part.key_len,
        "alpha_len": part.alpha_len,
        "encoding": part.encoding,
        "private_metadata": list(part.private_metadata) or None,
        "key_provider": part.key_provider,
        "has_recovery_key": part.has_recovery_key or None,
        "format_version": part.version,
    }
    return {name: value for name, value in known.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(value)
    return "yes" if value is True else value


def _print_contexts(contexts: list[dict[str, Any]]) -> None:
    headings = ("CONTEXT", "CREATED", "SCHEME", "RESTORABLE", "KNOWLEDGE BASES")
    rows = [
        (
            one["context_id"],
            one["created_at"] or "unknown",
            one["scheme"] or "unknown",
            "yes" if one["restorable"] else "no: only its file has the keys",
            ", ".join(one["kb_ids"]) or "none",
        )
        for one in contexts
    ]
    table(headings, rows)
