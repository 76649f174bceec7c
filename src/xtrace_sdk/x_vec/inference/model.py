"""The identity of an embedding model: vectors of different models cannot be compared."""

import json
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from xtrace_sdk.arguments import shown
from xtrace_sdk.errors import InvalidArgument, OtherModel
from xtrace_sdk.limits import MAX_DIMENSIONS
from xtrace_sdk.x_vec.chunks.superbit import MAX_BITS, PROJECTION
from xtrace_sdk.x_vec.chunks.vectors import VectorForm


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """An embedding model, and which part of its vectors is used. Raises `InvalidArgument` for invalid values."""

    provider: str
    model_name: str
    dim: int
    """The number of dimensions used."""
    bits: int | None = None
    """How many bits `superbit-1` computes from them; None for their signs."""
    query_prompt: str = ""
    """The prompt before a query."""
    passage_prompt: str = ""
    """The prompt before a passage."""

    def __post_init__(self) -> None:
        texts: tuple[Any, ...] = (self.provider, self.model_name)
        if not all(isinstance(text, str) and text for text in texts) or type(self.dim) is not int or self.dim < 1:
            raise InvalidArgument("an embedding model has a provider, a name, and at least one dimension")
        prompts: tuple[Any, ...] = (self.query_prompt, self.passage_prompt)
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise InvalidArgument("a prompt of an embedding model is not a string; use an empty string for none")
        if self.bits is not None and not (type(self.bits) is int and 1 <= self.bits <= MAX_BITS):
            raise InvalidArgument(f"bits is {shown(self.bits)}, expected 1 to {MAX_BITS}, or None to use the signs")
        if self.bits is not None and self.dim > MAX_DIMENSIONS:
            raise InvalidArgument(
                f"dim is {self.dim}, but bits can be computed from at most {MAX_DIMENSIONS} dimensions"
            )

    def __str__(self) -> str:
        bits = "" if self.bits is None else f" and {self.bits} bits ({self.projection})"
        prompts = "".join(
            f", {name} prompt {prompt!r}"
            for name, prompt in (("query", self.query_prompt), ("passage", self.passage_prompt))
            if prompt
        )
        return f"{self.provider}/{self.model_name} with {self.dim} dimensions{bits}{prompts}"

    @property
    def embed_len(self) -> int:
        """The number of bits of a vector: the embedding length of a context for this model."""
        return self.dim if self.bits is None else self.bits

    @property
    def projection(self) -> str | None:
        """How bits are computed from the dimensions: `superbit-1`, or None for their signs."""
        return None if self.bits is None else PROJECTION

    def as_object(self) -> dict[str, Any]:
        """The model as contexts store it (docs/formats.md, "Execution context")."""
        optional = {
            "bits": self.bits,
            "projection": self.projection,
            "query_prompt": self.query_prompt,
            "passage_prompt": self.passage_prompt,
        }
        named: dict[str, Any] = {"provider": self.provider, "model_name": self.model_name, "dim": self.dim}
        return named | {name: value for name, value in optional.items() if value}

    def as_text(self) -> str:
        """Everything that affects vectors of passages as one JSON text, for names of chunks (docs/formats.md,
        "Names")."""
        parts: list[Any] = [self.provider, self.model_name, self.dim]
        if self.bits is not None:
            parts += [self.bits, self.projection]
        if self.passage_prompt:
            parts.append({"passage_prompt": self.passage_prompt})
        return json.dumps(parts, separators=(",", ":"))


@runtime_checkable
class HasModel(Protocol):
    """An embedder that names its model, as `Embedding` does."""

    @property
    def model(self) -> EmbeddingModel:
        """The model of its vectors."""
        ...


def model_of(embedding: Any) -> EmbeddingModel | None:
    """Returns an embedder's model, or the given model; None for vectors and for embedders that do not name one."""
    if isinstance(embedding, EmbeddingModel):
        return embedding
    named = getattr(embedding, "model", None)
    return named if isinstance(named, EmbeddingModel) else None


def agreed_model(remembered: EmbeddingModel | None, embedding: Any) -> EmbeddingModel | None:
    """Returns the model of this embedding's vectors, if known.

    Raises `OtherModel` if the context has a different one.
    """
    given = model_of(embedding)
    if None not in (remembered, given) and given != remembered:
        raise OtherModel(
            f"the embedding is {given}, but the context was created for {remembered}: use that model (or "
            "embedding=None), or create another context"
        )
    return given or remembered


def vector_form(embed_len: int, model: EmbeddingModel | None) -> VectorForm:
    """The form of this model's vectors, in a context with this embedding length.

    Raises `OtherModel` if the model's `bits` differ from the length of the context's vectors.
    """
    if model is None or model.bits is None:
        return VectorForm(embed_len)
    if model.bits != embed_len:
        raise OtherModel(
            f"the embedding is {model}, but the context's vectors have {embed_len} bits: use Embedding(…, "
            f"bits={embed_len}), or create a context with embedding="
        )
    return VectorForm(embed_len, model.dim)
