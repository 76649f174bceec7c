"""How recalled facts are ranked."""

from collections.abc import Iterable
from datetime import datetime

from xtrace_sdk.x_mem.facts import Fact, Recalled

_DAY_S = 86_400


def ranked(
    found: Iterable[tuple[Fact, float]], moment: datetime, half_life_days: float | None, importance_weight: float
) -> list[Recalled]:
    """The facts by their scores, the highest first; equal ones in the given order."""
    scored = [
        Recalled(fact, similarity * _weight(fact, moment, half_life_days, importance_weight), similarity)
        for fact, similarity in found
    ]
    return sorted(scored, key=lambda one: -one.score)


def _weight(fact: Fact, moment: datetime, half_life_days: float | None, importance_weight: float) -> float:
    weight = 1 + importance_weight * (fact.importance - 0.5)
    if half_life_days is not None:
        age_days = max(0.0, (moment - fact.valid_from).total_seconds() / _DAY_S)
        weight *= 0.5 + 0.5 * 2.0 ** (-age_days / half_life_days)
    return weight
