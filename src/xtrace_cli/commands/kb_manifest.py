"""`xtrace kb manifest`: records which chunks are stored now, in case keys are stolen later."""

from pathlib import Path
from typing import Annotated

import typer

from xtrace_cli.commands.context import SavedFile
from xtrace_cli.commands.kb import KbId
from xtrace_cli.options.connection import CredentialsFile, with_api_key
from xtrace_cli.output import Json, fields, show

ManifestFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="The manifest to write; an existing file is replaced.")
]


def manifest(
    kb_id: KbId,
    path: SavedFile,
    file: ManifestFile,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Write a manifest of the chunks that are stored in a knowledge base under a context.

    Write it while the keys are safe, and keep the file where a thief of the keys cannot reach it. After a theft,
    `xtrace context rotate --manifest FILE` moves only the listed chunks. Needs an API key, but no passphrase.
    """
    from xtrace_sdk.x_vec.contexts.saved_context import read_public_file
    from xtrace_sdk.x_vec.upkeep.manifest import write_manifest

    public = read_public_file(path)
    written = with_api_key(credentials, lambda xtrace: write_manifest(xtrace, kb_id, public, file))
    result = {"kb_id": kb_id, "chunks": written.chunks, "digest": written.digest}
    show(result, as_json, lambda: fields([("chunks", written.chunks), ("SHA-256", written.digest)]))
