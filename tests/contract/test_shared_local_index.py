"""Sharing a local index: other clients fetch it instead of all contents, and find the same."""

import asyncio
import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace

from support.collecting import Model, toy_context, vector_of
from support.watched import Watched
from xtrace_sdk import Collection, PassphraseKeyProvider, Retriever
from xtrace_sdk.errors import (
    ChangedSinceSearch,
    InvalidArgument,
    PermissionDenied,
    ServerUnreachable,
    ServiceRolledBack,
    SharedIndexOutdated,
)
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.notices import SharedIndexRejected
from xtrace_sdk.x_vec.local.local_index import LocalIndex
from xtrace_sdk.x_vec.local.manifest import Manifest
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DATABASES = ("sqlite",)  # the client decides all of it; the calls themselves are in test_shared_indexes.py
TEXTS = {f"r{number}": f"Invoice {4000 + number} for consulting" for number in range(40)}
KIND = "local-index"
MODULES = "xtrace_sdk.x_vec.local."
Opened = Callable[..., Collection]


class Altered(Watched):
    """The network, with the bodies of segments altered on the way if asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.alter: Callable[[bytes], bytes] | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await super().handle_async_request(request)
        if self.alter is None or request.method != "GET" or "/local/segment/" not in request.url.path:
            return answer
        body = self.alter(await answer.aread())
        return httpx2.Response(200, headers={"content-type": answer.headers["content-type"]}, content=body)


@pytest.fixture
def network() -> Altered:
    return Altered()


@pytest.fixture
async def xtrace(credentials: Credentials, network: Altered) -> Any:
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url, transport=network
    ) as integration:
        yield integration


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    return toy_context()


@pytest.fixture
async def filled(context: ExecutionContext, xtrace: XTraceIntegration) -> Collection:
    """A collection without an index."""
    opened = await Collection.open(xtrace, context, "letters", embedding=Model())
    await opened.upsert({"id": one, "text": text, "metadata": {"n": i}} for i, (one, text) in enumerate(TEXTS.items()))
    return opened


@pytest.fixture
def client(filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, tmp_path: Path) -> Opened:
    """Opens the collection on a machine of that name."""

    def opened(machine: str, kind: Any = "codes", *, keys: Any = context, by: Any = xtrace, **more: Any) -> Collection:
        folder = tmp_path / machine
        return Collection(by, keys, filled.kb_id, embedding=Model(), local_index=kind, local_folder=folder, **more)

    return opened


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes of several segments."""
    monkeypatch.setattr(MODULES + "index_file.MAX_SEGMENT_BYTES", 300)
    monkeypatch.setattr(MODULES + "synchronising.MAX_MERGED_BYTES", 300)


async def answers(collection: Collection) -> list[list[tuple[str, float]]]:
    asked: list[Any] = ["invoice 4017", vector_of("a"), vector_of("b"), "4033"]
    return [[(hit.record.id, hit.similarity) for hit in await collection.search(one, 7, mode="local")] for one in asked]


def traffic(network: Watched) -> list[str]:
    """The calls that were made, without their arguments."""
    return [path.partition("?")[0].rpartition("/")[0] for path, _ in network.taken()]


def index_of(collection: Collection) -> LocalIndex:
    assert collection._local is not None
    return collection._local.index


# Adopting


async def test_a_shared_index_is_fetched_instead_of_all_contents(client: Opened, network: Altered) -> None:
    first = client("first")
    shared = await first.share_local_index()
    assert (shared.chunks, shared.segments) == (41, 1)  # one is the collection's own
    assert 0 < shared.sent < 41 * 400
    network.taken()
    adopter = client("second")
    await index_of(adopter).synchronised()
    assert traffic(network) == ["GET local/index", "POST local/changes", "GET local/segment", "POST local/changes"]
    assert await answers(adopter) == await answers(first)
    report = await adopter.verify_local_index(fetch=None)
    assert (report.chunks, report.contents, report.is_good) == (41, 41, True)
    again = await first.share_local_index()
    assert (again.chunks, again.segments, again.sent) == (41, 0, 0)


async def test_an_adopter_learns_what_changed_since(client: Opened, filled: Collection, network: Altered) -> None:
    await client("first").share_local_index()
    await filled.delete(["r3", "r4"])
    await filled.update("r5", text="Changed.")
    await filled.upsert([{"id": "new", "text": "A new text."}])
    network.taken()
    adopter = client("second")
    hits = await adopter.search(vector_of("Changed."), 100, mode="local")
    assert {hit.record.id for hit in hits} == (set(TEXTS) | {"new"}) - {"r3", "r4"}
    assert hits[0].record.text == "Changed."
    (fetch, *_) = [path for path, _ in network.taken() if path.startswith("GET chunk")]
    assert fetch.count("chunk_ids=") == 2
    shared = await adopter.share_local_index()
    assert (shared.chunks, shared.segments) == (40, 1)  # the large one is there
    assert await answers(client("third")) == await answers(adopter)


