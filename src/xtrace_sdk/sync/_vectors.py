"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.chunks.vectors`: change that, and run the script."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Embedder(Protocol):
    """The interface of an embedding model for loading and searching texts; `Embedding` implements it."""

    def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        """Returns binary vectors `(n, bits)` of the texts."""
        ...


@runtime_checkable
class FloatEmbedder(Protocol):
    """What rescoring additionally needs."""

    def embed_many(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float vectors `(n, dim)` of the texts."""
        ...

    def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        """Returns binary vectors `(n, bits)` of the texts."""
        ...
