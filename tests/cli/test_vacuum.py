"""`xtrace vacuum` beside a server that runs."""

import re

from support.service import Http, LiveService, chunk
from support.terminal import Terminal

CHUNKS, CHARACTERS = 50, 100_000


def test_deleted_chunks_give_their_space_back(operator: Terminal, http: Http, live_service: LiveService) -> None:
    operator("vacuum")
    kb_id = http.new_kb()
    http.save_context()
    kept, *deleted = http.insert(kb_id, [chunk(i, chunk_content="x" * CHARACTERS) for i in range(1, CHUNKS + 1)])
    http.data("DELETE", "/chunk/{org}", params={"kb_id": kb_id, "chunk_ids": deleted})

    vacuumed = operator("vacuum")
    printed = re.fullmatch(r"(\d+) bytes released, (\d+) in use", vacuumed.text)
    assert printed
    assert int(printed[1]) > (CHUNKS - 1) * CHARACTERS
    assert int(printed[2]) == (live_service.folder / "xtrace.db").stat().st_size
    assert vacuumed.err == ""
    assert http.get(kb_id, kept)[0]["chunk_content"] == "x" * CHARACTERS

    again = operator("vacuum --json").json
    assert again["bytes_given_back"] < CHARACTERS
    assert again == {"bytes_given_back": again["bytes_given_back"], "bytes_now": again["bytes_now"], "complete": True}
    assert http.insert(kb_id, [chunk()]) == [CHUNKS + 1]
