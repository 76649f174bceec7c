"""The process that reads files: it is bounded, has no secret, and what kills it costs one file."""

import os
from pathlib import Path

import pytest

from xtrace_cli.documents.formats import Format, format_of
from xtrace_cli.documents.reading_process import ReadingProcess
from xtrace_cli.documents.reading_worker import End, Part, Request
from xtrace_cli.documents.records import Chunk
from xtrace_cli.documents.splitting import Splitting


async def read(process: ReadingProcess, path: Path, form: Format | None = None) -> tuple[list[Chunk], End]:
    form = form or format_of(path)
    assert form is not None
    chunks: list[Chunk] = []
    async for answer in process.read(Request(os.fsencode(path), form, 1 << 25, Splitting())):
        if isinstance(answer, Part):
            chunks += answer.chunks
        else:
            return chunks, answer
    raise AssertionError("no end came")


async def test_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Soup\nHot.")
    (tmp_path / "b.json").write_text("{")
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_text("x\n\n" * 20_000)
    async with ReadingProcess() as process:
        chunks, end = await read(process, tmp_path / "a.md")
        assert ([one.text for one in chunks], end.fault) == (["# Soup\nHot."], "")
        assert len(end.content_digest) == 64
        assert "not valid JSON" in (await read(process, tmp_path / "b.json"))[1].fault
        assert "No such file" in (await read(process, tmp_path / "nowhere.md"))[1].fault
        chunks, end = await read(process, tmp_path / name)
        assert sum(one.text.count("x") for one in chunks) == 20_000
        assert (end.fault, end.modified) == ("", (tmp_path / name).stat().st_mtime)


def add_readers(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Readers that a hostile file might turn the process's own into; it imports them when it starts."""
    (folder / "hostile.py").write_text(source)
    sitecustomize = "import sys, hostile\nsys.modules['xtrace_cli.documents.readers.hostile'] = hostile\n"
    (folder / "sitecustomize.py").write_text(sitecustomize)
    monkeypatch.setenv("PYTHONPATH", str(folder))


async def test_what_takes_too_long_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_readers(tmp_path, monkeypatch, "def endless(source):\n    while True:\n        pass\n    yield\n")
    (tmp_path / "a.md").write_text("Hot.")
    async with ReadingProcess(seconds=3) as process:
        _, end = await read(process, tmp_path / "a.md", Format("x", "hostile.endless"))
        assert end.fault == "reading it takes longer than 3 s"
        assert [one.text for one in (await read(process, tmp_path / "a.md"))[0]] == ["Hot."]


async def test_memory_is_bounded_and_the_death_of_the_process_costs_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_readers(
        tmp_path,
        monkeypatch,
        "import os\n"
        "def hungry(source):\n    yield bytearray(3 << 30)\n"
        "def dead(source):\n    os._exit(1)\n    yield\n"
        "def curious(source):\n"
        "    from xtrace_cli.documents.sections import Section\n    yield Section(' '.join(sorted(os.environ)))\n",
    )
    monkeypatch.setenv("XTRACE_PASSPHRASE", "correct horse")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (tmp_path / "a.md").write_text("Hot.")
    async with ReadingProcess() as process:
        for reader, fault in (("hungry", "too much memory"), ("dead", "died of it")):
            _, end = await read(process, tmp_path / "a.md", Format("x", f"hostile.{reader}"))
            assert fault in end.fault
            assert (await read(process, tmp_path / "a.md"))[1].fault == ""
        chunks, _ = await read(process, tmp_path / "a.md", Format("x", "hostile.curious"))
        assert "PATH" in chunks[0].text
        assert "XTRACE" not in chunks[0].text
        assert "SECRET" not in chunks[0].text


async def test_nothing_of_the_loaded_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("json.py", "msgspec.py", "xtrace_cli.py", "markdown_it.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')\n")
    (tmp_path / "a.md").write_text("Hot.")
    async with ReadingProcess() as process:
        assert (await read(process, tmp_path / "a.md"))[1].fault == ""
    assert not (tmp_path / "was-run").exists()
