"""The public names: exactly these, imported when they are used, and at the places where programs look for them."""

import importlib
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import xtrace_sdk
from xtrace_sdk.distributions import other_owners

PUBLIC = {
    "AWSKMSKeyProvider",
    "Collection",
    "CopySummary",
    "DataLoader",
    "Embedding",
    "ExecutionContext",
    "Hit",
    "InferenceClient",
    "KeyFileProvider",
    "KeyProvider",
    "LoadSummary",
    "ManifestSummary",
    "MetaDataPage",
    "PassphraseKeyProvider",
    "PlaintextDisclosure",
    "PublicPart",
    "Range",
    "Record",
    "RecoveryKey",
    "Retriever",
    "Retries",
    "RotationSummary",
    "SealSummary",
    "SearchPlan",
    "SearchResult",
    "SearchResults",
    "Verification",
    "WeakKeyWarning",
    "Written",
    "XTraceError",
    "XTraceIntegration",
    "__version__",
    "copy_knowledge_base",
    "delete_bad",
    "read_public_part",
    "rotate",
    "seal_chunks",
    "verify",
    "write_manifest",
}

PLACES = {
    "xtrace_sdk.x_vec": [
        "AWSKMSKeyProvider",
        "DataLoader",
        "Embedding",
        "ExecutionContext",
        "InferenceClient",
        "KeyProvider",
        "PassphraseKeyProvider",
        "Retriever",
    ],
    "xtrace_sdk.integrations": ["XTraceIntegration"],
    "xtrace_sdk.integrations.xtrace": ["XTraceIntegration"],
    "xtrace_sdk.x_vec.utils.execution_context": ["ExecutionContext"],
    "xtrace_sdk.x_vec.crypto.key_provider": [
        "AWSKMSKeyProvider",
        "KeyFileProvider",
        "KeyProvider",
        "PassphraseKeyProvider",
    ],
    "xtrace_sdk.x_vec.data_loaders.loader": ["DataLoader"],
    "xtrace_sdk.x_vec.inference.embedding": ["Embedding"],
    "xtrace_sdk.x_vec.inference.llm": ["InferenceClient", "PlaintextDisclosure"],
    "xtrace_sdk.x_vec.retrievers.retriever": ["Retriever"],
    "xtrace_sdk.sync": [
        "DataLoader",
        "Embedding",
        "ExecutionContext",
        "InferenceClient",
        "Retriever",
        "XTraceIntegration",
    ],
}
"""Modules of which programs import names, those of the specification and of other clients among them."""


def test_the_public_names_are_these() -> None:
    assert set(xtrace_sdk.__all__) == PUBLIC
    assert len(xtrace_sdk.__all__) == len(PUBLIC)
    assert set(dir(xtrace_sdk)) >= PUBLIC


def test_every_public_name_is_there() -> None:
    for name in PUBLIC:
        assert getattr(xtrace_sdk, name) is not None
    assert xtrace_sdk.__version__ == version("xtracedb")
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = xtrace_sdk.Nothing


@pytest.mark.parametrize("place", PLACES)
def test_names_are_where_programs_import_them(place: str) -> None:
    module = importlib.import_module(place)
    for name in PLACES[place]:
        assert hasattr(module, name)
        if not place.endswith("sync"):
            assert getattr(module, name) is getattr(xtrace_sdk, name)
    if not place.startswith("xtrace_sdk.sync"):
        with pytest.raises(AttributeError):
            _ = module.Nothing


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, xtrace_sdk\n"
        "from xtrace_sdk import x_vec, integrations\n"
        "heavy = {'numpy', 'httpx2', 'gmpy2', 'cryptography', 'msgspec', 'rich', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_another_distribution_of_the_same_modules_is_noticed(tmp_path: Path) -> None:
    assert other_owners() == []
    for name, record in (
        ("xtrace_ai_sdk-0.1.1", "xtrace_sdk/__init__.py,sha256=x,1\n"),
        ("xtracedb-0.1.0", "xtrace_sdk/__init__.py,sha256=x,1\n"),
        ("xtrace-0.5", "xtrace.py,sha256=x,1\n"),
        ("xtrace_without_record-1", None),
        ("other-1", "xtrace_sdk/__init__.py,sha256=x,1\n"),
    ):
        folder = tmp_path / f"{name}.dist-info"
        folder.mkdir()
        if record is not None:
            (folder / "RECORD").write_text(record)
    assert other_owners([str(tmp_path), "/no/such/folder", str(tmp_path)]) == ["xtrace-ai-sdk"]
    importing = [sys.executable, "-W", "always", "-c", "import xtrace_sdk"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(importing, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert "xtrace-ai-sdk also installs xtrace_sdk; the modules in use" in done.stderr
    assert "SharedModules" in done.stderr


def test_importing_takes_a_moment_and_the_first_use_not_long() -> None:
    # Of the processor: how long others keep this process waiting says nothing about the code.
    script = (
        "import time; began = time.process_time(); import xtrace_sdk; imported = time.process_time()\n"
        "from xtrace_sdk.sync import Collection, ExecutionContext, XTraceIntegration\n"
        "from xtrace_sdk import PassphraseKeyProvider, Record\n"
        "xtrace = XTraceIntegration('org', 'key', api_url='http://127.0.0.1:9'); xtrace.close()\n"
        "print(imported - began, time.process_time() - imported)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported, used = map(float, done.stdout.split())
    assert imported < 0.2
    assert used < 2
