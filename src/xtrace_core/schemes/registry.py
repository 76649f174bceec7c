"""The schemes by the `type` of a stored context. No other list of these names exists."""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final

from xtrace_core.schemes.interface import Evaluation, EvaluationFactory, InvalidPublicKey
from xtrace_core.schemes.lattice import lattice_evaluation
from xtrace_core.schemes.paillier import paillier_evaluation


class SchemeType(StrEnum):
    """The `type` of a stored context."""

    PAILLIER = "PaillierClient"
    PAILLIER_LOOKUP = "PaillierLookupClient"
    LATTICE = "LatticeClient"


_SCHEMES: Final[Mapping[str, EvaluationFactory]] = {
    # These two differ only in their noise, which the service does not see.
    SchemeType.PAILLIER: paillier_evaluation,
    SchemeType.PAILLIER_LOOKUP: paillier_evaluation,
    SchemeType.LATTICE: lattice_evaluation,
}
_MAX_EVALUATIONS: Final = 256


class SchemeRegistry:
    """The schemes of one server, with the evaluations of recently used contexts."""

    def __init__(self, more: Mapping[str, EvaluationFactory] | None = None) -> None:
        """`more` contains further schemes by type. Raises `ValueError` for a type that already exists."""
        taken = sorted(_SCHEMES.keys() & (more or {}))
        if taken:
            raise ValueError(f"the scheme type {taken[0]} already exists: choose another name")
        self._factories = {**_SCHEMES, **(more or {})}
        self._evaluation = lru_cache(maxsize=_MAX_EVALUATIONS)(self._made)

    def evaluation(self, type_: str, pk: str) -> Evaluation:
        """Returns the evaluation for a stored context's `type` and `pk`. Raises `InvalidPublicKey`."""
        return self._evaluation(type_, pk)

    def _made(self, type_: str, pk: str) -> Evaluation:
        if type_ not in self._factories:
            raise InvalidPublicKey(f"the type is {type_[:64]!r}, expected one of {', '.join(self._factories)}")
        return self._factories[type_](pk)
