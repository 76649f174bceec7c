"""`python -m benchmarks.memory`: how often a memory recalls the fact that holds, against a server of its own.

Generated: for each user facts about themselves, later ones that contradict some of them, and other users' facts as
distractors in the same collection. Each fact is asked for in other words. `--page` writes the table to docs/memory.md.
"""

import argparse
import asyncio
import random
import secrets
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from benchmarks.harness import machine
from xtrace_cli.server_process import server_process
from xtrace_sdk import Collection, Embedding, ExecutionContext, PassphraseKeyProvider, XTraceIntegration
from xtrace_sdk.x_mem import FILTERABLE, Memory

PAGE: Final = Path(__file__).parents[1] / "docs" / "memory.md"
_BEGIN: Final = "<!-- made by: python -m benchmarks.memory --page -->\n"
_END: Final = "<!-- end -->"
KS: Final = (1, 3, 8)
_START: Final = datetime(2025, 1, 1, tzinfo=UTC)

# What is said, how it is asked, and what it can be.
SUBJECTS: Final = {
    "home": ("{name} lives in {}.", "In which city is {name}'s flat?", ("Bern", "Porto", "Oslo", "Graz", "Lyon")),
    "job": (
        "{name} works as a {}.",
        "What does {name} do for a living?",
        ("nurse", "pilot", "baker", "judge", "tailor"),
    ),
    "diet": (
        "{name} never eats {}.",
        "What must not be cooked for {name}?",
        ("fish", "nuts", "eggs", "pork"),
    ),
    "pet": (
        "{name} has a {} called Milo.",
        "Which animal does {name} keep?",
        ("dog", "cat", "parrot", "pony"),
    ),
    "sport": ("{name} goes {} on Sundays.", "How does {name} keep fit?", ("running", "rowing", "boxing", "climbing")),
    "music": ("{name} plays the {}.", "Which instrument does {name} practise?", ("cello", "drums", "flute", "piano")),
    "car": ("{name} drives a {} van.", "What colour is {name}'s vehicle?", ("red", "green", "white", "yellow")),
    "drink": (
        "{name} starts the day with {}.",
        "What does {name} have at breakfast?",
        ("coffee", "cocoa", "tea"),
    ),
    "school": ("{name} studied {} at university.", "What is {name}'s degree in?", ("law", "physics", "history")),
    "travel": ("{name} spends every summer in {}.", "Where does {name} go on holiday?", ("Greece", "Iceland", "Wales")),
    "phone": ("{name} can be called at extension {}.", "How can {name} be reached?", ("411", "527", "638", "749")),
    "team": ("{name} belongs to the {} team.", "Which colleagues does {name} work with?", ("sales", "legal", "design")),
}
NAMES: Final = ("Anna", "Boris", "Clara", "Dmitri", "Elena", "Farid", "Greta", "Hugo", "Ines", "Jonas")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--users", type=int, default=40)
    parser.add_argument("--page", action="store_true", help="write the table into docs/memory.md")
    given = parser.parse_args()
    text = asyncio.run(_measured(given.users))
    print(text)
    if given.page:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
        PAGE.write_text(f"{before}{_BEGIN}{text}{_END}{rest.partition(_END)[2]}", encoding="utf-8")


async def _measured(users: int) -> str:
    embed = Embedding("wordllama", "l2_supercat", 256, bits=512)
    provider = PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1)
    context = ExecutionContext.create(provider, "paillier_lookup", embedding=embed)
    with tempfile.TemporaryDirectory() as folder, server_process(Path(folder)) as (credentials, _):
        async with XTraceIntegration(
            credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
        ) as xtrace:
            memory = Memory(await Collection.open(xtrace, context, "memory", embedding=embed, filterable=FILTERABLE))
            return await _asked(memory, users)


async def _asked(memory: Memory, users: int) -> str:
    dice = random.Random(7)
    holds: dict[tuple[str, str], list[str]] = {}
    facts = 0
    for number in range(users):
        name = f"{NAMES[number % len(NAMES)]} {number}"
        mine = memory.scope(user=name)
        for subject, (said, _, values) in SUBJECTS.items():
            texts = [said.format(value, name=name) for value in dice.sample(values, 2 if dice.random() < 0.5 else 1)]
            for day, text in enumerate(texts):
                await mine.remember(text, key=subject, at=_START + timedelta(days=day))
            holds[name, subject] = texts
            facts += len(texts)
    rows = []
    for where in ("the user's scope", "everything"):
        found, stale, seconds = [0] * len(KS), 0, 0.0
        for (name, subject), texts in holds.items():
            asked = memory.scope(user=name) if where != "everything" else memory
            began = time.perf_counter()
            recalled = [one.fact.text for one in await asked.recall(SUBJECTS[subject][1].format(name=name), KS[-1])]
            seconds += time.perf_counter() - began
            stale += any(text in recalled for text in texts[:-1])
            for i, k in enumerate(KS):
                found[i] += texts[-1] in recalled[:k]
        shares = " | ".join(f"{100 * one / len(holds):.0f} %" for one in found)
        rows.append(f"| {where} | {shares} | {stale} | {1000 * seconds / len(holds):.0f} ms |")
    heads = " | ".join(f"among the first {k}" for k in KS)
    return (
        f"{users} users, {facts} facts, of which {facts - len(holds)} were superseded, {len(holds)} questions; model "
        f"wordllama, 512 bits.\n\n| recalled from | {heads} | superseded facts recalled | time |\n"
        f"|---|{'---:|' * (len(KS) + 2)}\n" + "\n".join(rows) + f"\n\n{machine()}\n"
    )


if __name__ == "__main__":
    main()
