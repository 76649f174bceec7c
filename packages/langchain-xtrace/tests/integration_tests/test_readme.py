"""The examples for LangChain and LangGraph run, and print what they say."""

from pathlib import Path

from docs.examples import ROOT, examples
from support.frameworks import printed

README = Path(__file__).parents[2] / "README.md"


def test_the_example_of_the_readme_answers(reader_folder: Path) -> None:
    assert printed(examples(README)["readme"], reader_folder) == "The cat is asleep on the warm radiator.\n"


def test_the_examples_of_the_page_run_one_after_the_other(reader_folder: Path) -> None:
    page = examples(ROOT / "docs" / "integrations.md")
    assert "The March invoice is still unpaid." in printed(
        page["connect"] + page["langchain"] + page["langgraph"], reader_folder
    )
