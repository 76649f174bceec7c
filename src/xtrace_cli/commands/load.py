"""`xtrace load`: loads files into a knowledge base. Its work is in `loading`, which takes a second to import."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from xtrace_cli.options.amount import amount
from xtrace_cli.options.connection import CredentialsFile
from xtrace_cli.options.passphrase import PassphraseFile
from xtrace_cli.output import Json, Yes
from xtrace_cli.signals import end_as_ctrl_c_does
from xtrace_cli.workspace import ContextFile, Given, KnowledgeBaseName


def load(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files, and folders with everything in them.")],
    kb: KnowledgeBaseName = None,
    chunk_size: Annotated[
        int, typer.Option(min=100, max=8000, metavar="CHARACTERS", help="The maximum length of a chunk, in characters.")
    ] = 900,
    overlap: Annotated[
        int, typer.Option(min=0, metavar="CHARACTERS", help="The overlap of consecutive chunks, in characters.")
    ] = 0,
    tag1: Annotated[str | None, typer.Option(metavar="TEXT", help="Store this as `tag1` with every chunk.")] = None,
    tag2: Annotated[str | None, typer.Option(metavar="TEXT", help="Store this as `tag2` with every chunk.")] = None,
    tag3: Annotated[str | None, typer.Option(metavar="TEXT", help="Store this as `tag3` with every chunk.")] = None,
    tag4: Annotated[str | None, typer.Option(metavar="TEXT", help="Store this as `tag4` with every chunk.")] = None,
    tag5: Annotated[str | None, typer.Option(metavar="TEXT", help="Store this as `tag5` with every chunk.")] = None,
    facets: Annotated[
        list[str] | None,
        typer.Option("--facet", metavar="TEXT", help="Add this to the list `facets`; may be given several times."),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TEXT", help="Store this metadata field with every chunk; may be given several times."
        ),
    ] = None,
    max_size: Annotated[str, typer.Option(metavar="SIZE", help="Skip larger files.")] = "32MiB",
    hidden: Annotated[
        bool, typer.Option("--hidden", help="Also load files and folders whose names begin with a dot.")
    ] = (False),
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="The encoding of all text files, such as utf-8 or koi8-r.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Store the folder under this name instead of its own."),
    ] = None,
    moved: Annotated[bool, typer.Option("--moved", help="The folder was loaded before, and has moved since.")] = False,
    sync: Annotated[
        bool, typer.Option("--sync", help="Also delete the chunks of files below PATH that no longer exist.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep running, and load changes until Ctrl-C.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, without doing it.")] = False,
    yes: Yes = False,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Encrypt files and folders, and store them in a knowledge base, which is created if needed.

    Reads text, Markdown, reStructuredText, HTML, CSV, TSV, JSON, JSON Lines, notebooks, e-mail and source code. With
    the extra `documents` it reads PDF, Word, PowerPoint, Excel and EPUB. A second run stores new and changed chunks,
    and deletes leftover chunks of changed files. Links, and files listed in .gitignore or .xtraceignore, are skipped.
    """
    end_as_ctrl_c_does(signal.SIGTERM)
    from xtrace_cli.commands.loading import LoadOptions, load_and_report

    tags = {f"tag{number}": tag for number, tag in enumerate((tag1, tag2, tag3, tag4, tag5), start=1)}
    options = LoadOptions(
        kb=kb,
        chunk_size=chunk_size,
        overlap=overlap,
        tags={name: tag for name, tag in tags.items() if tag is not None},
        facets=facets or [],
        metadata=metadata or [],
        max_bytes=amount(max_size, "--max-size"),
        with_hidden=hidden,
        encoding=encoding,
        name=name,
        has_moved=moved,
        removes_vanished=sync,
        goes_on=watch,
        is_dry=dry_run,
        yes=yes,
        as_json=as_json,
    )
    load_and_report(paths, options, Given(credentials, context, passphrase_file))
