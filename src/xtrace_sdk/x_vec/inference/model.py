"""Which model vectors are from: vectors of one model mean nothing to another."""

import json
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from xtrace_sdk.errors import InvalidArgument, OtherModel


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """An embedding model and how much of its vectors is used. Raises `InvalidArgument` for anything else."""

    provider: str
    model_name: str
    dim: int
    """The number of dimensions that are kept."""

    def __post_init__(self) -> None:
        texts: tuple[Any, ...] = (self.provider, self.model_name)
        if not all(isinstance(text, str) and text for text in texts) or type(self.dim) is not int or self.dim < 1:
            raise InvalidArgument("an embedding model has a provider, a name, and at least one dimension")

    def __str__(self) -> str:
        return f"{self.provider}/{self.model_name} with {self.dim} dimensions"

    def as_text(self) -> str:
        """The model as one JSON text, for the names of chunks (docs/formats.md, "Names")."""
        return json.dumps([self.provider, self.model_name, self.dim], separators=(",", ":"))


@runtime_checkable
class HasModel(Protocol):
    """An embedder that says which model it is; `Embedding` does."""

    @property
    def model(self) -> EmbeddingModel:
        """The model that its vectors are from."""
        ...


def model_of(embedding: Any) -> EmbeddingModel | None:
    """The model that an embedder says it is, or a model itself; None for vectors and embedders that do not say."""
    if isinstance(embedding, EmbeddingModel):
        return embedding
    named = getattr(embedding, "model", None)
    return named if isinstance(named, EmbeddingModel) else None


def agreed_model(remembered: EmbeddingModel | None, embedding: Any) -> EmbeddingModel | None:
    """The model that vectors of this embedding are from, as far as it is known.

    Raises `OtherModel` if the context remembers another one.
    """
    given = model_of(embedding)
    if None not in (remembered, given) and given != remembered:
        raise OtherModel(
            f"the embedding is {given}, but the context was created for {remembered}: use that one "
            "(embedding=None does), or create another context"
        )
    return given or remembered
