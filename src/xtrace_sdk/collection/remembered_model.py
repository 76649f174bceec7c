"""The model that a collection remembers if its context does not: vectors of different models cannot be compared."""

import json
from dataclasses import replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from xtrace_sdk.errors import OtherModel
from xtrace_sdk.x_vec.inference.model import EmbeddingModel


def remembered(model: EmbeddingModel) -> str:
    """The model as the collection stores it (docs/formats.md, "Records").

    Of a model in a folder, the folder's name: the same model is elsewhere on other machines.
    """
    for path in (PurePosixPath(model.model_name), PureWindowsPath(model.model_name)):
        if path.is_absolute() and path.name:
            model = replace(model, model_name=path.name)
    return model.as_text()


def check_remembered(kept: Any, model: EmbeddingModel) -> None:
    """Raises `OtherModel` if the collection remembers a different model. `kept` is what it stores; None for none."""
    if isinstance(kept, str) and kept != remembered(model):
        raise OtherModel(
            f"the embedding is {model}, but the collection was created with {_described(kept)}: use that model, or "
            "another collection or namespace"
        )


def _described(kept: str) -> str:
    try:
        provider, name, dim, *_ = json.loads(kept)
    except (TypeError, ValueError):
        return "another one"
    return f"{provider}/{name} with {dim} dimensions"
