"""`xtrace context rewrap` replaces the key that protects a context; `xtrace context rotate` replaces its data keys."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xtrace_cli.commands.context import SavedFile, Scheme
from xtrace_cli.errors import WrongUse
from xtrace_cli.options.connection import CredentialsFile, with_api_key
from xtrace_cli.options.key_providers import (
    KeyFile,
    KMSContext,
    KMSKey,
    NewKeyFile,
    NewKMSContext,
    NewKMSKey,
    new_provider,
    provider_of,
)
from xtrace_cli.options.passphrase import NewPassphraseFile, PassphraseFile
from xtrace_cli.options.recovery_key import RecoveryKeyFile, print_words, recovery_key_of, tested
from xtrace_cli.output import Json, Yes, confirm, fields, note, show
from xtrace_sdk.errors import InvalidArgument

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.keys.recovery import RecoveryKey

SuccessorFile = Annotated[
    Path,
    typer.Argument(
        metavar="NEW_PATH", help="The file of the new context; created if missing, else the rotation resumes with it."
    ),
]
Manifests = Annotated[
    list[Path] | None,
    typer.Option(
        "--manifest",
        metavar="FILE",
        help="If the old keys were stolen: move only chunks listed in this manifest; may be given several times, "
        "once for each knowledge base.",
    ),
]


class RecoveryChoice(StrEnum):
    """What a rotation does with the recovery key."""

    NEW = "new"
    KEEP = "keep"
    NONE = "none"


KnowledgeBases = Annotated[
    list[str] | None,
    typer.Option("--kb", metavar="KB_ID", help="Rotate only this knowledge base; may be given several times."),
]


def rewrap(
    path: SavedFile,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    kms_key: KMSKey = None,
    kms_context: KMSContext = None,
    new_passphrase_file: NewPassphraseFile = None,
    new_key_file: NewKeyFile = None,
    new_kms_key: NewKMSKey = None,
    new_kms_context: NewKMSContext = None,
    as_json: Json = False,
) -> None:
    """Protect a context's file with another passphrase or key. Stored data is not changed.

    This revokes nothing: old copies of the file still open with the old one, and so does the copy on the service until
    you run `xtrace context save`. Only `xtrace context rotate` revokes access.
    """
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

    old = provider_of(path, passphrase_file, key_file, kms_key, kms_context)
    context = ExecutionContext.load_from_disk(path=path, key_provider=old)
    new = new_provider(new_passphrase_file, new_key_file, new_kms_key, new_kms_context)
    context.rewrap(new).save_to_disk(path)
    done = {"context_id": context.id, "key_provider": new.kind}
    show(done, as_json, lambda: note(f"{path} opens with the new key now; older copies still open with the old one"))


def rotate(
    path: SavedFile,
    new_path: SuccessorFile,
    kb_ids: KnowledgeBases = None,
    scheme: Annotated[Scheme | None, typer.Option(help="The scheme of the new context; by default the same.")] = None,
    key_len: Annotated[
        int | None, typer.Option(help="The bits of each prime of the new context; by default the same.")
    ] = None,
    recovery_key: Annotated[
        RecoveryChoice | None,
        typer.Option(
            help="The recovery key of the new context: `new` creates one and prints its words once, `keep` keeps "
            "the old context's and asks for its words. Required if the old context has one."
        ),
    ] = None,
    manifests: Manifests = None,
    finish: Annotated[
        bool,
        typer.Option("--finish", help="Stop accepting chunks under the old keys, both here and on the service."),
    ] = False,
    remove_old: Annotated[
        bool, typer.Option("--remove-old", help="Finish, and delete the old context from the service.")
    ] = False,
    instead_of: Annotated[
        str | None,
        typer.Option(
            help="The id of the context that an earlier rotation was moving to, if its keys are lost.",
            metavar="CONTEXT_ID",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and decrypt everything, without changing anything.")
    ] = False,
    yes: Yes = False,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    kms_key: KMSKey = None,
    kms_context: KMSContext = None,
    new_passphrase_file: NewPassphraseFile = None,
    new_key_file: NewKeyFile = None,
    new_kms_key: NewKMSKey = None,
    new_kms_context: NewKMSContext = None,
    recovery_key_file: RecoveryKeyFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Move everything under a context to a new one with new keys: every chunk is decrypted and encrypted again.

    Distribute the new file to all readers and writers: it finds what is stored under either context. When everyone has
    it, run the same command with `--finish`. Run the same command again to resume an interrupted rotation. No text or
    vector leaves this machine unencrypted.
    """
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.upkeep import rotation

    if kb_ids and (finish or remove_old):
        raise WrongUse("a rotation is finished for all knowledge bases at once: omit --kb")
    if (finish or remove_old) and not dry_run:
        confirm(
            "When everything is moved, stop accepting chunks under the old keys"
            + (" and delete the old context from the service?" if remove_old else "?"),
            yes,
        )
    printed: dict[str, str] = {}
    if new_path.exists():
        if recovery_key is not None:
            raise WrongUse(f"{new_path} exists: change its recovery key with `xtrace context recovery-key {new_path}`")
        provider = new_provider(new_passphrase_file, new_key_file, new_kms_key, new_kms_context, exists=True)
        context = ExecutionContext.load_from_disk(path=new_path, key_provider=provider)
        _check_replaces(path, new_path, context)
        if manifests:
            context.open_manifests(manifests)
    else:
        old_provider = provider_of(path, passphrase_file, key_file, kms_key, kms_context)
        old = ExecutionContext.load_from_disk(path=path, key_provider=old_provider)
        with_api_key(credentials, lambda xtrace: rotation.check_successor(old.id, xtrace, instead_of))
        # A dry run's keys are never saved.
        provider = (
            old_provider if dry_run else new_provider(new_passphrase_file, new_key_file, new_kms_key, new_kms_context)
        )
        key = None if dry_run else _recovery_key(path, recovery_key, recovery_key_file)
        context = old.successor(
            provider,
            None if scheme is None else scheme.value,
            key_len,
            None if dry_run else new_path,
            recovery_key=key,
            manifests=manifests,
        )
        if key is not None and recovery_key == RecoveryChoice.NEW:
            # Print them now: the rotation may be interrupted.
            printed = _shown(new_path, tested(new_path, key), as_json)
    summary = with_api_key(
        credentials,
        lambda xtrace: rotation.rotate(
            context,
            xtrace,
            kb_ids or None,
            finish=finish,
            remove_old=remove_old,
            dry_run=dry_run,
            instead_of=instead_of,
        ),
    )
    if summary.finished:
        context.save_to_disk(new_path)
    result = {
        "context_id": None if dry_run else context.id,
        "chunks": summary.chunks,
        "left": summary.left,
        "seconds": round(summary.seconds, 3),
        "finished": summary.finished,
        "removed_old": summary.removed_old,
        "dry_run": dry_run,
        **printed,
    }
    verb = "can be moved" if dry_run else "moved"
    lines = [
        (kb_id, f"{count} chunks {verb}" + (f", {summary.left[kb_id]} left: unlisted" if kb_id in summary.left else ""))
        for kb_id, count in summary.chunks.items()
    ]
    show(result, as_json, lambda: fields([*lines, ("in all", f"{summary.total} chunks in {summary.seconds:.1f} s")]))
    if not dry_run:
        note(summary.next_step)