async def test_an_adopter_asks_the_same_whatever_the_question(client: Opened, network: Altered) -> None:
    await client("first").share_local_index()
    seen = []
    for machine, question in (("second", "invoice 4017"), ("third", "something else")):
        network.taken()
        await client(machine).search(question, 1, mode="local", where={"n": {"$gte": 3}})
        seen.append([one for one in network.taken() if not one[0].startswith("GET chunk")])
    assert seen[0] == seen[1]


@pytest.mark.usefixtures("small_segments")
async def test_what_arrived_before_an_interruption_is_kept(client: Opened, network: Altered) -> None:
    first = client("first")
    shared = await first.share_local_index()
    assert shared.segments > 9

    def cut(body: bytes) -> bytes:
        network.is_cut = traffic_of_segments(network) >= 5
        return body

    network.taken()
    network.alter = cut
    with pytest.raises(ServerUnreachable):
        await client("second").search("a")
    network.alter, network.is_cut = None, False
    arrived = traffic_of_segments(network)
    network.taken()
    assert await answers(client("second")) == await answers(first)
    assert traffic_of_segments(network) <= shared.segments - arrived + 4


async def test_an_index_that_was_only_begun_with_a_shared_one_is_not_up_to_date(
    client: Opened, filled: Collection, network: Altered, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client("first").share_local_index()
    await filled.upsert([{"id": "new", "text": "new"}])

    async def cut(*_: Any) -> bool:
        raise ServerUnreachable("cut")

    with monkeypatch.context() as patched:
        patched.setattr(MODULES + "synchronising.Synchroniser._follow", cut)
        with pytest.raises(ServerUnreachable):
            await client("second").search("a")
    assert "GET local/segment" in traffic(network)
    assert len(await client("second").search("new", 50, max_staleness=math.inf, mode="local")) == 41
    await client("second").share_local_index()
    await client("third").search("a")
    network.taken()
    await client("third").search("a", max_staleness=math.inf, mode="local")
    assert "POST local/changes" not in traffic(network)


def traffic_of_segments(network: Watched) -> int:
    return sum(path.startswith("GET local/segment") for path, _ in network.requests)


async def test_an_index_that_keeps_contents_is_built_from_them(client: Opened, network: Altered) -> None:
    await client("first").share_local_index()
    for kind in ("replica", "auto"):
        network.taken()
        await index_of(client(kind, kind)).synchronised()
        assert traffic(network) == ["GET local/index", "POST local/changes", "GET chunk"]


async def test_an_index_that_is_far_behind_goes_on_from_the_shared_one(
    client: Opened, filled: Collection, network: Altered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULES + "synchronising.CHUNKS_AT_ONCE", 5)
    monkeypatch.setattr(MODULES + "synchronising.FAR_BEHIND", 10)
    behind, first = client("behind"), client("first")
    await behind.search(vector_of("a"))
    await filled.upsert({"id": one, "text": text + " again"} for one, text in TEXTS.items())
    await first.share_local_index()
    network.taken()
    await index_of(behind).synchronised()
    assert traffic(network).count("GET chunk") == 2
    assert await answers(behind) == await answers(first)


async def test_a_retriever_has_a_shared_index_of_its_own(
    client: Opened,
    filled: Collection,
    context: ExecutionContext,
    xtrace: XTraceIntegration,
    network: Altered,
    tmp_path: Path,
) -> None:
    await client("first").share_local_index()
    one, two = (
        Retriever(context, xtrace, local_index="codes", local_folder=tmp_path / name) for name in ("one", "two")
    )
    shared = await one.share_local_index(filled.kb_id)
    assert (shared.chunks, shared.segments) == (41, 1)
    network.taken()
    assert (await two.share_local_index(filled.kb_id)).sent == 0
    assert "GET chunk" not in traffic(network)
    with pytest.raises(InvalidArgument, match="no local index is kept to share"):
        await Retriever(context, xtrace).share_local_index(filled.kb_id)
    with pytest.raises(InvalidArgument, match="no local index is kept to share"):
        await filled.share_local_index()


# Faults and attacks


async def put(xtrace: XTraceIntegration, kb_id: str, context_id: str, manifest: bytes, segments: list[bytes]) -> None:
    """Stores anything as the shared index, as a client without the key can."""
    there = await xtrace.shared_index(kb_id, context_id, KIND)
    names = [await xtrace.add_index_segment(kb_id, context_id, KIND, one) for one in segments]
    await xtrace.put_shared_index(kb_id, context_id, KIND, there.version, manifest, names)


async def test_an_index_that_was_not_made_with_the_key_is_not_used(
    client: Opened, filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, network: Altered
) -> None:
    first = client("first")
    await first.share_local_index()
    expected, kb_id = await answers(first), filled.kb_id
    there = await xtrace.shared_index(kb_id, context.id, KIND)
    segments = [await xtrace.get_index_segment(kb_id, context.id, KIND, one.sha256) for one in there.segments]
    other = await Collection.open(xtrace, context, "another", embedding=Model())
    await other.upsert([{"id": "a", "text": "a"}])
    elsewhere = LocalIndex(xtrace, context, other.kb_id, kind="codes", folder=index_of(first).folder)
    foreign = Manifest.of((await elsewhere.synchronised()).state).sealed(elsewhere._opened())
    changed = there.manifest[:-1] + bytes([there.manifest[-1] ^ 1])
    for number, manifest in enumerate((b"", changed, foreign, segments[0][: len(there.manifest)])):
        await put(xtrace, kb_id, context.id, manifest, segments)
        network.taken()
        with pytest.warns(SharedIndexRejected, match="was not made with the key"):
            assert await answers(client(f"after {number}")) == expected
        assert traffic(network).count("GET local/index") == 1
    # Sharing again puts it right.
    with pytest.warns(SharedIndexRejected):
        assert (await first.share_local_index()).segments == 0
    assert await answers(client("last")) == expected


@pytest.mark.parametrize(
    "alter",
    [
        lambda body: body[:-1] + bytes([body[-1] ^ 1]),
        lambda body: body[:-1],
        lambda body: bytes(len(body)),
    ],
)
async def test_a_segment_that_is_not_the_one_of_the_manifest_is_not_used(
    client: Opened, network: Altered, alter: Callable[[bytes], bytes]
) -> None:
    first = client("first")
    await first.share_local_index()
    network.alter = alter
    network.taken()
    with pytest.warns(SharedIndexRejected, match="a segment is damaged"):
        assert await answers(client("second")) == await answers(first)
    assert traffic_of_segments(network) == 1


async def test_segments_that_the_service_lacks_are_done_without(
    client: Opened, filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, network: Altered
) -> None:
    first = client("first")
    await first.share_local_index()
    there = await xtrace.shared_index(filled.kb_id, context.id, KIND)
    await put(xtrace, filled.kb_id, context.id, there.manifest, [])
    network.taken()
    with pytest.warns(SharedIndexRejected, match="lacks segments of it"):
        assert await answers(client("second")) == await answers(first)
    assert traffic_of_segments(network) <= 3


async def test_an_index_from_the_future_says_that_the_service_went_back(
    client: Opened, filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    index = index_of(client("first"))
    state = (await index.synchronised()).state
    ahead = replace(state, revisions={context.id: state.revisions[context.id] + 1})
    sealed = [index._opened().sealed_segment(entry) for entry in state.segments]
    await put(xtrace, filled.kb_id, context.id, Manifest.of(ahead).sealed(index._opened()), sealed)
    for _ in range(2):
        with pytest.raises(ServiceRolledBack, match="its shared index has seen"):
            await client("second").search("a")


async def test_a_row_that_is_not_that_of_its_content_is_found_by_verifying(client: Opened) -> None:
    index = index_of(client("first"))
    state = (await index.synchronised()).state
    ((segment, _),) = index._loaded.parts
    records = list(segment.records)
    records[7], records[8] = records[8], records[7]  # someone who has the key exchanges two ids
    with index._opened().changing(state.generation):
        ((entry, _),) = index._opened().add_segments(dataclasses.replace(segment, records=records))
        index._opened().write_state(replace(state, generation=state.generation + 1, segments=[entry]))
    await index.share()
    adopter = client("second")
    assert (await adopter.verify_local_index()).is_good  # nothing is kept that could be compared
    report = await adopter.verify_local_index(fetch=None)
    assert report.wrong == tuple(segment.chunk_ids[7:9].tolist())
    assert (await adopter.verify_local_index(fetch=5)).contents == 5


# Sharing


async def test_of_two_that_share_at_once_one_goes_on_top_of_the_other(
    client: Opened, filled: Collection, xtrace: XTraceIntegration, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = client("early")
    await early.search("a")
    original, lost = type(xtrace).put_shared_index, list[bool]()

    async def after_another(self: XTraceIntegration, *arguments: Any) -> int:
        if not lost:
            lost.append(True)
            await filled.upsert([{"id": "new", "text": "new"}])
            await client("late").share_local_index()
        try:
            return await original(self, *arguments)
        except SharedIndexOutdated:
            lost.append(True)
            raise

    monkeypatch.setattr(type(xtrace), "put_shared_index", after_another)
    shared = await early.share_local_index()
    assert len(lost) == 2
    assert shared.chunks == 42  # the one of the other, which has more
    assert await answers(client("third")) == await answers(client("late"))


async def test_a_crash_between_the_segments_and_the_index_leaves_the_old_one(
    client: Opened, filled: Collection, network: Altered, xtrace: XTraceIntegration, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client("first")
    await first.share_local_index()
    await filled.upsert([{"id": "new", "text": "new"}])

    async def crash(*_: Any) -> int:
        raise ServerUnreachable("crash")

    with monkeypatch.context() as patched:
        patched.setattr(type(xtrace), "put_shared_index", crash)
        with pytest.raises(ServerUnreachable):
            await first.share_local_index()
    assert await answers(client("second")) == await answers(first)
    network.taken()
    assert (await first.share_local_index()).chunks == 42


async def test_it_stops_where_others_keep_sharing(
    client: Opened, xtrace: XTraceIntegration, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def outdated(*_: Any) -> int:
        raise SharedIndexOutdated("another", status=409, code="shared_index_outdated")

    monkeypatch.setattr(type(xtrace), "put_shared_index", outdated)
    with pytest.raises(ChangedSinceSearch, match="keep replacing the shared index"):
        await client("first").share_local_index()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index is shared by itself after 20 chunks."""
    monkeypatch.setattr(MODULES + "local_index.WORTH_SHARING", 20)


@pytest.mark.usefixtures("soon")
async def test_a_large_index_is_shared_by_itself(client: Opened, filled: Collection, network: Altered) -> None:
    kept_back = client("kept back", local_sharing=False)
    await kept_back.search("a")
    assert "PUT local/index" not in traffic(network)
    first = client("first")
    await first.search("a")
    assert traffic(network).count("PUT local/index") == 1
    await filled.upsert([{"id": "new", "text": "new"}])
    await first.search("a")
    assert "PUT local/index" not in traffic(network)  # one chunk is not worth it
    await filled.upsert({"id": f"more {number}", "text": f"more {number}"} for number in range(19))
    await first.search("a")
    assert traffic(network).count("PUT local/index") == 1
    another = client("another", "replica")  # it reads all contents, which are shared already
    await another.search("a")
    assert "POST local/segment" not in traffic(network)
    assert len(await first.search("more", 100, mode="local")) == 60


@pytest.mark.usefixtures("soon")
async def test_who_may_not_write_does_not_share(
    client: Opened, filled: Collection, xtrace: XTraceIntegration, credentials: Credentials, network: Altered
) -> None:
    made = await xtrace.create_api_key("reader")
    await xtrace.set_key_permission(made.api_key.hash, filled.kb_id, 1)
    async with XTraceIntegration(
        credentials.org_id, made.secret_key, api_url=credentials.api_url, transport=network
    ) as reading:
        reader = client("reader", by=reading)
        network.taken()
        for _ in range(3):
            assert len(await reader.search("a", 50, mode="local")) == 40
        sent = traffic(network)
        assert sent.count("GET local/index") == 2  # once to begin with, once to share
        assert sent.count("POST local/segment") == 1  # and not again
        with pytest.raises(PermissionDenied):
            await reader.share_local_index()


async def test_a_rotation_begins_another_shared_index(
    client: Opened, filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, network: Altered
) -> None:
    await client("first").share_local_index()
    provider = PassphraseKeyProvider("another passphrase", insecure_log2_n=1)
    new = context.successor(provider, "paillier_lookup", 256, insecure_allow_weak_parameters=True)
    await new.save_to_remote(xtrace)
    moving = client("first", keys=new)
    await moving.upsert([{"id": "new", "text": "new"}])
    assert (await moving.share_local_index()).chunks == 42
    assert (await xtrace.shared_index(filled.kb_id, context.id, KIND)).version == 0
    adopter = client("second", keys=new)
    assert await answers(adopter) == await answers(moving)
    await rotate(new, xtrace, [filled.kb_id])
    assert await answers(adopter) == await answers(client("third", keys=new))


async def test_processes_that_adopt_at_once_agree(client: Opened) -> None:
    await client("first").share_local_index()
    found = await asyncio.gather(*(answers(client("second")) for _ in range(4)))
    assert all(one == other for one, other in pairwise(found))
