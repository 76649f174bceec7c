"""Checks the context and its model."""

import asyncio
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xtrace_cli.diagnosis.findings import Finding
from xtrace_cli.options.connection import Connection, run_with
from xtrace_cli.options.passphrase import known_passphrase
from xtrace_cli.options.settings import Settings
from xtrace_sdk.errors import ContextNotFound, XTraceError

if TYPE_CHECKING:
    from xtrace_sdk.service.integration import XTraceIntegration
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext, PublicPart
    from xtrace_sdk.x_vec.inference.model import EmbeddingModel

_SAMPLE: Final = "The March invoice is still unpaid."
_SHORTEST_GOOD: Final = 12
"""A shorter passphrase can be guessed within days."""


def context(file: Path | None, passphrase_file: Path | None, settings: Settings) -> Iterator[Finding]:
    """Checks the context in a file: whether it opens, is weak or has a recovery key, and whether its model works."""
    from xtrace_sdk.x_vec.contexts.execution_context import read_public_part

    if file is None or not file.exists():
        where = "keys/context.json" if file is None else file
        advice = "`xtrace init` creates one, and `xtrace context restore` fetches one from the server"
        yield Finding("context", "error", f"{where} does not exist", advice)
        return
    part = read_public_part(file)
    primes = "" if part.key_len is None else f"primes of {part.key_len} bits, "
    about = f"{file}: {part.scheme}, {part.embed_len} bits, {primes}protected by {part.key_provider}"
    yield Finding("context", "ok", about)
    if part.has_recovery_key:
        yield Finding("recovery_key", "ok", "a recovery key opens the context too")
    else:
        advice = f"make one with: xtrace context recovery-key {file}"
        yield Finding("recovery_key", "warning", "if the passphrase is lost, the data is lost", advice)
    yield from _opened(file, part, passphrase_file, settings)


def saved(connection: Connection, file: Path) -> Iterator[Finding]:
    """Checks whether the context can be restored from the server. Raises what the calls raise."""
    from xtrace_sdk.x_vec.contexts.execution_context import read_public_part

    context_id = read_public_part(file).id
    if context_id is None:
        return
    integration = connection.integration(("org_id", "api_key"))
    yield run_with(integration, lambda xtrace: _saved(xtrace, context_id, file))


async def _saved(xtrace: "XTraceIntegration", context_id: str, file: Path) -> Finding:
    if context_id in await xtrace.list_exec_contexts(restorable=True):
        try:
            kbs = await xtrace.get_kbs_for_ctx(context_id)
        except ContextNotFound:
            kbs = []
        return Finding("copy_of_context", "ok", f"it can be restored from the server; in {len(kbs)} knowledge bases")
    advice = f"keep a copy of {file} elsewhere, or store it there with: xtrace context save {file}"
    return Finding("copy_of_context", "warning", "the server cannot restore the context", advice)


def _opened(file: Path, part: "PublicPart", passphrase_file: Path | None, settings: Settings) -> Iterator[Finding]:
    from xtrace_cli.options.key_providers import named_provider
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.keys.provider import AnyKeyProvider, PassphraseKeyProvider

    provider: AnyKeyProvider
    if part.key_provider == PassphraseKeyProvider.kind:
        passphrase = known_passphrase(passphrase_file, part.id)
        if passphrase is None:
            advice = "set XTRACE_PASSPHRASE, or give --passphrase-file, to look further"
            yield Finding("passphrase", "warning", "it is not available here, so the context was not opened", advice)
            return
        if len(passphrase) < _SHORTEST_GOOD:
            found = f"it is shorter than {_SHORTEST_GOOD} characters"
            yield Finding("passphrase", "warning", found, f"choose a longer one: xtrace context rewrap {file}")
        provider = PassphraseKeyProvider(passphrase)
    else:
        key_file, kms_key = settings.path("key_file"), settings.text("kms_key")
        if key_file is None and kms_key is None:
            advice = "set XTRACE_KEY_FILE or XTRACE_KMS_KEY to look further"
            yield Finding("key", "warning", f"the {part.key_provider} is not available here", advice)
            return
        provider = named_provider(None, key_file, kms_key, None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            context = ExecutionContext.load_from_disk(path=file, key_provider=provider)
        except XTraceError as error:
            yield Finding("key", "error", str(error), "use the passphrase or key with which the context was saved")
            return
    for warning in said:
        yield Finding(
            "key", "error", str(warning.message), "until then, others may be able to read everything stored under it"
        )
    if not said:
        yield Finding("key", "ok", "it opens the context, and is not weak")
    yield from _model(context)


def _model(context: "ExecutionContext") -> Iterator[Finding]:
    from xtrace_sdk.x_vec.inference.embedding import embedding_for

    model = context.embedding_model
    if model is None:
        advice = "name its folder with XTRACE_EMBEDDING_MODEL_PATH"
        yield Finding("model", "warning", "the context does not name a model", advice)
        return
    began = time.perf_counter()
    try:
        asyncio.run(embedding_for(model).bin_embed(_SAMPLE))
    except XTraceError as error:
        yield Finding("model", "error", f"{_named(model)}: {error}", "install or start what the model needs")
    else:
        yield Finding("model", "ok", f"{_named(model)} embeds; the first text took {time.perf_counter() - began:.1f} s")


def _named(model: "EmbeddingModel") -> str:
    return f"{model.provider}/{model.model_name}, {model.dim} dimensions"
