"""Chooses the language model, and decides whether a file of the working folder may choose it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from xtrace_cli.errors import NotConfirmed, UntrustedFolder, WrongUse
from xtrace_cli.options.settings import VARIABLES, Setting, Settings, Source
from xtrace_cli.output import is_watched, note, wants
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.inference.llm import InferenceClient

MAX_TEMPLATE_BYTES: Final = 1 << 20

Model = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="The language model; by default XTRACE_LLM_MODEL.")
]
Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="The provider: ollama, openai, or custom for another service with OpenAI's API; by default "
        "XTRACE_LLM_PROVIDER, else custom if an address is given and ollama otherwise.",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="Its address, up to /chat/completions; by default XTRACE_LLM_BASE_URL, else the provider's own.",
    ),
]
PromptTemplate = Annotated[
    Path | None,
    typer.Option(
        "--prompt-template",
        metavar="FILE",
        help="A file with the prompt for the model, with the placeholders {query} and {context}.",
    ),
]
MaxTokens = Annotated[int, typer.Option(min=1, max=1_000_000, help="The maximum length of the answer, in tokens.")]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The options of a command; None leaves it to the settings."""

    model: str | None
    provider: str | None
    base_url: str | None
    prompt_template: Path | None
    max_tokens: int


def language_model(options: ModelOptions, settings: Settings) -> "InferenceClient":
    """Returns the client of the model. Before the first question, it prints what leaves the machine, and for where.

    Raises `WrongUse` if no model is configured, `UntrustedFolder` or `NotConfirmed` if a file of the working folder
    would send texts to another machine, and `InvalidArgument`.
    """
    from xtrace_sdk.x_vec.inference.llm import InferenceClient

    flags = Source("the command's options", Path.cwd())
    known = {
        name: Setting(f"llm_{name}", value, flags) if value else settings.get(f"llm_{name}")
        for name, value in (
            ("model", options.model),
            ("provider", options.provider),
            ("base_url", options.base_url),
        )
    }
    model, provider, address = known["model"], known["provider"], known["base_url"]
    if model is None:
        raise WrongUse(
            "no language model is configured: set XTRACE_LLM_MODEL (and XTRACE_LLM_PROVIDER to ollama, openai or "
            "custom, with XTRACE_LLM_BASE_URL), or give --model; without one, `xtrace search` finds the passages"
        )
    usual = "ollama" if address is None else "custom"
    client = InferenceClient(
        usual if provider is None else provider.value,
        model.value,
        base_url=None if address is None else address.value,
        prompt_template=template_of(options.prompt_template),
        max_tokens=options.max_tokens,
        on_disclosure=note,
    )
    for way in (address, provider):
        if way is not None and way.source.is_of_folder and not client.is_local:
            _ask(way, client.disclosure)
    return client


def template_of(file: Path | None) -> str | None:
    """Returns the text of the file. Raises `InaccessibleFile` and `InvalidArgument`."""
    if file is None:
        return None
    try:
        with file.open("rb") as source:
            data = source.read(MAX_TEMPLATE_BYTES + 1)
        if len(data) > MAX_TEMPLATE_BYTES:
            raise InvalidArgument(f"{file} has more than {MAX_TEMPLATE_BYTES >> 20} MiB, expected a prompt template")
        return data.decode()
    except OSError as error:
        raise InaccessibleFile(f"the prompt template cannot be read from {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidArgument(f"the prompt template in {file} is not valid UTF-8") from None


def _ask(way: Setting, disclosure: str) -> None:
    variable = VARIABLES[way.name][0]
    if not is_watched():
        raise UntrustedFolder(
            f"{way.source.label} in this folder names the language model, and {disclosure}; so nothing was sent: set "
            f"{variable} in the environment to allow it"
        )
    if not wants(f"{way.source.label} in this folder names the language model, and {disclosure}. Ask it?"):
        raise NotConfirmed("not confirmed, so nothing was sent")
