"""`xtrace kb verify`: which chunks and blocks of a knowledge base cannot be used."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xtrace_cli.commands.context import SavedFile
from xtrace_cli.commands.kb import KbId
from xtrace_cli.errors import BadBlocks, BadChunks
from xtrace_cli.options.connection import CredentialsFile, with_api_key
from xtrace_cli.options.key_providers import KeyFile, KMSContext, KMSKey, provider_of
from xtrace_cli.options.passphrase import PassphraseFile
from xtrace_cli.output import Json, Yes, check_confirmable, confirm, note, show, table
from xtrace_sdk.errors import shown_ids

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.upkeep.verification import CheckedBlocks, Verification

_SHOWN_BLOCKS = 20


def verify(
    kb_id: KbId,
    path: SavedFile,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete all chunks listed, after confirmation. This cannot be undone.")
    ] = False,
    manifests: Annotated[
        list[Path] | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            help="During a rotation, a manifest that the new context was created with.",
        ),
    ] = None,
    yes: Yes = False,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    kms_key: KMSKey = None,
    kms_context: KMSContext = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Read and decrypt every chunk under a context, and list those that are damaged or forged.

    If any are bad, everything is read again, and chunks that are bad both times are listed. A chunk with a bad vector
    makes every search over it fail: replace the listed chunks from their source, or delete them. Deleting tells the
    service which of the chunks it returned were bad. Under the scheme `lattice` this also checks the blocks, which
    `xtrace kb seal --remake` replaces. The exit status is 1 if anything bad remains. Needs an API key.
    """
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.upkeep import verification

    if delete:
        check_confirmable(yes)
    provider = provider_of(path, passphrase_file, key_file, kms_key, kms_context)
    context = ExecutionContext.load_from_disk(path=path, key_provider=provider)
    if manifests:
        context.open_manifests(manifests)
    found = with_api_key(credentials, lambda xtrace: verification.verify(context, xtrace, kb_id))
    if not as_json:
        _print(found)
    deleted: list[int] = []
    try:
        if delete and found.bad:
            if as_json:  # the result is printed at the end, but the user must see what to confirm
                note(f"bad chunks: {_listed(found)}")
            confirm(f"Delete all {len(found.bad)} bad chunks listed above, of {found.chunks}?", yes)
            deleted = with_api_key(credentials, lambda xtrace: verification.delete_bad(xtrace, kb_id, found.bad))
    finally:
        show(_result(kb_id, context.id, found, deleted), as_json, lambda: _sum_up(found, deleted))
    if left := len(found.bad) + found.more - len(deleted):
        raise BadChunks(
            f"{left} bad chunks remain: replace them from their source, or delete them with --delete"
            if not deleted
            else f"{left} bad chunks are left, because they were not listed, or changed meanwhile: run the command "
            f"again"
        )
    if found.blocks.bad or found.blocks.missing or found.blocks.unchecked:
        raise BadBlocks(_advice(found.blocks))


def _result(kb_id: str, context_id: str, found: "Verification", deleted: list[int]) -> dict[str, Any]:
    return {
        "kb_id": kb_id,
        "context_id": context_id,
        "chunks": found.chunks,
        "bad": [{"chunk_id": chunk.chunk_id, "problems": chunk.problems} for chunk in found.bad],
        "more": found.more,
        "unsteady": found.unsteady,
        "deleted": deleted,
        "blocks": {
            "checked": found.blocks.blocks,
            "recomputed": found.blocks.recomputed,
            "bad": [{"block_id": block.block_id, "problems": block.problems} for block in found.blocks.bad],
            "missing": found.blocks.missing,
            "unchecked": found.blocks.unchecked,
        },
        "seconds": round(found.seconds, 3),
    }


def _print(found: "Verification") -> None:
    if found.bad:
        table(("CHUNK", "PROBLEMS"), [(chunk.chunk_id, ", ".join(chunk.problems)) for chunk in found.bad])
    if bad := found.blocks.bad:
        table(("BLOCK", "PROBLEMS"), [(block.block_id, ", ".join(block.problems)) for block in bad])


def _listed(found: "Verification") -> str:
    return "; ".join(f"{chunk.chunk_id} ({', '.join(chunk.problems)})" for chunk in found.bad)


def _advice(blocks: "CheckedBlocks") -> str:
    """Returns what to do about bad blocks."""
    if blocks.unchecked:
        return f"the blocks were not checked: {blocks.unchecked}; run the command again"
    said = []
    if blocks.bad:
        options = " ".join([f"--remake {block.block_id}" for block in blocks.bad[:_SHOWN_BLOCKS]])
        said.append(f"{len(blocks.bad)} blocks are bad: replace them with xtrace kb seal {options}")
    if blocks.missing:
        said.append(
            f"searches by blocks leave out {len(blocks.missing)} stored chunks ({shown_ids(blocks.missing)}): the "
            "service contradicts itself, because it returns their records"
        )
    return "; ".join(said)


def _sum_up(found: "Verification", deleted: list[int]) -> None:
    if found.unsteady:
        note(
            f"{len(found.unsteady)} chunks were bad in the first pass, but not in the second "
            f"({shown_ids(found.unsteady)}): they were replaced or deleted meanwhile, or the service answered with "
            "wrong data"
        )
    if found.more:
        note(f"{found.more} more bad chunks are not listed: replace or delete those listed, and run the command again")
    note(f"{found.chunks} chunks were read, {len(found.bad) + found.more} are bad, {len(deleted)} were deleted")
    if found.blocks.blocks:
        note(
            f"{found.blocks.blocks} blocks were checked, {found.blocks.recomputed} of them made again from their "
            f"chunks and compared, {len(found.blocks.bad)} are bad"
        )
