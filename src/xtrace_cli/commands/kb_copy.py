"""`xtrace kb copy`: copies a knowledge base to another one, on the same or another server."""

from pathlib import Path
from typing import Annotated

import typer

from xtrace_cli.commands.context import SavedFile
from xtrace_cli.commands.kb import KbId
from xtrace_cli.errors import BadChunks
from xtrace_cli.options.connection import CredentialsFile, with_two_api_keys
from xtrace_cli.options.key_providers import KeyFile, KMSContext, KMSKey, provider_of
from xtrace_cli.options.passphrase import PassphraseFile
from xtrace_cli.output import Json, note, show
from xtrace_sdk.errors import shown_ids


def copy(
    kb_id: KbId,
    target_kb_id: Annotated[
        str, typer.Argument(metavar="TARGET_KB_ID", help="The id of a new knowledge base to copy to.")
    ],
    path: SavedFile,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FILE",
            help="The credentials file of the server to copy to; by default the same server.",
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    kms_key: KMSKey = None,
    kms_context: KMSContext = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Copy the chunks stored under a context to another knowledge base, and verify the copy.

    Ciphertexts are copied unchanged: nothing is embedded or encrypted again, and the same context reads the copy. Run
    the same command again to resume an interrupted copy, and to copy chunks added since. The exit status is 1 if
    chunks were not copied because they do not decrypt.
    """
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.upkeep import copying

    provider = provider_of(path, passphrase_file, key_file, kms_key, kms_context)
    context = ExecutionContext.load_from_disk(path=path, key_provider=provider)
    done = with_two_api_keys(
        credentials,
        to,
        lambda source, target: copying.copy_knowledge_base(source, kb_id, target, target_kb_id, context),
    )
    result = {
        "kb_id": kb_id,
        "target_kb_id": target_kb_id,
        "context_id": context.id,
        "copied": done.copied,
        "known": done.known,
        "bad": list(done.bad_ids),
        "taken": list(done.taken_ids),
        "seconds": done.seconds,
    }

    def sum_up() -> None:
        note(f"{done.copied} chunks were copied and verified, {done.known} were already there")
        if done.taken_ids:
            note(f"not copied, because the target has other chunks with these names: {shown_ids(done.taken_ids)}")

    show(result, as_json, sum_up)
    if done.bad_ids:
        raise BadChunks(
            f"{len(done.bad_ids)} chunks do not decrypt and were not copied ({shown_ids(done.bad_ids)}): run "
            "`xtrace kb verify` for details"
        )
