"""What the tools work with: the knowledge bases that were named at the start, and the folders that were allowed."""

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
    """What one server gives an agent: nothing beyond it can be named."""

    def __init__(
        self, workspace: Workspace, names: Sequence[str], folders: AllowedFolders, *, max_bytes: int, can_write: bool
    ) -> None:
        """`names` are knowledge bases as `--kb` gives them, the default first; `max_bytes` limits one file."""
        self.names: Final = tuple(dict.fromkeys(workspace.kb_name(name) for name in names or ("",)))
        self.folders: Final = folders
        self.max_bytes: Final = max_bytes
        self.can_write: Final = can_write
        self.loads: Final = asyncio.Lock()
        """Held while files are loaded: of two loads, the second sees what the first has stored."""
        self._workspace = workspace
        self._opening = asyncio.Lock()
        self._collections: dict[str, Collection] = {}

    def name(self, given: str = "") -> str:
        """The knowledge base of an argument; by default the first. Raises `InvalidArgument` for any other."""
        name = given or self.names[0]
        if name not in self.names:
            raise InvalidArgument(f"this server does not serve that knowledge base, expected: {', '.join(self.names)}")
        return name

    async def collection(self, given: str = "", *, create: bool = False) -> Collection:
        """The collection of that knowledge base, looked up once; `create` makes it where an admin key allows that.

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
        """Forgets which knowledge bases there were: one is gone."""
        self._collections.clear()
