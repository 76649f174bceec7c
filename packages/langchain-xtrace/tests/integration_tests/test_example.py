"""The example in examples/ that uses LangChain answers with citations; the language model is a local server."""

import importlib.util
import io
import sys
from pathlib import Path

import pytest

from docs.examples import ROOT
from support.language_model import language_model

PROGRAM = ROOT / "examples" / "private_chat_langchain" / "chat.py"


def test_the_private_chat_answers_with_citations(
    reader_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (reader_folder / "notes").mkdir()
    (reader_folder / "notes" / "lease.md").write_text("# Lease\n\nThe rent is due on the third of each month.\n")
    (reader_folder / "notes" / "cat.txt").write_text("The cat is asleep on the warm radiator.\n")
    monkeypatch.chdir(reader_folder)
    monkeypatch.setattr(sys, "argv", ["chat.py", "notes"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("Which animal is napping?\n"))
    spec = importlib.util.spec_from_file_location("example_private_chat", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    chat = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(chat)
    with language_model() as model:
        for name, value in (
            ("XTRACE_PASSPHRASE", "correct horse battery staple"),
            ("XTRACE_LLM_MODEL", "by-rules"),
            ("XTRACE_LLM_BASE_URL", model.url),
        ):
            monkeypatch.setenv(name, value)
        chat.main()
    assert capsys.readouterr().out.splitlines() == [
        "3 passages are stored. Ask, or press Ctrl-D.",
        "It says: The cat is asleep on the warm radiator. [1]",
        "[1] cat.txt, paragraph 1",
    ]
