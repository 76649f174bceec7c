"""Every environment variable of XTrace except the server's settings, which are `XTRACE_` plus the setting's name."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Final

PREFIX: Final = "XTRACE_"
TEST_PREFIX: Final = "XTRACE_TEST_"
"""The prefix of variables that only the project's own tests read."""
VARIABLES: Final = frozenset(
    f"{PREFIX}{name}"
    for name in (
        # the client and the command line
        *("API_URL", "ADMIN_API_URL", "ORG_ID", "API_KEY", "ADMIN_KEY", "CREDENTIALS"),
        *("CA_FILE", "CONTEXT", "CONTEXT_ID", "KB", "KEY_FILE", "KMS_KEY", "LOCAL_INDEX", "LOCAL_SERVER", "PROFILE"),
        *("PASSPHRASE", "NEW_PASSPHRASE", "RECOVERY_KEY", "MCP_TOKEN"),
        *("LLM_PROVIDER", "LLM_MODEL", "LLM_BASE_URL"),
        # both
        *("ARITHMETIC", "THREADS", "CONSTANT_TIME"),
    )
)


EXISTING_CLIENTS: Final = frozenset(
    f"{PREFIX}{name}" for name in ("PASS_PHRASE", "EXECUTION_CONTEXT_PATH", "EMBEDDING_MODEL_PATH")
)
"""Variables of the existing client that the command line also reads."""


def unknown_variables(environment: Collection[str], settings: Collection[str]) -> dict[str, str | None]:
    """Returns the unknown `XTRACE_` variables of an environment, each with the nearest known name.

    `settings` are the names of the server's settings.
    """
    known = VARIABLES | EXISTING_CLIENTS | {f"{PREFIX}{name.upper()}" for name in settings}
    found = sorted(
        name
        for name in environment
        if name.upper().startswith(PREFIX) and name.upper() not in known and not name.upper().startswith(TEST_PREFIX)
    )
    return {name: next(iter(get_close_matches(name.upper(), known, 1)), None) for name in found}
