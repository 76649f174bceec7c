"""Every Python example of the README and the documents runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.examples import ROOT, examples, run
from support.language_model import completion, language_model
from support.service import LiveService
from xtrace_core.schemes.registry import SchemeType
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_server.credentials import CREDENTIALS_FILE, Credentials, write_credentials

RUN = (
    "answers.md",
    "collection.md",
    "experts.md",
    "integrations.md",
    "keys.md",
    "local-index.md",
    "memory.md",
    "metadata.md",
    "migration.md",
    "quickstart.md",
    "scaling.md",
    "schemes.md",
    "security.md",
    "README.md",
)
"""The pages whose examples run: here, in `test_key_pages`, and in the tests of packages/."""


@pytest.fixture
def reader_folder(tmp_path: Path, credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader has it after `xtrace serve`."""
    (tmp_path / "xtrace-data").mkdir()
    write_credentials(tmp_path / "xtrace-data" / CREDENTIALS_FILE, credentials)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_the_quickstart_and_the_page_for_experts_run_from_top_to_bottom(reader_folder: Path) -> None:
    namespace: dict[str, Any] = {}
    for code in examples(ROOT / "docs" / "quickstart.md").values():
        namespace = await run(code, namespace)
    assert (reader_folder / "keys" / "context.json").exists()
    namespace["xtrace"] = XTraceIntegration(**namespace["credentials"])  # the last example of the page closes its own
    for code in examples(ROOT / "docs" / "experts.md").values():
        namespace = await run(code, namespace)
    await namespace["xtrace"].aclose()


async def test_the_page_on_collections_runs_from_top_to_bottom(reader_folder: Path) -> None:
    namespace: dict[str, Any] = {}
    for code in examples(ROOT / "docs" / "collection.md").values():
        namespace = await run(code, namespace)
    assert (reader_folder / "keys" / "collection.json").exists()


async def test_the_page_on_the_local_index_runs(reader_folder: Path) -> None:
    (code,) = examples(ROOT / "docs" / "local-index.md").values()
    await run(code, {})
    assert len(list((reader_folder / "index").glob("*.sqlite3"))) == 1


async def test_the_page_on_memory_runs_from_top_to_bottom(reader_folder: Path) -> None:
    with language_model() as running:
        running.plans = [completion('{"facts": [{"text": "Anna is allergic to peanuts.", "key": null}]}')]
        namespace: dict[str, Any] = {"model_url": running.url}
        for code in examples(ROOT / "docs" / "memory.md").values():
            namespace = await run(code, namespace)
    assert (reader_folder / "keys" / "memory.json").exists()


async def test_the_page_on_answers_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with language_model() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url.removesuffix("/v1"))
        (code,) = examples(ROOT / "docs" / "answers.md").values()
        namespace = await run(code, {})
    quoted = "The tenant gives notice three months before the end of the quarter. [1]"
    assert namespace["answer"] == f"It says: {quoted}"
    assert capsys.readouterr().out.endswith(f"is its own affair\nThe sources say: {quoted}")


async def test_the_page_on_schemes_creates_a_context_and_seals(
    reader_folder: Path, credentials: Credentials, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = examples(ROOT / "docs" / "schemes.md")
    namespace = await run(codes["lattice"], {})
    assert namespace["context"].homomorphic.type == SchemeType.LATTICE.value
    assert (reader_folder / "keys" / "context.json").exists()
    keys = credentials
    async with XTraceIntegration(keys.org_id, keys.api_key, keys.admin_key, keys.api_url) as xtrace:
        kb_id = (await xtrace.create_kb("notes")).id
        loader = DataLoader(namespace["context"], xtrace)
        await loader.load([{"chunk_content": "The cat is asleep.", "meta_data": {}}], None, kb_id)
        await run(codes["seal"], {**namespace, "xtrace": xtrace, "kb_id": kb_id})
    assert capsys.readouterr().out == "0 chunks were sealed into 0 blocks, 1 are in no block\n"


async def test_the_page_on_scaling_plans(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = examples(ROOT / "docs" / "scaling.md").values()
    await run(code, {})
    assert re.fullmatch(
        r"[1-9]\d* processors, [1-9]\d* GB of memory\n[1-9]\d* for a million searches\n", capsys.readouterr().out
    )


def test_the_readme_example_runs_as_a_script_and_answers(reader_folder: Path, live_service: LiveService) -> None:
    script = reader_folder / "example.py"
    script.write_text(examples(ROOT / "README.md")["readme"])
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "The cat is asleep on the warm radiator.\n"), done.stderr


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"], ids=lambda page: page.name
)
def test_every_python_block_of_a_page_is_a_tested_example(page: Path) -> None:
    assert page.read_text().count("```python") == len(examples(page))
    assert not examples(page) or page.name in RUN, "add a test that runs this page"


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")], ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for part in text.split("](")[1:]:
        target = part.partition(")")[0]
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_the_scripts_that_the_readme_names_are_there() -> None:
    for script in ("scripts/demo", "scripts/test", "scripts/check", ".ci/run"):
        assert shutil.which(str(ROOT / script)), script
