"""Agent memory: facts about users, agents and sessions, encrypted like all records, with the times they held.

    memory = Memory(collection)
    anna = memory.scope(user="anna")
    await anna.remember("Anna lives in Bern.", key="home")
    await anna.remember("Anna moved to Zurich.", key="home")
    (found,) = await anna.recall("Where does Anna live?", k=1)

It needs no language model. With one, it extracts facts from conversations and merges facts that say the same.
"""

from xtrace_sdk.x_mem.facts import FILTERABLE, Change, Fact, Recalled
from xtrace_sdk.x_mem.memory import Memory

__all__ = ["FILTERABLE", "Change", "Fact", "Memory", "Recalled"]
