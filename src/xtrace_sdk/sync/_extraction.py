"""Made by `scripts/sync-twins` from `xtrace_sdk.x_mem.extraction`: change that, and run the script."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class LanguageModel(Protocol):
    """What a memory needs of a language model; `InferenceClient` is one."""

    def complete(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The model's answer to the messages."""
        ...
