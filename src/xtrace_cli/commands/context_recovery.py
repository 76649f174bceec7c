"""`xtrace context recovery-key` and `xtrace context recover`: a second way into a context."""

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
    remove: Annotated[bool, typer.Option("--remove", help="Make none, and remove the one that the file has.")] = False,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    kms_key: KMSKey = None,
    kms_context: KMSContext = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Create a recovery key for a context's file and print its words once. It replaces the file's old one.

    Copies of the file as it was, also the copy on the service until `xtrace context save`, still open with the old one.
    """
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext, read_public_part
    from xtrace_sdk.x_vec.keys.recovery import RecoveryKey

    if read_public_part(path).has_recovery_key:
        confirm(f"The recovery key of {path} will not open it any more. Go on?", yes)
    context = ExecutionContext.load_from_disk(
        path=path, key_provider=provider_of(path, passphrase_file, key_file, kms_key, kms_context)
    )
    key = None if remove else RecoveryKey.generate()
    context.set_recovery_key(key).save_to_disk(path)
    if key is None:
        show({"context_id": context.id}, as_json, lambda: note(f"{path} does not have a recovery key any more"))
    else:
        tested(path, key)
        done = {"context_id": context.id, "recovery_key": key.words()}
        show(done, as_json, lambda: print_words(path, key))


def recover(
    path: SavedFile,
    check: Annotated[bool, typer.Option("--check", help="Only test that the words open it; change nothing.")] = False,
    recovery_key_file: RecoveryKeyFile = None,
    new_passphrase_file: NewPassphraseFile = None,
    new_key_file: NewKeyFile = None,
    new_kms_key: NewKMSKey = None,
    new_kms_context: NewKMSContext = None,
    as_json: Json = False,
) -> None:
    """Open a context's file with its recovery key, and protect it by a new passphrase or key.

    The recovery key stays. If the old passphrase or key may be known to somebody, rotate: this revokes nothing.
    """
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

    context = ExecutionContext.load_from_disk(path=path, recovery_key=recovery_key_of(recovery_key_file))
    if not check:
        new = new_provider(new_passphrase_file, new_key_file, new_kms_key, new_kms_context)
        context.rewrap(new).save_to_disk(path)
    said = f"the recovery key opens {path}" if check else f"{path} opens with the new key, and with the recovery key"
    show({"context_id": context.id, "changed": not check}, as_json, lambda: note(said))
