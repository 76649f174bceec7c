"""`xtrace doctor`: what is installed, reachable and allowed. The checks are in `xtrace_cli.diagnosis`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from xtrace_cli.errors import SomethingIsWrong
from xtrace_cli.options.connection import CredentialsFile
from xtrace_cli.options.passphrase import PassphraseFile
from xtrace_cli.output import Json, printable, show
from xtrace_cli.workspace import ContextFile, KnowledgeBaseName

if TYPE_CHECKING:
    from xtrace_cli.diagnosis.findings import Finding


def doctor(
    kb: KnowledgeBaseName = None,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Check everything that commands need, and say how to fix each problem.

    Checks the installation, the settings, the server and its clock, the rights of the keys, the context, its model,
    and the disk. Changes nothing. The exit status is 1 if there is an error, but not for warnings. Does not ask for
    the passphrase: without it the context is not opened.
    """
    findings = []
    for finding in _findings(kb, context, passphrase_file, credentials):
        findings.append(finding)
        if not as_json:
            _print(finding)
    wrong = sum(finding.status == "error" for finding in findings)
    if as_json:
        show({"ok": not wrong, "findings": findings}, as_json, lambda: None)
    if wrong:
        raise SomethingIsWrong(f"{wrong} of {len(findings)} checks failed: follow the advice above")


def _findings(
    kb: str | None, context: Path | None, passphrase_file: Path | None, credentials: Path | None
) -> "Iterator[Finding]":
    from xtrace_cli.diagnosis import installation, keys, service
    from xtrace_cli.diagnosis.findings import Finding, guarded
    from xtrace_cli.options.connection import DEFAULT_FILE, known_connection
    from xtrace_cli.options.settings import DOTENV, current_settings
    from xtrace_cli.options.small_files import dotenv_names
    from xtrace_cli.workspace import DEFAULT_KB, context_file
    from xtrace_sdk.errors import XTraceError
    from xtrace_sdk.service.integration import DEFAULT_API_URL

    yield from installation.installation()
    try:
        settings = current_settings()
        connection = known_connection(credentials, settings)
        names = dotenv_names(Path(DOTENV))
    except XTraceError as error:
        yield Finding("settings", "error", str(error), "correct the setting that it names, or run `xtrace init`")
        return
    file = context_file(context, settings)
    used = [one for one in (credentials, settings.path("credentials"), DEFAULT_FILE, file) if one is not None]
    yield from installation.variables(names)
    yield from guarded("files", lambda: installation.files(dict.fromkeys(used)), "correct the folder's rights")
    reached = True
    url = (connection.text("api_url") or DEFAULT_API_URL).rstrip("/")
    for finding in guarded(
        "server", lambda: service.server(connection, url), "start the server, or correct its address"
    ):
        reached = reached and finding.status != "error"
        yield finding
    if reached:
        name = kb or settings.text("kb") or DEFAULT_KB
        yield from guarded("keys", lambda: service.rights(connection, name), "correct the keys with `xtrace init`")
    yield from guarded(
        "context", lambda: keys.context(file, passphrase_file, settings), "restore the context from a copy"
    )
    if reached and file is not None and file.exists():
        yield from guarded("copy_of_context", lambda: keys.saved(connection, file), "correct the API key")
    folders = [Path(), *(one for one in (file, settings.path("local_server")) if one is not None)]
    yield from guarded("disk", lambda: installation.disk(folders), "look at the file system")


def _print(finding: "Finding") -> None:
    typer.echo(f"{finding.status.ljust(7)}  {finding.check.replace('_', ' ')}: {printable(finding.found)}")
    if finding.advice:
        typer.echo(f"         -> {printable(finding.advice)}")
