"""Moments of parameters: instants with zones, partial dates as days of Viet Nam."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.api.moments import count_of, instant_of, period_of
from ehr.clock import ICT
from ehr.errors import Malformed


def test_an_instant_survives_a_plus_that_became_a_space() -> None:
    assert instant_of("2026-11-23T09:00:00 07:00", "_since") == datetime(2026, 11, 23, 2, tzinfo=UTC)
    assert instant_of("2026-11-23T02:00:00.123456789Z", "_since") == datetime(2026, 11, 23, 2, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "first", "after"),
    [
        ("2026", datetime(2026, 1, 1, tzinfo=ICT), datetime(2027, 1, 1, tzinfo=ICT)),
        ("2026-12", datetime(2026, 12, 1, tzinfo=ICT), datetime(2027, 1, 1, tzinfo=ICT)),
        ("2024-02", datetime(2024, 2, 1, tzinfo=ICT), datetime(2024, 3, 1, tzinfo=ICT)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=ICT), datetime(2026, 11, 24, tzinfo=ICT)),
        ("2026-11-23T09:05Z", datetime(2026, 11, 23, 9, 5, tzinfo=UTC), datetime(2026, 11, 23, 9, 6, tzinfo=UTC)),
        ("2026-11-23T09:05:00Z", datetime(2026, 11, 23, 9, 5, tzinfo=UTC), datetime(2026, 11, 23, 9, 5, 1, tzinfo=UTC)),
        (
            "2026-11-23T09:05:00.12Z",
            datetime(2026, 11, 23, 9, 5, 0, 120_000, tzinfo=UTC),
            datetime(2026, 11, 23, 9, 5, 0, 130_000, tzinfo=UTC),
        ),
    ],
)
def test_a_date_or_a_moment_is_as_long_as_it_is_written(text: str, first: datetime, after: datetime) -> None:
    assert period_of(text, "_at") == (first, after - timedelta(microseconds=1))


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_microsecond_is_itself_twice(moment: datetime) -> None:
    text = moment.isoformat(timespec="microseconds")
    assert period_of(text, "_at") == (moment, moment)


@pytest.mark.parametrize(
    "text",
    [
        *("", "0000", "9999", "2026-13", "2026-02-30", "26", "2026-11-23T09:00", "2026-11-23T25:00:00Z", "٢٠٢٦"),
        *("0001", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-12:00"),
    ],
)
def test_what_is_no_moment_is_refused_by_name(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        period_of(text, "_since")
    assert refused.value.issues[0].at == "_since"


@pytest.mark.parametrize("text", ["-1", "1e3", "", "10000000000", "٣"])
def test_a_count_is_a_number(text: str) -> None:
    with pytest.raises(Malformed):
        count_of(text)
