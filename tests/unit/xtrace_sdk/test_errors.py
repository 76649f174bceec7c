"""The tree drawn atop `xtrace_sdk.errors` is the tree that there is, and knows every code of the service."""

import inspect
import re

import pytest

import xtrace_server.errors as served
from xtrace_sdk import errors
from xtrace_sdk.errors import InvalidRows, OtherRotation, PartlyStored, RecordsExist, ServerError, XTraceError


def classes() -> dict[str, type]:
    return {
        name: cls
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, Exception) and cls.__module__ == errors.__name__
    }


def drawn_parents() -> dict[str, str | None]:
    """Each class of the drawing with the one that it hangs from."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^((?:[│ ]   )*(?:[├└]── )?)([A-Z]\w+)(?:\s|$)", line)
        if match and (match[1] or match[2] == "XTraceError"):
            depth = len(match[1]) // 4
            del path[depth:]
            parents[match[2]] = path[-1] if path else None
            path.append(match[2])
    return parents


def test_the_drawn_tree_is_complete_and_true() -> None:
    drawn = drawn_parents()
    actual = {name: cls.__bases__[0].__name__ for name, cls in classes().items()}
    assert drawn.pop("XTraceError") is None
    assert drawn == {name: base for name, base in actual.items() if name != "XTraceError"}


def test_every_class_says_what_it_means() -> None:
    assert all(cls.__doc__ and issubclass(cls, XTraceError) for cls in classes().values())


def test_every_code_and_status_of_the_service_has_one_class() -> None:
    kinds = [cls for cls in classes().values() if issubclass(cls, ServerError)]
    codes = [code for cls in kinds for code in vars(cls).get("codes", ())]
    statuses = [status for cls in kinds for status in vars(cls).get("statuses", ())]
    assert len(set(codes)) == len(codes)
    assert len(set(statuses)) == len(statuses)
    for cls in service_errors():
        assert cls.code in codes
        assert cls.status in statuses


def service_errors() -> list[type[served.ServiceError]]:
    found = [cls for _, cls in inspect.getmembers(served, inspect.isclass)]
    return [cls for cls in found if issubclass(cls, served.ServiceError)]


def test_client_and_service_call_the_same_error_by_the_same_name() -> None:
    names = {code: name for name, cls in classes().items() for code in vars(cls).get("codes", ())}
    # The root of the service's tree has the code of what nobody foresaw.
    assert {cls.code: cls.__name__ for cls in service_errors() if cls is not served.ServiceError} == names


def test_invalid_rows_names_chunks_or_positions_and_not_too_many() -> None:
    assert "2 rows (0, 5)" in str(InvalidRows([0, 5]))
    error = InvalidRows(range(30), range(100, 130))
    assert "30 chunks (100, 101" in str(error)
    assert "and 20 more" in str(error)
    assert error.chunk_ids == list(range(100, 130))


def test_partly_stored_counts() -> None:
    error = PartlyStored([3, None, 4], ValueError("why"))
    assert (error.stored, error.chunk_ids) == (2, [3, None, 4])
    assert str(error) == "2 of 3 chunks are stored, then the load stopped: why"


@pytest.mark.parametrize("cls", classes().values(), ids=classes())
def test_no_message_is_as_long_as_the_text_that_a_service_puts_into_it(cls: type[XTraceError]) -> None:
    if cls is InvalidRows:
        error: XTraceError = InvalidRows(range(10**6))
    elif cls is PartlyStored:
        error = PartlyStored([1] * 10**6, RuntimeError("x" * 10**6))
    elif cls is RecordsExist:
        error = RecordsExist(range(10**6), 10**7)
    elif cls is OtherRotation:
        error = OtherRotation("x" * 10**6, "y" * 10**6)
    else:
        error = cls("x" * 10**6, **({"status": 500} if issubclass(cls, ServerError) else {}))
    assert 50 < len(str(error)) < 2100
    assert len(repr(error)) < 2300
