"""The overview: what the organisation has and uses, what needs attention, and how the server does."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from xtrace_core import wire
from xtrace_server.auth.guard import SIGNED_IN, requires
from xtrace_server.dashboard import charts, words
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.dashboard.forms import caller_of
from xtrace_server.dashboard.rendering import page, signed_in_page
from xtrace_server.http.requests import state_of
from xtrace_server.operations import api_keys, exposure, health, organisations, overview, usage
from xtrace_server.operations.exposure import Strength

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_SOON: Final = timedelta(days=7)
_NEARLY: Final = 0.9
_MOST_KEYS: Final = 3


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that needs attention, with a link; `kind` is `bad` or `caution`."""

    kind: str
    what: str
    why: str
    href: str
    link: str


@router.get("/")
@requires(SIGNED_IN)
async def show(request: Request) -> Response:
    """The overview."""
    return await signed_in_page(request, "overview.html", **await _figures(request))


@router.get("/overview/live")
@requires(SIGNED_IN)
async def live(request: Request) -> Response:
    """The part of the overview that refreshes itself."""
    return page(request, "overview-live.html", **await _figures(request))


async def _figures(request: Request) -> dict[str, Any]:
    state, actor = state_of(request), caller_of(request).actor
    await state.guard.request_counts.write()
    shown = await organisations.get_own(state, actor)
    used = await usage.last_day(state, actor)
    median_ms = [hour.latency_ms(0.5) for hour in used.hours]
    slow_ms = [hour.latency_ms(0.99) for hour in used.hours]
    slowest = max([value for value in slow_ms if value is not None], default=0.0)
    strength = await exposure.strength(state, actor)
    keys = await api_keys.expiring(state, actor, datetime.now(UTC) + _SOON, _MOST_KEYS)
    return {
        "shown": shown,
        "deleting": (await overview.counts(state, actor)).deleting,
        "health": await health.measure(state),
        "usage": used,
        "median_ms": median_ms,
        "slow_ms": slow_ms,
        "latency_top": charts.round_up(slowest) if slowest else 0.0,
        "attention": [*_contexts(strength), *_quotas(shown), *_keys(keys)],
    }


def _contexts(strength: Strength) -> list[Attention]:
    found = []
    if strength.weak:
        what = words.counted(strength.weak, "context is weak", "contexts are weak")
        why = "Its public part alone may be enough to read what is stored under it."
        found.append(Attention("bad", what, why, "/visible#weak", "What to do"))
    if strength.guessable:
        what = words.counted(
            strength.guessable, "context can be attacked by guessing", "contexts can be attacked by guessing"
        )
        why = "Encrypted secrets are stored here, and protected by a passphrase."
        found.append(Attention("caution", what, why, "/visible#guessing", "What to do"))
    return found


def _quotas(shown: wire.Organisation) -> list[Attention]:
    used, quotas = shown.usage, shown.quotas
    parts = (("vectors", used.chunks, quotas.chunks), ("bytes", used.bytes, quotas.bytes))
    return [
        Attention(
            "caution",
            f"{words.share(has, quota)} of the quota of {name} is used",
            "At 100 %, writes are rejected.",
            "/settings#quotas",
            "Details",
        )
        for name, has, quota in parts
        if quota is not None and has >= _NEARLY * quota
    ]


def _keys(keys: list[api_keys.ApiKey]) -> list[Attention]:
    return [
        Attention(
            "caution",
            f"API key {key.first_n} expires {words.age(key.expires_at or '')}",
            f"Its name is {words.short(key.name, 40)}.",
            f"/keys/{key.hash}",
            "Open it",
        )
        for key in keys
    ]
