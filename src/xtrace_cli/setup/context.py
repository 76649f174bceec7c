"""The context that `xtrace init` creates, opens or restores."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xtrace_cli.errors import WrongUse
from xtrace_cli.options.connection import run_with
from xtrace_cli.options.key_providers import named_provider, provider_of
from xtrace_cli.options.passphrase import new_passphrase, passphrase_of
from xtrace_cli.options.recovery_key import tested
from xtrace_cli.options.settings import Settings
from xtrace_cli.output import note
from xtrace_cli.setup.questions import Questions
from xtrace_cli.setup.server import ChosenServer
from xtrace_cli.workspace import MODEL
from xtrace_sdk.errors import WrongKey

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.inference.embedding import Embedding
    from xtrace_sdk.x_vec.keys.recovery import RecoveryKey

_ATTEMPTS: Final = 3
_REMOTE: Final = ("ollama", "openai")
_LEAST_BITS: Final = 512


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """The values of the flags about the context."""

    path: Path | None
    restore: str | None
    passphrase_file: Path | None
    recovery_key: bool | None
    scheme: str
    model: str | None
    dimensions: int | None
    bits: int | None


@dataclass(frozen=True, slots=True)
class ChosenContext:
    """The opened context, which is saved at its path."""

    context: "ExecutionContext"
    passphrase: str | None
    """None if it is not protected by a passphrase."""
    is_new: bool = False
    recovery_key: "RecoveryKey | None" = None


def choose_context(
    questions: Questions,
    options: ContextOptions,
    path: Path,
    settings: Settings,
    server: ChosenServer,
    stored: Sequence[str],
) -> ChosenContext:
    """Opens the context at the path, or restores one of those `stored` on the server, or creates one.

    Raises `WrongUse`, `WrongKey`, `NotConfirmed`, and what files and the server raise.
    """
    if path.exists():
        if options.restore is not None:
            raise WrongUse(f"{path} exists, so the context was not restored: name another file with --context")
        return _opened(questions, options, path, settings)
    context_id = options.restore
    if context_id is None and stored and questions.may_ask:
        note(f"contexts that can be restored from the server: {', '.join(stored)}")
        context_id = questions.text("The id of one of them, or Enter to create new keys", "--restore", "")
    if context_id:
        return _restored(options, path, settings, server, context_id)
    return _created(questions, options, path)


def _opened(questions: Questions, options: ContextOptions, path: Path, settings: Settings) -> ChosenContext:
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext, read_public_part
    from xtrace_sdk.x_vec.keys.provider import PassphraseKeyProvider

    note(f"opening the context in {path}")
    if read_public_part(path).key_provider != PassphraseKeyProvider.kind:
        return ChosenContext(ExecutionContext.load_from_disk(path=path, key_provider=provider_of(path, None)), None)
    is_given = options.passphrase_file is not None or settings.text("passphrase") is not None
    for attempt in range(_ATTEMPTS):
        passphrase = passphrase_of(options.passphrase_file)
        try:
            return ChosenContext(ExecutionContext.load_from_disk(passphrase, path), passphrase)
        except WrongKey as error:
            if is_given or not questions.may_ask or attempt == _ATTEMPTS - 1:
                raise
            note(str(error))
    raise AssertionError("the last attempt returns or raises")


def _restored(
    options: ContextOptions, path: Path, settings: Settings, server: ChosenServer, context_id: str
) -> ChosenContext:
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

    key_file, kms_key = settings.path("key_file"), settings.text("kms_key")
    if key_file or kms_key:
        passphrase = None
        provider = named_provider(None, key_file, kms_key, None)
    else:
        from xtrace_sdk.x_vec.keys.provider import PassphraseKeyProvider

        passphrase = passphrase_of(options.passphrase_file)
        provider = PassphraseKeyProvider(passphrase)
    context = run_with(
        server.integration(),
        lambda xtrace: ExecutionContext.load_from_remote(
            key_provider=provider, context_id=context_id, integration=xtrace
        ),
    )
    context.save_to_disk(path)
    note(f"restored the context {context.id} to {path}")
    return ChosenContext(context, passphrase)


def _created(questions: Questions, options: ContextOptions, path: Path) -> ChosenContext:
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.keys.recovery import RecoveryKey

    embedding = _model(questions, options)
    note(f"creating new keys in {path}; the passphrase protects them and never leaves this machine")
    passphrase = new_passphrase(options.passphrase_file)
    wanted = questions.wants(
        "Make a recovery key, which opens the context if the passphrase is lost?",
        options.recovery_key,
        default=questions.may_ask,
    )
    key = RecoveryKey.generate() if wanted else None
    context = ExecutionContext.create(passphrase, options.scheme, embedding=embedding, path=path, recovery_key=key)
    if key is not None:
        tested(path, key)
    else:
        note(f"no recovery key was created: run `xtrace context recovery-key {path}` to create one")
    return ChosenContext(context, passphrase, is_new=True, recovery_key=key)


def _model(questions: Questions, options: ContextOptions) -> "Embedding":
    """Returns the model of a new context, after testing it. Raises `WrongUse` and what the model raises."""
    from xtrace_sdk.x_vec.inference.embedding import Embedding

    provider, name, dimensions, bits = MODEL
    default = f"{provider}/{name}"
    answer = options.model or questions.text("The embedding model, as PROVIDER/NAME", "--model", default)
    if answer == default:
        return Embedding(provider, name, options.dimensions or dimensions, bits=options.bits or bits)
    provider, _, name = answer.partition("/")
    if not name:
        raise WrongUse(f"the model is {answer!r}, expected PROVIDER/NAME such as {default}")
    if provider in _REMOTE:
        note(f"every text and every question will be sent to {provider}, which can read it")
    number = options.dimensions or _number(questions.text("The model's dimensions", "--dimensions"))
    embedding = Embedding(provider, name, number, bits=options.bits or (_LEAST_BITS if number < _LEAST_BITS else None))
    asyncio.run(embedding.embed("The March invoice is still unpaid."))
    return embedding


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= 65536):
        raise WrongUse("the model's dimensions are not valid, expected a whole number such as 384")
    return int(text)
