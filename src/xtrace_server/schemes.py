"""The schemes of one server: the built-in ones, and test schemes that the setting `insecure_schemes` names."""

import importlib
import logging
from collections.abc import Sequence
from typing import Final

from xtrace_core.schemes.interface import EvaluationFactory
from xtrace_core.schemes.registry import SchemeRegistry

INSECURE_PREFIX: Final = "Insecure"
"""The prefix of every such scheme's type, so that its contexts cannot be mistaken for encrypted ones."""

_log = logging.getLogger("xtrace")


class SchemeUnusable(Exception):
    """A scheme that the setting names cannot be loaded; the message says why."""


def load_schemes(names: Sequence[str]) -> SchemeRegistry:
    """Returns the registry of a server. Raises `SchemeUnusable`.

    Each name is `module:object`; the object maps scheme types to `EvaluationFactory`s.
    """
    loaded: dict[str, EvaluationFactory] = {}
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            loaded |= getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise SchemeUnusable(f"insecure_schemes names {name!r}, which cannot be loaded: {error}") from None
    for type_ in loaded:
        if not type_.startswith(INSECURE_PREFIX):
            raise SchemeUnusable(f"insecure_schemes loads the type {type_!r}, expected {INSECURE_PREFIX}…")
    if loaded:
        types = ", ".join(loaded)
        _log.critical("INSECURE: this server accepts contexts without encryption (%s). For tests only.", types)
    return SchemeRegistry(loaded)
