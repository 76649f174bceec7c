"""The steps of `xtrace init`, in order."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer

from xtrace_cli.errors import NotConfirmed, WrongUse
from xtrace_cli.options.allowed import allow
from xtrace_cli.options.connection import run_with
from xtrace_cli.options.recovery_key import print_words
from xtrace_cli.options.settings import DOTENV, Setting, Settings, Source, current_settings
from xtrace_cli.options.system_keyring import has_keyring, keep_passphrase
from xtrace_cli.options.trust import allow_start
from xtrace_cli.output import fields, note, show, wants
from xtrace_cli.setup.context import ChosenContext, ContextOptions, choose_context
from xtrace_cli.setup.dotenv_file import different, write_settings
from xtrace_cli.setup.first_document import store_and_find
from xtrace_cli.setup.git import committable
from xtrace_cli.setup.questions import Questions
from xtrace_cli.setup.server import ChosenServer, ServerOptions, as_written, choose_server, contexts_on
from xtrace_cli.workspace import DEFAULT_CONTEXT, DEFAULT_KB

NEXT: Final = ("xtrace load FOLDER", 'xtrace search "QUESTION"', "xtrace doctor")


@dataclass(frozen=True, slots=True)
class Options:
    """The values of the flags."""

    server: ServerOptions
    context: ContextOptions
    keep_passphrase: str | None
    save_context: bool | None
    kb: str | None
    document: str | None
    replace: bool
    yes: bool
    as_json: bool


def guide(options: Options) -> None:
    """Sets up the working folder, and prints the result.

    If a step fails, the results of earlier steps stay, and the next run finds them. Raises `WrongUse`, `NotConfirmed`,
    and what the steps raise.
    """
    questions = Questions.unless(options.yes)
    settings = current_settings()
    server = choose_server(questions, options.server)
    stored = contexts_on(server)
    path = options.context.path or settings.path("context") or DEFAULT_CONTEXT
    chosen = choose_context(questions, options.context, path, settings, server, stored)
    if chosen.recovery_key is not None and not options.as_json:
        print_words(path, chosen.recovery_key)
        if questions.may_ask:
            questions.text("Press Enter when you have written the words down", "", "")
    if questions.wants(
        "Store the context on the server too, its secrets encrypted, to restore it on another machine?",
        options.save_context,
        default=False,
    ):
        note(f"stored on the server: {run_with(server.integration(), chosen.context.save_to_remote)}")
    kb = _knowledge_base(questions, options, settings, server)
    variables = {**server.variables, "XTRACE_CONTEXT": as_written(path), **({"XTRACE_KB": kb} if kb else {})}
    variables |= _kept_passphrase(questions, options, chosen)
    _write(questions, options, variables)
    _remember(server, path if "XTRACE_PASSPHRASE" in variables else None)
    kb_id = _first_document(questions, options, server, chosen, kb)
    _warn_of_git(path, server)
    _show(options, server, chosen, path, kb, kb_id)


def _knowledge_base(questions: Questions, options: Options, settings: Settings, server: ChosenServer) -> str | None:
    known = options.kb or settings.text("kb")
    if server.connection.text("admin_key"):
        return options.kb or questions.text("The knowledge base", "--kb", known or DEFAULT_KB)
    if known is None and questions.may_ask:
        return questions.text("The id of the knowledge base (names need the admin key), or Enter", "--kb", "") or None
    return known


def _kept_passphrase(questions: Questions, options: Options, chosen: ChosenContext) -> dict[str, str]:
    """Stores the passphrase where the user wants it, and returns the variables for `.env`."""
    wanted = options.keep_passphrase
    if chosen.passphrase is None or wanted == "no":
        return {}
    if wanted is None and has_keyring():
        wanted = (
            "keyring" if questions.wants("Keep the passphrase in the system's keyring?", None, default=False) else None
        )
    if wanted == "keyring":
        keep_passphrase(chosen.context.id, chosen.passphrase)
        note("the passphrase is in the system's keyring")
    if wanted != "dotenv":
        return {}
    note(f"the passphrase is written to {DOTENV}: anyone who can read it and the context can decrypt everything")
    return {"XTRACE_PASSPHRASE": chosen.passphrase}


def _write(questions: Questions, options: Options, variables: dict[str, str]) -> None:
    path = Path(DOTENV)
    if (changed := different(path, variables)) and not options.replace:
        names = " and ".join(sorted(set(changed)))
        if not questions.may_ask:
            raise WrongUse(f"{DOTENV} has a different value of {names}: add --replace to replace it")
        if not wants(f"{DOTENV} has another value of {names}. Replace it?"):
            raise NotConfirmed(f"not confirmed, so {DOTENV} was not changed")
    write_settings(path, variables)
    note(f"the settings are in {DOTENV}")


def _remember(server: ChosenServer, opened_here: Path | None) -> None:
    """Allows the folder's file to name this server and its context, because the user has just chosen them here."""
    if opened_here is not None:
        source = Source(DOTENV, Path.cwd(), is_of_folder=True)
        allow(Setting("context", as_written(opened_here), source), "passphrase")
    if (url := server.setting("api_url")) is not None:
        allow(url, "api_key")
        allow(url, "admin_key")
    if (private := server.setting("local_server")) is not None:
        allow_start(private)


def _first_document(
    questions: Questions, options: Options, server: ChosenServer, chosen: ChosenContext, kb: str | None
) -> str | None:
    if kb is None:
        note("no knowledge base was named, so no test document was stored: name one with --kb")
        return None
    if chosen.context.embedding_model is None and current_settings().get("embedding_model_path") is None:
        note("the context does not name a model, so no test document was stored: set XTRACE_EMBEDDING_MODEL_PATH")
        return None
    text = options.document
    if text is None and questions.may_ask:
        text = questions.text("A first document, a sentence to keep, or Enter for an example", "--document", "") or None
    tested = store_and_find(server, chosen.context, kb, text)
    if tested.may_write:
        note("a document was encrypted, stored and found again" + ("" if text else ", and deleted"))
    else:
        note("the API key can read the knowledge base, but not write to it: a search works")
    return tested.kb_id


def _warn_of_git(path: Path, server: ChosenServer) -> None:
    named = [server.setting(name) for name in ("credentials", "local_server")]
    files = [Path(DOTENV), path, *(one.path for one in named if one is not None)]
    if found := committable(files):
        names = " and ".join(as_written(one) for one in found)
        note(f"{names} could be committed to git with the secrets inside: add these files to .gitignore")


def _show(
    options: Options, server: ChosenServer, chosen: ChosenContext, path: Path, kb: str | None, kb_id: str | None
) -> None:
    result: dict[str, Any] = {
        "api_url": server.integration().api_url,
        "context": str(path),
        "context_id": chosen.context.id,
        "context_created": chosen.is_new,
        "kb": kb,
        "kb_id": kb_id,
        "settings": DOTENV,
    }
    if chosen.recovery_key is not None:
        result["recovery_key"] = chosen.recovery_key.words()
    lines = [
        ("server", result["api_url"]),
        ("context", f"{path} ({chosen.context.id})"),
        ("knowledge base", kb or "none"),
        ("settings", DOTENV),
    ]
    show(result, options.as_json, lambda: _print(lines))


def _print(lines: list[tuple[str, Any]]) -> None:
    fields(lines)
    typer.echo("\nGo on with:")
    for command in NEXT:
        typer.echo(f"  {command}")
