"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.chunks.vectors`: change that, and run the script."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Embedder(Protocol):
    """What loading and searching texts needs of an embedding model; `Embedding` is one."""

    def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        """Binary vectors `(n, bits)` of the texts."""
        ...


@runtime_checkable
class FloatEmbedder(Protocol):
    """What rescoring needs of it besides."""

    def embed_many(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Float vectors `(n, dim)` of the texts."""
        ...

    def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        """Binary vectors `(n, bits)` of the texts."""
        ...