def _recovery_key(path: Path, choice: RecoveryChoice | None, file: Path | None) -> "RecoveryKey | None":
    """Returns the recovery key of the new context. Raises `WrongUse` if the user has not chosen one."""
    from xtrace_sdk.x_vec.contexts.execution_context import read_public_part
    from xtrace_sdk.x_vec.keys.recovery import RecoveryKey

    if choice is None and read_public_part(path).has_recovery_key:
        raise WrongUse(f"{path} has a recovery key: choose --recovery-key new, keep or none for the new context")
    if choice == RecoveryChoice.KEEP:
        return tested(path, recovery_key_of(file))
    return RecoveryKey.generate() if choice == RecoveryChoice.NEW else None


def _shown(path: Path, key: "RecoveryKey", as_json: bool) -> dict[str, str]:
    """Prints the words of a new recovery key, or returns them for the JSON result."""
    if as_json:
        return {"recovery_key": key.words()}
    print_words(path, key)
    return {}


def _check_replaces(path: Path, new_path: Path, context: "ExecutionContext") -> None:
    from xtrace_sdk.x_vec.contexts.saved_context import read_file

    before, old = context.predecessor, read_file(path)
    if before is None and context.replaced is None:
        raise InvalidArgument(f"{new_path} does not replace another context: name a file that a rotation created")
    if before is None:
        # Files of other software do not contain the context's id.
        replaced = not old.is_ours or old.public_id == context.replaced
    else:
        replaced = old.public_data() == before.public_data()
    if not replaced:
        raise InvalidArgument(f"{new_path} does not replace the context in {path}")
