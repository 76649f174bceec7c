"""`xtrace context audit`: tries known attacks on a context's public key and on the chunks stored under it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xtrace_cli.options.connection import CredentialsFile, with_api_key
from xtrace_cli.output import Json, note, printable, show, table

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.contexts.saved_context import PublicParts
    from xtrace_sdk.x_vec.upkeep.audit.key_audit import Check
    from xtrace_sdk.x_vec.upkeep.audit.samples import Sample

SavedFiles = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="The files of saved contexts; their secrets are not needed.")
]


def audit(
    paths: SavedFiles,
    kb_id: Annotated[
        str | None,
        typer.Option("--kb", metavar="KB_ID", help="Also check chunks stored in this knowledge base."),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, max=1000, help="The number of newest chunks to check, with --kb.")
    ] = 256,
    seconds: Annotated[
        float, typer.Option(min=0, help="How long to search for small orders, for each key: 30 s take about 1 GB.")
    ] = 30,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Try known attacks on public keys and on stored chunks. The exit status is 1 if one succeeds.

    Needs no passphrase, because it uses only what the service's operator sees. It says what each check excludes, but
    cannot prove that a key is good. Pass all keys at once, because some attacks need several.
    """
    from xtrace_sdk.x_vec.contexts.saved_context import read_public_file
    from xtrace_sdk.x_vec.upkeep.audit.key_audit import audit_keys, is_weak
    from xtrace_sdk.x_vec.upkeep.audit.public_key import PublicKey

    parts = [read_public_file(path) for path in paths]
    keys = [PublicKey.read(public) for public in parts]
    sampled = [_samples(credentials, kb_id, public, samples) for public in parts]
    results = []
    for path, checks in zip(paths, audit_keys(keys, sampled, seconds), strict=True):
        results.append({"path": str(path), "weak": is_weak(checks), "checks": checks})
        if not as_json:
            _print(path, checks)
    weak = [result["path"] for result in results if result["weak"]]
    show({"weak": bool(weak), "keys": results}, as_json, lambda: None)
    if weak:
        note(f"weak: {', '.join(map(str, weak))}; rotate to a new context (xtrace context rotate)")
        raise typer.Exit(1)


def _samples(credentials: Path | None, kb_id: str | None, public: "PublicParts", count: int) -> "list[Sample]":
    if kb_id is None:
        return []
    from xtrace_sdk.x_vec.upkeep.audit.fetching import fetch_samples

    return with_api_key(credentials, lambda xtrace: fetch_samples(xtrace, kb_id, public, count))


def _print(path: Path, checks: "list[Check]") -> None:
    typer.echo(printable(str(path)))
    rows: list[tuple[Any, ...]] = [(f"  {check.name}", check.outcome, check.detail) for check in checks]
    table(("  CHECK", "RESULT", "DETAIL"), rows)
