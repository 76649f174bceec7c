"""The summary of a load; the JSON of `xtrace load --json` has these fields."""

from typing import Final

import msgspec

MAX_NAMES: Final = 10
"""The number of names kept for files that were skipped for the same reason."""


class FileCounts(msgspec.Struct):
    found: int = 0
    """Files of a known format."""
    new: int = 0
    changed: int = 0
    known: int = 0
    """Files whose stored state is up to date."""
    removed: int = 0


class ChunkCounts(msgspec.Struct):
    stored: int = 0
    known: int = 0
    """Chunks that were already stored."""
    removed: int = 0


class PassedOver(msgspec.Struct):
    reason: str
    count: int = 0
    names: list[str] = []
    """The names of the first ones."""


class Summary(msgspec.Struct):
    """Everything that is reported at the end."""

    kb_id: str = ""
    dry_run: bool = False
    files: FileCounts = msgspec.field(default_factory=FileCounts)
    chunks: ChunkCounts = msgspec.field(default_factory=ChunkCounts)
    passed_over: list[PassedOver] = []
    notes: list[PassedOver] = []
    """Loaded files, with notes on how they were read."""
    seconds: float = 0

    def pass_over(self, name: str, reason: str) -> None:
        """Counts a skipped file or folder."""
        _add(self.passed_over, name, reason)

    def note(self, name: str, text: str) -> None:
        """Adds a note on a loaded file."""
        _add(self.notes, name, text)


def _add(kept: list[PassedOver], name: str, reason: str) -> None:
    found = next((one for one in kept if one.reason == reason), None)
    if found is None:
        found = PassedOver(reason)
        kept.append(found)
    found.count += 1
    if len(found.names) < MAX_NAMES:
        found.names.append(name)
