"""Finds knowledge bases by name or id."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from xtrace_cli.errors import UnknownKnowledgeBase
from xtrace_cli.options.small_files import nearest
from xtrace_core import wire

if TYPE_CHECKING:
    from xtrace_sdk.service.integration import XTraceIntegration

KnowledgeBases = Annotated[
    list[str], typer.Argument(metavar="KB...", help="Names or ids, as `xtrace kb list` shows them.")
]


async def named_kbs(xtrace: "XTraceIntegration", names: Sequence[str]) -> list[wire.KnowledgeBase]:
    """Returns the knowledge bases with these ids or names, in order and without duplicates; needs the admin key.

    Raises `UnknownKnowledgeBase`, also for an ambiguous name: use an id then.
    """
    known = await xtrace.list_kbs()
    found = [_named(known, name) for name in names]
    return list({kb.id: kb for kb in found}.values())


def _named(known: Sequence[wire.KnowledgeBase], name: str) -> wire.KnowledgeBase:
    found = [kb for kb in known if kb.id == name] or [kb for kb in known if kb.name == name]
    if not found:
        names = [kb.name for kb in known] + [kb.id for kb in known]
        raise UnknownKnowledgeBase(f"the knowledge base {name} does not exist{nearest(name, names)}")
    if len(found) > 1:
        ids = ", ".join(kb.id for kb in found)
        raise UnknownKnowledgeBase(f"{len(found)} knowledge bases are called {name}: name one by its id ({ids})")
    return found[0]
