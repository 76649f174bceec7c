"""Shared indexes as a client of the HTTP contract stores and reads them, and a race of two."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import httpx2

from support.service import Http, b64, ok, problem

OCTETS: Final = {"content-type": "application/octet-stream"}


def name(segment: bytes) -> str:
    return sha256(segment).hexdigest()


@dataclass
class Sharing:
    """One context in one knowledge base."""

    http: Http
    kb: str
    context: str = "ctx"
    kind: str = "records"
    scope: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.scope = {"kb_id": self.kb, "context_id": self.context, "kind": self.kind}

    def upload(self, segment: bytes, **changed: Any) -> httpx2.Response:
        params = self.scope | changed
        return self.http.data("POST", "/local/segment/{org}", params=params, content=segment, headers=OCTETS)

    def fetch(self, segment: bytes | str, **changed: Any) -> httpx2.Response:
        given = segment if isinstance(segment, str) else name(segment)
        return self.http.data("GET", "/local/segment/{org}", params=self.scope | {"sha256": given} | changed)

    def describe(self, **changed: Any) -> httpx2.Response:
        return self.http.data("GET", "/local/index/{org}", params=self.scope | changed)

    def put(self, replaces: int, manifest: bytes, segments: Sequence[bytes], changed: Any = ()) -> httpx2.Response:
        body = {"replaces": replaces, "manifest": b64(manifest), "segments": [name(one) for one in segments]}
        return self.http.data("PUT", "/local/index/{org}", json={**self.scope, **body, **dict(changed)})

    def store(self, replaces: int, manifest: bytes, segments: Sequence[bytes]) -> int:
        """Uploads the segments and stores the index; returns its version."""
        for one in segments:
            ok(self.upload(one))
        return int(ok(self.put(replaces, manifest, segments))["version"])

    def remove(self) -> None:
        assert ok(self.http.data("DELETE", "/local/index/{org}", params=self.scope)) == {}

    def stored(self) -> int:
        return int(ok(self.http.control("GET", "/organisation"))["usage"]["bytes"])


def two_replace_the_same_version(writers: Sequence[Sharing], rounds: int) -> None:
    """Exactly one of two replacements wins, and what is stored then is whole."""
    version = writers[0].store(0, b"m", [b"common"])
    with ThreadPoolExecutor(len(writers)) as pool:
        for number in range(rounds):
            mine = [f"{number} of {i}".encode() for i in range(len(writers))]
            for writer, segment in zip(writers, mine, strict=True):
                ok(writer.upload(segment))
            running = [
                pool.submit(writer.put, version, segment, [b"common", segment])
                for writer, segment in zip(writers, mine, strict=True)
            ]
            answers = [one.result() for one in running]
            (won,) = [i for i, answer in enumerate(answers) if answer.status_code == 200]
            problem(answers[1 - won], 409, "shared_index_outdated")
            for writer in writers:
                found = ok(writer.describe())
                assert (found["version"], found["manifest"]) == (ok(answers[won])["version"], b64(mine[won]))
                assert [writer.fetch(one["sha256"]).content for one in found["segments"]] == [b"common", mine[won]]
            version = found["version"]
