"""Amounts and ends, as people write them at the command line."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from xtrace_cli.errors import WrongUse
from xtrace_cli.options.amount import amount
from xtrace_cli.options.expiry import moment_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1000", 1000),
        ("500MiB", 500 * 2**20),
        ("2 GiB", 2 * 2**30),
        ("1KiB", 1024),
        ("3TiB", 3 * 2**40),
        ("none", None),
    ],
)
def test_an_amount_is_a_number_a_size_or_none(text: str, expected: int | None) -> None:
    assert amount(text) == expected


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5", "many", "10GB", "10gib", "1e3", "99999999999999999999", "9" * 18 + "TiB"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(WrongUse, match="a quota is not valid"):
        amount(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2100-01-31", datetime(2100, 1, 31, tzinfo=UTC)),
        ("2100-01-31T12:00", datetime(2100, 1, 31, 12, tzinfo=UTC)),
        ("2100-01-31T12:00Z", datetime(2100, 1, 31, 12, tzinfo=UTC)),
        ("2100-01-31T12:00+02:00", datetime(2100, 1, 31, 12, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_an_end_is_a_time_in_utc_unless_it_says_otherwise(text: str, expected: datetime) -> None:
    assert moment_of(text) == expected


@pytest.mark.parametrize(
    ("text", "length"),
    [("90d", timedelta(90)), ("12h", timedelta(hours=12)), ("30m", timedelta(minutes=30)), ("2w", timedelta(14))],
)
def test_an_end_is_a_span_from_now(text: str, length: timedelta) -> None:
    before = datetime.now(UTC)
    assert before + length <= moment_of(text) <= datetime.now(UTC) + length


@pytest.mark.parametrize("text", ["", "tomorrow", "90", "90y", "-1d", "9999999d", "2100-13-01", "999999w"])
def test_what_is_no_end_is_refused(text: str) -> None:
    with pytest.raises(WrongUse, match="--expires is not valid"):
        moment_of(text)
