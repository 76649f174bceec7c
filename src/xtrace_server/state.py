"""The state of a running server, created at its start."""

from dataclasses import dataclass

from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_server.auth.denials import Denials
from xtrace_server.auth.guard import Guard
from xtrace_server.auth.sessions import Sessions
from xtrace_server.figures import Figures
from xtrace_server.limits.in_flight import InFlight
from xtrace_server.limits.sign_ins import SignIns
from xtrace_server.metrics import Metrics
from xtrace_server.public_parts import Weaknesses
from xtrace_server.search.blocks import BlockSearches
from xtrace_server.search.engine import SearchEngine
from xtrace_server.settings import Settings
from xtrace_server.storage.ballast import Ballast
from xtrace_server.storage.clearing import Clearing
from xtrace_server.storage.database import Database


@dataclass(frozen=True, slots=True)
class ServerState:
    settings: Settings
    database: Database
    guard: Guard
    sessions: Sessions
    sign_ins: SignIns
    figures: Figures
    engine: SearchEngine
    blocks: BlockSearches
    denials: Denials
    ballast: Ballast
    clearing: Clearing
    in_flight: InFlight
    metrics: Metrics
    schemes: SchemeRegistry
    weaknesses: Weaknesses
