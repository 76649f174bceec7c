"""Each package has its own settings of pytest, so their tests run one package at a time.

pytest reads this file only when it is asked for several of them at once.
"""

import pytest


def pytest_configure() -> None:
    """Ends the run with a sentence, before the fixtures of one package meet the settings of another."""
    raise pytest.UsageError(
        "the packages have separate settings: run `scripts/test --packages`, "
        "or name one: `.venv-packages/bin/python -m pytest packages/mem0`"
    )
