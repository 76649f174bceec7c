"""Models on this machine."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import InvalidArgument, MissingPackage, ProviderFault, TextRefused

Floats = NDArray[np.float32]

_WORDLLAMA_MODELS: Final = ("l2_supercat", "wordllama")
_WORDLLAMA_DIM: Final = 256
_GROUP_TEXTS: Final = 64
_GROUP_CHARACTERS: Final = 64 * 1024
"""A group is one array of (texts, tokens of the longest, 256) floats: at most 64 MB for ordinary text."""


class _LoadedOnce:
    """A model that the first thread to need it loads, while others wait."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._model: Any = None

    def get(self) -> Any:
        with self._lock:
            if self._model is None:
                self._model = self._load()
            return self._model


class WordLlamaProvider:
    """The static model in the wheel of the package `wordllama`. Nothing is downloaded."""

    def __init__(self, model_name: str, batch_size: int) -> None:
        if model_name not in _WORDLLAMA_MODELS:
            raise InvalidArgument(
                f"the model of wordllama is {model_name!r}, expected l2_supercat, the only one in its package"
            )
        self._batch_size = batch_size
        self._model = _LoadedOnce(_load_wordllama)

    async def vectors(self, texts: Sequence[str]) -> Floats:
        """Returns `(n, 256)` float32; zeros for a text without tokens."""
        return await _in_batches(self._embed, texts, self._batch_size)

    async def aclose(self) -> None:
        """There is nothing to let go of."""

    def _embed(self, texts: Sequence[str]) -> Floats:
        model = self._model.get()
        vectors = np.empty((len(texts), _WORDLLAMA_DIM), dtype=np.float32)
        for group in _groups(texts):
            vectors[group] = model.embed([texts[i] for i in group], batch_size=len(group))
        return vectors


class SentenceTransformerProvider:
    """Any model of sentence-transformers, by name or from a local folder."""

    def __init__(self, model_name: str, batch_size: int) -> None:
        self._batch_size = batch_size
        self._model = _LoadedOnce(lambda: _load_sentence_transformer(model_name))
        # Fast tokenizers cannot be used by two threads at once ("Already borrowed").
        self._one_at_a_time = threading.Lock()

    async def vectors(self, texts: Sequence[str]) -> Floats:
        """Returns `(n, dimensions of the model)` float32."""
        return await _in_batches(self._embed, texts, self._batch_size)

    async def aclose(self) -> None:
        """There is nothing to let go of."""

    def _embed(self, texts: Sequence[str]) -> Floats:
        model = self._model.get()
        with self._one_at_a_time:
            _check_lengths(model, texts)
            # An empty prompt keeps the model from adding its own, because `Embedding` has already added the right one.
            vectors = model.encode(list(texts), prompt="", convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


async def _in_batches(embed: Callable[[Sequence[str]], Floats], texts: Sequence[str], size: int) -> Floats:
    """Embeds batches one after the other, each in a thread: a cancelled call stops at the next batch."""
    parts = [await asyncio.to_thread(embed, texts[start : start + size]) for start in range(0, len(texts), size)]
    return np.concatenate(parts)


def _groups(texts: Sequence[str]) -> Iterator[list[int]]:
    """Returns the positions of the texts in groups of similar length, because each text is padded to the longest."""
    group: list[int] = []
    for i in sorted(range(len(texts)), key=lambda i: len(texts[i])):
        if group and (len(group) == _GROUP_TEXTS or (len(group) + 1) * len(texts[i]) > _GROUP_CHARACTERS):
            yield group
            group = []
        group.append(i)
    yield group


def _check_lengths(model: Any, texts: Sequence[str]) -> None:
    """Raises `TextRefused` for a text with more tokens than the model accepts, which it would silently truncate."""
    most, tokenizer = model.max_seq_length, model.tokenizer
    if most is None or not callable(tokenizer):  # static models accept any length
        return
    # Without `verbose=False`, it also logs the error raised here.
    tokens = tokenizer(list(texts), truncation=False, padding=False, verbose=False)["input_ids"]
    for text, own in zip(texts, tokens, strict=True):
        if len(own) > most:
            raise TextRefused(
                f"a text of {len(text)} characters has {len(own)} tokens, but the model takes at most {most}: split it",
                chunk_len=len(text),
            )


def _load_wordllama() -> Any:
    with _root_logging_kept():
        try:
            import wordllama
        except ImportError as error:
            raise MissingPackage(
                f"the embedding provider wordllama needs the package wordllama ({error}): pip install wordllama"
            ) from None
        folder = Path(wordllama.__file__).parent
        try:
            return wordllama.WordLlama.load(dim=_WORDLLAMA_DIM, cache_dir=folder, disable_download=True)
        except (OSError, ValueError) as error:
            raise ProviderFault(f"the model of the package wordllama cannot be loaded: {_first_line(error)}") from None


def _load_sentence_transformer(model_name: str) -> Any:
    with _root_logging_kept():
        try:
            import sentence_transformers
        except ImportError as error:
            raise MissingPackage(
                "the embedding provider sentence_transformer needs the package sentence-transformers "
                f'({_first_line(error)}): pip install "xtracedb[embedding]"'
            ) from None
        try:
            return sentence_transformers.SentenceTransformer(model_name)
        except (OSError, ValueError, RuntimeError) as error:
            raise ProviderFault(
                f"the sentence-transformers model {model_name!r} cannot be loaded ({_first_line(error)}): "
                "use the name of a model that can be downloaded, or a folder that contains one"
            ) from None


@contextmanager
def _root_logging_kept() -> Iterator[None]:
    # wordllama configures the root logger on import, which is up to the application. A temporary handler that does
    # nothing prevents this, even while other threads log: `basicConfig` does nothing if a handler exists.
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.addHandler(logging.NullHandler())
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
