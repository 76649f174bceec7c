"""`xtrace ask`: a language model's answer from search results, with checked citations."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xtrace_cli.commands.search import Count, Found, MinSimilarity, Rescore, Wanted, Where, find, note_timing, timing_of
from xtrace_cli.options.connection import CredentialsFile
from xtrace_cli.options.language_model import (
    BaseUrl,
    MaxTokens,
    Model,
    ModelOptions,
    PromptTemplate,
    Provider,
    language_model,
    template_of,
)
from xtrace_cli.options.passphrase import PassphraseFile
from xtrace_cli.options.question import Question, question_of
from xtrace_cli.options.settings import current_settings
from xtrace_cli.output import Json, note, printable, say, show
from xtrace_cli.workspace import ContextFile, Given, KnowledgeBaseName, Workspace, with_workspace

if TYPE_CHECKING:
    from xtrace_cli.answers.citations import Citations
    from xtrace_sdk.collection.record import Hit
    from xtrace_sdk.x_vec.inference.llm import InferenceClient
    from xtrace_sdk.x_vec.retrievers.planning import SearchPlan


def ask(
    question: Question,
    kb: KnowledgeBaseName = None,
    count: Count = 6,
    where: Where = None,
    min_similarity: MinSimilarity = None,
    rescore: Rescore = 4,
    model: Model = None,
    provider: Provider = None,
    base_url: BaseUrl = None,
    prompt_template: PromptTemplate = None,
    max_tokens: MaxTokens = 2048,
    show_prompt: Annotated[
        bool, typer.Option("--show-prompt", help="Print what would be sent to the model, without sending it.")
    ] = False,
    timing: Annotated[
        bool, typer.Option("--timing", help="Print where vectors were compared, and how long each stage took.")
    ] = False,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Ask a language model to answer from search results, with numbered citations.

    The model receives the question and the passages in plaintext: the command first says where it sends them.
    Citations of sources that do not exist are marked. An answer can be wrong, and documents can mislead a model: read
    the sources (docs/answers.md). The API key is read from OPENAI_API_KEY or INFERENCE_API_KEY.
    """
    wanted = Wanted(question_of(question), kb, count, where, min_similarity, rescore)
    given = Given(credentials, context, passphrase_file)
    started = time.perf_counter()
    if show_prompt:
        template = template_of(prompt_template)
        found = with_workspace(given, lambda workspace: find(workspace, wanted, started))
        _show_prompt(wanted.question, found.hits, template, as_json)
        return
    options = ModelOptions(model, provider, base_url, prompt_template, max_tokens)
    client = language_model(options, current_settings())

    async def act(workspace: Workspace) -> "_Answer | None":
        found = await find(workspace, wanted, started)
        try:
            return await _answered(client, wanted.question, found, as_json) if found.hits else None
        finally:
            await client.aclose()

    answer = with_workspace(given, act)
    if answer is None:
        note("no results, so nothing was sent to the model")
        show({"answer": None, "sources": [], "unknown_citations": []}, as_json, lambda: None)
        return
    _show_sources(answer, as_json, timing)


@dataclass(slots=True)
class _Answer:
    text: str
    hits: "list[Hit]"
    citations: "Citations"
    mode: str
    """Where vectors were compared."""
    seconds: dict[str, float]
    plan: "SearchPlan | None"


async def _answered(client: "InferenceClient", question: str, found: Found, as_json: bool) -> _Answer:
    """Returns the answer; prints it as it streams, unless JSON was requested."""
    from xtrace_cli.answers.citations import Citations, numbered_sources

    citations, parts = Citations(len(found.hits)), list[str]()
    began = time.perf_counter()
    first = 0.0

    def take(part: str) -> None:
        parts.append(part)
        if not as_json:
            typer.echo("\n".join(printable(line.replace("\t", "    ")) for line in part.split("\n")), nl=False)

    try:
        async for part in client.stream(question, numbered_sources(found.hits)):
            first = first or time.perf_counter() - began
            take(citations.feed(part))
        take(citations.end())
    finally:
        if parts and not as_json:
            typer.echo()  # also after half an answer: the error message starts on a new line
    times = {"first words": first, "answer": time.perf_counter() - began}
    return _Answer("".join(parts), found.hits, citations, found.mode, {**found.seconds, **times}, found.plan)


def _show_sources(answer: _Answer, as_json: bool, timing: bool) -> None:
    from xtrace_cli.answers.hits import as_objects, reference_of

    known, unknown = answer.citations.known, sorted(answer.citations.unknown)
    sources: list[dict[str, Any]] = [
        {"number": number, "cited": number in known, **one}
        for number, one in enumerate(as_objects(answer.hits), start=1)
    ]
    result: dict[str, Any] = {"answer": answer.text, "sources": sources, "unknown_citations": unknown}
    if timing:
        result |= timing_of(answer.mode, answer.seconds, answer.plan)

    def plain() -> None:
        say("\nSources:" if known else "\nThe answer cites none of the passages that were sent:")
        for number, hit in enumerate(answer.hits, start=1):
            if number in known or not known:
                say(f"[{number}] {printable(reference_of(hit.record))} ({hit.similarity:.2f})")

    show(result, as_json, plain)
    if unknown:
        note(
            f"the answer cites {', '.join(map(str, unknown))}, but no such source exists: do not rely on those "
            f"statements"
        )
    if timing and not as_json:
        note_timing(answer.mode, answer.seconds, answer.plan)


def _show_prompt(question: str, hits: "list[Hit]", template: str | None, as_json: bool) -> None:
    from xtrace_cli.answers.citations import numbered_sources
    from xtrace_sdk.x_vec.inference.llm import InferenceClient

    messages = InferenceClient("ollama", "none", prompt_template=template).messages(question, numbered_sources(hits))
    show(messages, as_json, lambda: say("\n\n".join(f"--- {one['role']}\n{one['content']}" for one in messages)))
