"""docs/errors.md has every code of the service, with its status and the SDK's class for it."""

import re

from docs.examples import ROOT
from xtrace_sdk.service.contract import _BY_CODE
from xtrace_server import errors

PAGE = (ROOT / "docs" / "errors.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \| `(\w+)` \| \S.* \|$", re.MULTILINE)


def served() -> dict[str, int]:
    """The status of every code that an answer can have. `conflict` is only the name of a branch."""
    classes: list[type[errors.ServiceError]] = [errors.ServiceError]
    for one in classes:
        classes += one.__subclasses__()
    return {one.code: one.status for one in classes if one is not errors.Conflict}


def test_every_code_is_on_the_page_with_its_status_and_class() -> None:
    rows = ROW.findall(PAGE)
    assert {code: int(status) for code, status, _ in rows} == served()
    assert {code: name for code, _, name in rows} == {code: _BY_CODE[code].__name__ for code in served()}
    assert len(rows) == len(served())


def test_the_example_is_of_the_form_that_errors_have() -> None:
    import msgspec

    from xtrace_core.wire import Problem

    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    shown = msgspec.json.decode(example, type=Problem)
    assert shown == msgspec.json.decode(errors.LimitExceeded(shown.detail).body(), type=Problem)
