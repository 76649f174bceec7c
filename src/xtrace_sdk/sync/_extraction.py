"""Made by `scripts/sync-twins` from `xtrace_sdk.x_mem.extraction`: change that, and run the script."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class LanguageModel(Protocol):
    """The interface of a language model for memories; `InferenceClient` implements it."""

    def complete(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Returns the model's answer to the messages."""
        ...
