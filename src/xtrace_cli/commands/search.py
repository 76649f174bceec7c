"""`xtrace search`, also available as `xtrace xvec retrieve` and `xtrace xvec query`."""

import time
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from xtrace_cli.options.connection import CredentialsFile
from xtrace_cli.options.passphrase import PassphraseFile
from xtrace_cli.options.question import Question, question_of
from xtrace_cli.output import Json, note, show
from xtrace_cli.synchronising import shown_synchronisation
from xtrace_cli.workspace import ContextFile, Given, KnowledgeBaseName, Workspace, with_workspace

if TYPE_CHECKING:
    from xtrace_sdk.collection.record import Hit
    from xtrace_sdk.x_vec.retrievers.planning import SearchPlan

Count = Annotated[int, typer.Option("-k", "--count", min=1, max=1000, help="The number of results.")]
Where = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help='Search only records that match this metadata filter, such as \'{"format": "pdf"}\' (docs/collection.md).',
    ),
]
MinSimilarity = Annotated[
    float | None, typer.Option(min=-1.0, max=1.0, help="Drop results that are less similar than this.")
]
Rescore = Annotated[
    int,
    typer.Option(
        min=1,
        max=100,
        help="Fetch this many times as many records as needed, and rank them by cosine; 1 disables this.",
    ),
]


_WAYS: Final = {"local": "in the local index", "service": "on the service"}


class Wanted(NamedTuple):
    """The question, and where to search."""

    question: str
    kb: str | None
    limit: int
    where: str | None
    min_similarity: float | None
    rescore: int


class Found(NamedTuple):
    """The results of a search."""

    hits: "list[Hit]"
    kb_id: str
    mode: str
    """Where vectors were compared."""
    seconds: dict[str, float]
    """The time of each stage."""
    plan: "SearchPlan | None"
    """How the service's answer was compared."""


def search(
    question: Question,
    kb: KnowledgeBaseName = None,
    count: Count = 5,
    where: Where = None,
    min_similarity: MinSimilarity = None,
    rescore: Rescore = 4,
    whole: Annotated[bool, typer.Option("--whole", help="Print whole texts instead of excerpts.")] = False,
    scores: Annotated[
        bool, typer.Option("--scores", help="Print similarities with three digits, and distances.")
    ] = False,
    timing: Annotated[
        bool, typer.Option("--timing", help="Print where vectors were compared, and how long each stage took.")
    ] = False,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Search a knowledge base, and print the results most similar to the question, with their sources.

    The number in parentheses is the cosine similarity, from -1 to 1. The server can read neither the question nor the
    results.
    """
    wanted = Wanted(question_of(question), kb, count, where, min_similarity, rescore)
    started = time.perf_counter()
    found = with_workspace(
        Given(credentials, context, passphrase_file), lambda workspace: find(workspace, wanted, started)
    )
    from xtrace_cli.answers.hits import as_objects, print_hits

    result: dict[str, Any] = {"kb_id": found.kb_id, "hits": as_objects(found.hits)}
    if timing:
        result |= timing_of(found.mode, found.seconds, found.plan)
    show(result, as_json, lambda: print_hits(found.hits, wanted.question, scores=scores, whole=whole))
    if not found.hits:
        note("no results")
    if timing and not as_json:
        note_timing(found.mode, found.seconds, found.plan)


def timing_of(mode: str, seconds: dict[str, float], plan: "SearchPlan | None") -> dict[str, Any]:
    """Returns what `--timing` adds to JSON: where and how vectors were compared, and the time of each stage."""
    planned = {} if plan is None else {"plan": {**plan._asdict(), "why": plan.why}}
    return {"mode": mode, **planned, "seconds": {name: round(value, 6) for name, value in seconds.items()}}


def note_timing(mode: str, seconds: dict[str, float], plan: "SearchPlan | None") -> None:
    """Prints the same: `on the service; open 0.410 s, embed 0.020 s`."""
    from xtrace_cli.answers.hits import stages_line

    ways = [_WAYS[mode], *([] if plan is None else [plan.why])]
    note(f"{'; '.join(ways)}; {stages_line(seconds)}")


async def find(workspace: Workspace, wanted: Wanted, started: float) -> Found:
    """Runs the search; `started` is the `time.perf_counter` at which the command started."""
    from xtrace_sdk.stages import measured_stages

    with measured_stages() as stages:
        collection = await workspace.collection(wanted.kb)
        opened = time.perf_counter() - started
        path = collection.local_index_path
        is_first = path is not None and not path.exists()
        with shown_synchronisation(collection):
            hits = await collection.search(
                wanted.question,
                wanted.limit,
                where=wanted.where,
                rescore=wanted.rescore,
                min_similarity=wanted.min_similarity,
            )
    if is_first and hits.mode == "local":
        note("this machine now keeps a sealed index of the knowledge base; XTRACE_LOCAL_INDEX=off keeps none")
    seconds = {"open": opened, **stages, "in all": time.perf_counter() - started}
    return Found(hits, collection.kb_id, hits.mode, seconds, hits.plan)
