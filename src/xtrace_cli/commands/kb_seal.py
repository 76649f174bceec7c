"""`xtrace kb seal`: seals chunks into blocks, so that searches of many chunks take fewer bytes."""

from typing import Annotated

import typer

from xtrace_cli.commands.context import SavedFile
from xtrace_cli.commands.kb import KbId
from xtrace_cli.options.connection import CredentialsFile, with_api_key
from xtrace_cli.options.key_providers import KeyFile, KMSContext, KMSKey, provider_of
from xtrace_cli.options.passphrase import PassphraseFile
from xtrace_cli.output import Json, note, show


def seal(
    kb_id: KbId,
    path: SavedFile,
    at_least: Annotated[
        int,
        typer.Option(
            "--at-least",
            min=1,
            metavar="CHUNKS",
            help="Make the first blocks as soon as there are this many chunks. With fewer, blocks do not save bytes.",
        ),
    ] = 24_576,
    erase_after: Annotated[
        int,
        typer.Option(
            "--erase-after",
            min=0,
            metavar="DAYS",
            help="Replace blocks that contain a vector that was deleted or replaced this many days ago.",
        ),
    ] = 30,
    remake: Annotated[
        list[int] | None,
        typer.Option(
            "--remake",
            metavar="BLOCK",
            help="Replace this block too, for example because it is damaged. Can be repeated.",
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    kms_key: KMSKey = None,
    kms_context: KMSContext = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Seal the chunks stored under a context of the scheme `lattice` into blocks of 1,024, and replace outdated blocks.

    Loading does the same at its end. Run this after a rotation, a copy or an import, and regularly where many chunks
    are deleted. Chunks are not changed, and it is safe to interrupt or repeat the command. Needs an API key with
    permission to write.
    """
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.stored.sealing import seal_chunks

    provider = provider_of(path, passphrase_file, key_file, kms_key, kms_context)
    context = ExecutionContext.load_from_disk(path=path, key_provider=provider)
    done = with_api_key(
        credentials,
        lambda xtrace: seal_chunks(
            context, xtrace, kb_id, first_rows=at_least, erase_after_days=erase_after, remake=remake or ()
        ),
    )
    result = {
        "kb_id": kb_id,
        "context_id": context.id,
        "blocks": done.blocks,
        "sealed": done.sealed,
        "removed": done.removed,
        "left": done.left,
    }

    def sum_up() -> None:
        note(f"sealed {done.sealed} chunks (new blocks: {done.blocks}); {done.left} chunks are in no block")
        if done.removed:
            note(f"removed blocks: {done.removed}")

    show(result, as_json, sum_up)
