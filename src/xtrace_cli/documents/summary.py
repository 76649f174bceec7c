"""What a load did, counted; the JSON of `xtrace load --json` has these fields."""

from typing import Final

import msgspec

MAX_NAMES: Final = 10
"""Names that are kept of the files that are passed over for one reason."""


class FileCounts(msgspec.Struct):
    found: int = 0
    """Files of a known format."""
    new: int = 0
    changed: int = 0
    known: int = 0
    """Those that are stored as they are."""
    removed: int = 0


class ChunkCounts(msgspec.Struct):
    stored: int = 0
    known: int = 0
    """Those that were there already."""
    removed: int = 0


class PassedOver(msgspec.Struct):
    reason: str
    count: int = 0
    names: list[str] = []
    """The first of them."""


class Summary(msgspec.Struct):
    """All that is said at the end."""

    kb_id: str = ""
    dry_run: bool = False
    files: FileCounts = msgspec.field(default_factory=FileCounts)
    chunks: ChunkCounts = msgspec.field(default_factory=ChunkCounts)
    passed_over: list[PassedOver] = []
    notes: list[PassedOver] = []
    """Files that were loaded, and what should be known of how."""
    seconds: float = 0

    def pass_over(self, name: str, reason: str) -> None:
        """Counts a file or a folder that is passed over."""
        _add(self.passed_over, name, reason)

    def note(self, name: str, text: str) -> None:
        """Keeps what should be known of a file that was loaded."""
        _add(self.notes, name, text)


def _add(kept: list[PassedOver], name: str, reason: str) -> None:
    found = next((one for one in kept if one.reason == reason), None)
    if found is None:
        found = PassedOver(reason)
        kept.append(found)
    found.count += 1
    if len(found.names) < MAX_NAMES:
        found.names.append(name)
