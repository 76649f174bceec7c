"""Charts as SVG paths of `WIDTH` by `HEIGHT`; the page scales and colours them."""

from collections.abc import Sequence
from typing import Final

WIDTH: Final = 480
HEIGHT: Final = 60
_TOP: Final = 2.0
_ALONE: Final = 10
"""The width at which a single value between gaps is drawn."""
_GAP: Final = 0.28
"""The share of a column that stays empty."""


def bars(values: Sequence[float]) -> str:
    """Returns a path with one bar for each value, scaled to the largest one."""
    most, step = max(values, default=0) or 1, WIDTH / max(len(values), 1)
    width = step * (1 - _GAP)
    return "".join(
        f"M{i * step + step * _GAP / 2:.1f} {HEIGHT}v-{(HEIGHT - _TOP) * value / most:.1f}h{width:.1f}V{HEIGHT}z"
        for i, value in enumerate(values)
    )


def line(values: Sequence[float | None], most: float) -> str:
    """Returns a path through the values, with gaps where one is missing; `most` is the top of the chart."""
    step, drawn, path = WIDTH / max(len(values) - 1, 1), False, ""
    for i, value in enumerate(values):
        if value is None:
            drawn = False
            continue
        height = HEIGHT - (HEIGHT - _TOP) * min(value / (most or 1), 1)
        alone = not drawn and (i + 1 == len(values) or values[i + 1] is None)
        at = min(max(i * step - _ALONE / 2, 0), WIDTH - _ALONE) if alone else i * step
        path += f"{'L' if drawn else 'M'}{at:.1f} {height:.1f}" + (f"h{_ALONE}" if alone else "")
        drawn = True
    return path


def round_up(value: float) -> float:
    """Returns a round number that is not smaller: 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    scale = 1.0
    while scale * 10 <= value:
        scale *= 10
    while scale > value:
        scale /= 10
    return next(scale * factor for factor in (1, 2, 2.5, 5, 10) if scale * factor >= value)
