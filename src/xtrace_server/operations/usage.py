"""An organisation's usage in the last 24 hours."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from xtrace_server.auth.guard import Actor
from xtrace_server.figures import HOUR_S, this_hour
from xtrace_server.state import ServerState
from xtrace_server.storage import usage_hours
from xtrace_server.storage.schema import FIGURES, LATENCIES, LATENCY_BOUNDS_MS
from xtrace_server.storage.usage_hours import ErrorCount

HOURS = 24


@dataclass(frozen=True, slots=True)
class Hour:
    """The figures of one hour, or of several together."""

    label: str
    """The start of the hour, such as `09:00`, in UTC."""
    counts: dict[str, int]

    def latency_ms(self, share: float) -> float | None:
        """Returns the time in milliseconds within which this share of searches was answered; None without searches."""
        found = [self.counts[name] for name in LATENCIES]
        left = sum(found) * share
        if not left:
            return None
        bounds = (0, *LATENCY_BOUNDS_MS, LATENCY_BOUNDS_MS[-1])
        for i, count in enumerate(found):
            if count and left <= count:
                return bounds[i] + (bounds[i + 1] - bounds[i]) * left / count
            left -= count
        return float(LATENCY_BOUNDS_MS[-1])


@dataclass(frozen=True, slots=True)
class Usage:
    """The last 24 hours: each hour, oldest first, their sum, and errors by code."""

    hours: list[Hour]
    total: Hour
    errors: list[ErrorCount] = field(default_factory=list)


async def last_day(state: ServerState, actor: Actor) -> Usage:
    """Returns the figures of the last 24 hours; those of other server processes may be a few seconds old."""
    await state.figures.write()
    first = this_hour() - HOURS + 1
    async with state.database.read(actor.organisation_id) as connection:
        found = await usage_hours.since(connection, actor.organisation_id, first)
        errors = await usage_hours.errors_since(connection, actor.organisation_id, first)
    names = (*FIGURES, *LATENCIES)
    empty = dict.fromkeys(names, 0)
    hours = [Hour(_label(hour), found.get(hour, empty)) for hour in range(first, first + HOURS)]
    total = {name: sum(one.counts[name] for one in hours) for name in names}
    return Usage(hours, Hour("", total), errors)


def _label(hour: int) -> str:
    return datetime.fromtimestamp(hour * HOUR_S, UTC).strftime("%H:%M")
