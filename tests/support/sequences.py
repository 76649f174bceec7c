"""How many random sequences of calls a state machine is tried with, and which.

`XTRACE_TEST_SEQUENCES` asks for more than the few of every run, and for others each time.
"""

import os
from typing import Final

from hypothesis import HealthCheck, settings

from support import databases

_FULL: Final = "XTRACE_TEST_FULL" in os.environ
_ASKED_FOR: Final = os.environ.get("XTRACE_TEST_SEQUENCES")
_ELSEWHERE: Final = 3


def sequences(steps: int, default: int, full: int) -> settings:
    """Returns the settings of sequences of so many steps; `default` and `full` are their numbers in these tiers.

    The full tier tries a third of `full` over PostgreSQL and in a cluster, where a step costs several times as much:
    sequences look for errors in rules that all databases share, and few of them reach every statement.
    """
    chosen = full if databases.current() == databases.SQLITE else -(-full // _ELSEWHERE)
    return settings(
        max_examples=int(_ASKED_FOR or (chosen if _FULL else default)),
        stateful_step_count=steps,
        deadline=None,
        derandomize=_ASKED_FOR is None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
