"""The examples for this framework run, and print what they say."""

from pathlib import Path

from docs.examples import ROOT, examples
from support.frameworks import printed

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs_and_answers(reader_folder: Path) -> None:
    assert printed(examples(README)["readme"], reader_folder) == "The cat is asleep on the warm radiator.\n"


def test_the_example_of_the_page_runs(reader_folder: Path) -> None:
    page = examples(ROOT / "docs" / "integrations.md")
    assert printed(page["connect"] + page["llama index"], reader_folder) == ""
