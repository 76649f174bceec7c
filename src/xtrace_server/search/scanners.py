"""Chooses the scanner that the settings name."""

from importlib.util import find_spec

from xtrace_server.search.interface import Scanner
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
