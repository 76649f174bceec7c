"""Changes to a `.env`: what else is in it stays as it is."""

from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from xtrace_cli.errors import WrongUse
from xtrace_cli.setup.dotenv_file import different, write_settings
from xtrace_sdk.errors import InaccessibleFile


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("XTRACE_KB=notes\n", "XTRACE_KB=new\n"),
        ("A=1\r\nexport XTRACE_KB='notes' # mine\r\nB=2\r\n", "A=1\r\nexport XTRACE_KB=new # mine\r\nB=2\r\n"),
        ("\n# a\n\n  XTRACE_KB = notes\n# b", "\n# a\n\n  XTRACE_KB=new\n# b"),
        ("XTRACE_KB=one\nA=1\nXTRACE_KB=two\n", "XTRACE_KB=new\nA=1\n"),
        ('XTRACE_KB="new" # as it is\n', 'XTRACE_KB="new" # as it is\n'),
        ("this is no assignment(\nXTRACE_KB=\n", "this is no assignment(\nXTRACE_KB=new\n"),
    ],
)
def test_a_variable_is_changed_where_it_stands(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / ".env"
    path.write_bytes(before.encode())
    write_settings(path, {"XTRACE_KB": "new"})
    assert path.read_bytes().decode() == after
    assert different(path, {"XTRACE_KB": "new"}) == []
    assert path.stat().st_mode & 0o777 == 0o600


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1).filter(str.isprintable))
def test_every_value_is_read_back(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    path = tmp_path_factory.getbasetemp() / "values.env"
    path.unlink(missing_ok=True)
    write_settings(path, {"XTRACE_KB": value, "XTRACE_CONTEXT": "x"})
    assert dotenv_values(path, interpolate=False) == {"XTRACE_KB": value, "XTRACE_CONTEXT": "x"}
    assert different(path, {"XTRACE_KB": value}) == []


def test_a_value_that_no_line_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="line break"):
        write_settings(tmp_path / ".env", {"XTRACE_KB": "two\nlines"})
    assert not (tmp_path / ".env").exists()


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    with pytest.raises(InaccessibleFile):
        write_settings(tmp_path / ".env", {"XTRACE_KB": "notes"})
