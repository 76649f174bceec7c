"""Which files of a folder are loaded, and why others are not."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from xtrace_cli.documents.walking import (
    HIDDEN,
    IGNORED,
    LINK,
    LINK_OUTSIDE,
    SPECIAL,
    TOO_LARGE,
    UNKNOWN,
    Found,
    Walk,
    read_file,
)


def walked(folder: Path, max_bytes: int = 1000, *, with_hidden: bool = False) -> tuple[list[str], dict[str, str]]:
    """The names of the files that are found, and the reasons of the others."""
    found = Found()
    Walk(max_bytes, with_hidden).run(folder, found)
    files = [file.path.relative_to(folder).as_posix() for file in found.files]
    return files, {path.relative_to(folder).as_posix(): reason for path, reason in found.passed_over.items()}


def write(folder: Path, *names: str, text: str = "text") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_every_known_format_below_a_folder_is_found_in_order(tmp_path: Path) -> None:
    write(tmp_path, "b.md", "a/z.txt", "a/b/c.py", "README", "picture.png", "no_suffix")
    files, passed_over = walked(tmp_path)
    assert files == ["README", "b.md", "a/z.txt", "a/b/c.py"]
    assert passed_over == {"picture.png": UNKNOWN, "no_suffix": UNKNOWN}


def test_a_file_that_is_named_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    write(tmp_path, ".env.unknown")
    found = Found()
    Walk(1000).run(tmp_path / ".env.unknown", found)
    assert [(file.path.name, file.format.name) for file in found.files] == [(".env.unknown", "txt")]


def test_hidden_files_are_passed_over_unless_wanted(tmp_path: Path) -> None:
    write(tmp_path, "a.md", ".b.md", ".git/c.md", ".d/e.md")
    assert walked(tmp_path) == (["a.md"], {".b.md": HIDDEN, ".git": HIDDEN, ".d": HIDDEN})
    assert walked(tmp_path, with_hidden=True)[0] == [".b.md", "a.md", ".d/e.md"]


def test_ignore_files_count_as_git_reads_them(tmp_path: Path) -> None:
    write(
        tmp_path, "a.md", "b.log", "keep.log", "build/c.md", "sub/build/d.md", "sub/e.txt", "sub/f.txt", "sub/x/g.log"
    )
    write(tmp_path, ".gitignore", text="*.log\n!keep.log\n/build/\n# note\n")
    write(tmp_path / "sub", ".xtraceignore", text="e.txt\n!*.log\n")
    files, passed_over = walked(tmp_path)
    assert files == ["a.md", "keep.log", "sub/f.txt", "sub/build/d.md", "sub/x/g.log"]
    assert passed_over == {"b.log": IGNORED, "build": IGNORED, "sub/e.txt": IGNORED}


def test_links_and_special_files_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "notes"
    write(folder, "a.md", "sub/b.md")
    write(tmp_path, "outside.md", "other/c.md")
    (folder / "inside.md").symlink_to("a.md")
    (folder / "up.md").symlink_to("../outside.md")
    (folder / "other").symlink_to("../other")
    (folder / "loop").symlink_to(".")
    (folder / "broken.md").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.md")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(folder)  # the name of a socket is short
        server.bind("s.md")
        files, passed_over = walked(folder)
    assert files == ["a.md", "sub/b.md"]
    assert passed_over == {
        "inside.md": LINK,
        "loop": LINK,
        "broken.md": LINK,
        "up.md": LINK_OUTSIDE,
        "other": LINK_OUTSIDE,
        "pipe.md": SPECIAL,
        "s.md": SPECIAL,
    }
    for name, reason in (("pipe.md", SPECIAL), ("inside.md", "symbolic")):
        with pytest.raises((ValueError, OSError), match=reason):
            read_file(folder / name, 1000)


def test_large_files_are_passed_over_and_reading_is_bounded(tmp_path: Path) -> None:
    write(tmp_path, "small.md")
    write(tmp_path, "large.md", text="x" * 1001)
    assert walked(tmp_path) == (["small.md"], {"large.md": TOO_LARGE})
    with pytest.raises(ValueError, match="larger"):  # it grew since it was found
        read_file(tmp_path / "large.md", 1000)


@pytest.fixture
def deep_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder deeper than Python's recursion, made and removed by steps: one path would be too long."""
    depth = 1200
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    yield tmp_path
    for _ in range(depth):
        os.chdir("..")
        Path("d").rmdir()


def test_deep_folders_are_walked(deep_folder: Path) -> None:
    found = Found()
    Walk(1000).run(deep_folder, found)
    assert found.files == []
