"""Chooses what computes searches, by the settings."""

from importlib.util import find_spec

from xtrace_server.search.bodies import BodyHolder
from xtrace_server.search.interface import Scanner
from xtrace_server.search.local.bodies import LocalBodies
from xtrace_server.search.local.scanner import LocalScanner
from xtrace_server.settings import Settings


class EngineUnusable(Exception):
    """The engine that the settings name is not installed."""


def check_engine(settings: Settings) -> None:
    """Raises `EngineUnusable` if the engine is not installed."""
    if settings.engine == "ray" and find_spec("ray") is None:
        raise EngineUnusable("the engine ray needs Ray: pip install 'xtracedb[ray]'")


def scanner_of(settings: Settings) -> Scanner:
    """Returns the scanner, not yet started."""
    if settings.engine == "ray":
        from xtrace_server.search.ray.scanner import RayScanner

        return RayScanner(settings)
    return LocalScanner(settings.search_threads)


def body_holder_of(settings: Settings, scanner: Scanner) -> BodyHolder:
    """Returns what holds the bodies of blocks and computes with them: as `scanner`, which `scanner_of` returned."""
    local = LocalBodies(settings.data / "blocks", settings.block_files_bytes, settings.search_threads)
    if settings.engine == "ray":
        from xtrace_server.search.ray.bodies import RayBodies
        from xtrace_server.search.ray.scanner import RayScanner

        if isinstance(scanner, RayScanner):
            return RayBodies(scanner, local)
    return local
