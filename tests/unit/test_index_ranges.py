"""Date texts → ranges, folding and contact points: tables worked out by hand, and properties."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.index.normalize import contact, fold
from ehr.index.ranges import BEGINNING_US, END_US, date_range, period_range

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def us(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // MICROSECOND


TABLE = (
    ("2026", "2026-01-01T00:00:00+07:00", "2027-01-01T00:00:00+07:00"),
    ("2026-02", "2026-02-01T00:00:00+07:00", "2026-03-01T00:00:00+07:00"),
    ("2026-12", "2026-12-01T00:00:00+07:00", "2027-01-01T00:00:00+07:00"),
    ("2024-02-29", "2024-02-29T00:00:00+07:00", "2024-03-01T00:00:00+07:00"),
    ("2026-11-23T10:00", "2026-11-23T10:00:00+07:00", "2026-11-23T10:01:00+07:00"),
    ("2026-11-23T10:00:07", "2026-11-23T10:00:07+07:00", "2026-11-23T10:00:08+07:00"),
    ("2026-11-23T10:00:07Z", "2026-11-23T10:00:07+00:00", "2026-11-23T10:00:08+00:00"),
    ("2026-11-23T10:00:07.5-05:30", "2026-11-23T10:00:07.500+05:30", "2026-11-23T10:00:07.600+05:30"),
    ("2026-11-23T10:00:07.120Z", "2026-11-23T10:00:07.120+00:00", "2026-11-23T10:00:07.121+00:00"),
    ("2026-11-23T10:00:07.123456789Z", "2026-11-23T10:00:07.123456+00:00", "2026-11-23T10:00:07.123457+00:00"),
    ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59+00:00", "2017-01-01T00:00:00+00:00"),
)


@pytest.mark.parametrize(("text", "first", "after"), TABLE)
def test_a_date_is_as_wide_as_it_is_vague(text: str, first: str, after: str) -> None:
    if "-05:30" in text:
        first, after = first.replace("+", "-"), after.replace("+", "-")
    assert date_range(text) == (us(first), us(after) - 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "26",
        "2026-2",
        "2026-13",
        "2026-00",
        "2026-02-30",
        "2025-02-29",
        "0000",
        "2026-11-23T",
        "2026-11-23T25:00:00Z",
        "2026-11-23T10:00:00+25:00",
        "2026-11-23 10:00:00Z",
        "2026-11-23T10:61:00Z",
        "2026-11-23Z",
        "２０２６",
        "yesterday",
    ],
)
def test_what_is_not_a_date_is_none(text: str) -> None:
    assert date_range(text) is None


def test_periods_may_be_open() -> None:
    march = date_range("2026-03")
    assert march is not None
    assert period_range("2026-03", None) == (march[0], END_US)
    assert period_range(None, "2026-03") == (BEGINNING_US, march[1])
    assert period_range("2026-03", "2026-03") == march
    assert period_range(None, None) is None
    assert period_range("x", 7) is None


@given(
    # hypothesis wants bounds without a zone
    st.datetimes(datetime.min + timedelta(days=400), datetime.max - timedelta(days=400)),  # noqa: DTZ901
    st.integers(-14 * 60, 14 * 60),
    st.integers(0, 6),
)
def test_a_moment_lies_in_the_range_of_each_of_its_texts(moment: datetime, minutes: int, digits: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    exact = (aware - EPOCH) // MICROSECOND
    zone = aware.strftime("%z")
    zone = f"{zone[:3]}:{zone[3:]}"
    fraction = f".{moment.microsecond:06}"[: digits + 1] if digits else ""
    text = f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}{fraction}{zone}"
    found = date_range(text)
    assert found is not None
    assert found[0] <= exact <= found[1]
    assert found[1] - found[0] + 1 == 10 ** (6 - digits)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Nguyễn  Đức Ánh", "nguyen duc anh"),
        ("ĐẶNG", "dang"),
        ("Straße", "strasse"),
        ("  a\tb\n c ", "a b c"),
        ("Ngu\u0079e\u0302\u0303n", "nguyen"),
        ("Łódź Ørsted", "lodz orsted"),
        ("日本", "日本"),
        ("한글", "한글"),
        ("हिन्दी", "हिन्दी"),
        ("", ""),
    ],
)
def test_folding(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text())
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(alphabet="abcđêôơưàáảãạ ", min_size=1), st.text(alphabet="abcđêôơưàáảãạ ", max_size=5))
def test_a_beginning_stays_a_beginning(start: str, rest: str) -> None:
    if fold(start):
        assert fold(start + rest).startswith(fold(start))


@pytest.mark.parametrize(
    ("text", "compared"),
    [
        ("(024) 38-25.1", "02438251"),
        ("+84 90 123", "+8490123"),
        (" A@B.vn ", "a@b.vn"),
        ("https://X.vn/a-b", "https://x.vn/a-b"),
        ("-", "-"),
    ],
)
def test_contact_points(text: str, compared: str) -> None:
    assert contact(text) == compared
