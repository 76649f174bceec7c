"""`xtrace context recovery-key` and `xtrace context recover`: a second key that opens a context."""

from typing import Annotated

import typer

from xtrace_cli.commands.context import SavedFile
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
from xtrace_cli.output import Json, Yes, confirm, note, show


def recovery_key(
    path: SavedFile,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the recovery key instead of creating one.")] = False,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    kms_key: KMSKey = None,
    kms_context: KMSContext = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Create a recovery key for a context's file, and print its words once. It replaces an existing one.

    Old copies of the file still open with the old recovery key, and so does the copy on the service until you run
    `xtrace context save`.
    """
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext, read_public_part
    from xtrace_sdk.x_vec.keys.recovery import RecoveryKey

    if read_public_part(path).has_recovery_key:
        confirm(f"The current recovery key of {path} will no longer open it. Continue?", yes)
    context = ExecutionContext.load_from_disk(
        path=path, key_provider=provider_of(path, passphrase_file, key_file, kms_key, kms_context)
    )
    key = None if remove else RecoveryKey.generate()
    context.set_recovery_key(key).save_to_disk(path)
    if key is None:
        show({"context_id": context.id}, as_json, lambda: note(f"{path} no longer has a recovery key"))
    else:
        tested(path, key)
        done = {"context_id": context.id, "recovery_key": key.words()}
        show(done, as_json, lambda: print_words(path, key))


def recover(
    path: SavedFile,
    check: Annotated[
        bool, typer.Option("--check", help="Only test whether the words open it; change nothing.")
    ] = False,
    recovery_key_file: RecoveryKeyFile = None,
    new_passphrase_file: NewPassphraseFile = None,
    new_key_file: NewKeyFile = None,
    new_kms_key: NewKMSKey = None,
    new_kms_context: NewKMSContext = None,
    as_json: Json = False,
) -> None:
    """Open a context's file with its recovery key, and protect it with a new passphrase or key.

    The recovery key stays valid. This revokes nothing: if someone may know the old passphrase or key, rotate.
    """
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

    context = ExecutionContext.load_from_disk(path=path, recovery_key=recovery_key_of(recovery_key_file))
    if not check:
        new = new_provider(new_passphrase_file, new_key_file, new_kms_key, new_kms_context)
        context.rewrap(new).save_to_disk(path)
    said = f"the recovery key opens {path}" if check else f"{path} opens with the new key, and with the recovery key"
    show({"context_id": context.id, "changed": not check}, as_json, lambda: note(said))
