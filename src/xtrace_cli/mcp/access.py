"""What the tools may use: the knowledge bases and folders that were named at the start."""

import asyncio
from collections.abc import Sequence
from typing import Final

from xtrace_cli.errors import UnknownKnowledgeBase
from xtrace_cli.mcp.files import AllowedFolders
from xtrace_cli.workspace import Workspace
from xtrace_core.secrecy import Secretive
from xtrace_sdk.collection.collection import Collection
from xtrace_sdk.errors import InvalidArgument


class Access(Secretive):
    """What one server gives an agent; an agent cannot name anything else."""

    def __init__(
        self, workspace: Workspace, names: Sequence[str], folders: AllowedFolders, *, max_bytes: int, can_write: bool
    ) -> None:
        """`names` are knowledge bases as `--kb` gives them, the default first; `max_bytes` limits one file."""
        self.names: Final = tuple(dict.fromkeys(workspace.kb_name(name) for name in names or ("",)))
        self.folders: Final = folders
        self.max_bytes: Final = max_bytes
        self.can_write: Final = can_write
        self.loads: Final = asyncio.Lock()
        """Held while files are loaded, so that the second of two loads sees what the first has stored."""
        self._workspace = workspace
        self._opening = asyncio.Lock()
        self._collections: dict[str, Collection] = {}

    def name(self, given: str = "") -> str:
        """Returns the knowledge base that an argument names, by default the first. Raises `InvalidArgument`."""
        name = given or self.names[0]
        if name not in self.names:
            raise InvalidArgument(f"this server does not serve that knowledge base, expected: {', '.join(self.names)}")
        return name

    async def collection(self, given: str = "", *, create: bool = False) -> Collection:
        """Returns the collection of a knowledge base, looked up once; `create` creates it if there is an admin key.

        Raises `InvalidArgument`, `UnknownKnowledgeBase`, and what the calls raise.
        """
        name = self.name(given)
        async with self._opening:  # so that calls at the same time do not create it twice
            if name not in self._collections:
                self._collections[name] = await self._opened(name, create)
            return self._collections[name]

    async def _opened(self, name: str, create: bool) -> Collection:
        try:
            return await self._workspace.document_collection(name, create=create)
        except UnknownKnowledgeBase:
            raise UnknownKnowledgeBase(
                f"the knowledge base {name} does not exist yet: storing something creates it if the server has an "
                "admin key, else name it with --kb by its id"
            ) from None

    def look_again(self) -> None:
        """Forgets the known knowledge bases, because one was deleted."""
        self._collections.clear()
