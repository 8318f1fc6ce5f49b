"""Headers of HTTP are read as RFC 9110 and FHIR say, or refused by name."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.api.answer import http_date
from ehr.api.negotiation import (
    Preferences,
    check_produced,
    check_read,
    if_match,
    is_true,
    not_modified,
    not_modified_tag,
    preferences,
)
from ehr.errors import Malformed, NotAcceptable, UnsupportedMedia

UPDATED = datetime(2026, 11, 23, 2, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "application/fhir+json",
        "application/json",
        "application/fhir+json; fhirVersion=4.0",
        "application/*",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "application/fhir+xml, application/fhir+json;q=0.5",
        "APPLICATION/FHIR+JSON",
    ],
)
def test_json_is_produced_for(accept: str | None) -> None:
    check_produced(accept, None)


@pytest.mark.parametrize(
    "accept",
    [
        "application/fhir+xml",
        "text/html",
        "application/json;q=0",
        "application/fhir+json; fhirVersion=5.0",
        "application/fhir+json;q=nonsense",
        "",
        "json",
    ],
)
def test_nothing_else_is_produced(accept: str) -> None:
    with pytest.raises(NotAcceptable) as refused:
        check_produced(accept, None)
    assert refused.value.issues[0].at == "Accept"


@pytest.mark.parametrize("format_", ["json", "application/json", "application/fhir json", "application/fhir+json"])
def test_format_overrides_accept(format_: str) -> None:
    check_produced("application/fhir+xml", format_)


@pytest.mark.parametrize("format_", ["xml", "ttl", "application/fhir+xml", "html"])
def test_other_formats_are_refused_by_name(format_: str) -> None:
    with pytest.raises(NotAcceptable) as refused:
        check_produced("*/*", format_)
    assert refused.value.issues[0].at == "_format"


@pytest.mark.parametrize(
    "content_type", ["application/fhir+json", "application/json; charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_json_bodies_are_read(content_type: str) -> None:
    check_read(content_type)


@pytest.mark.parametrize(
    "content_type", [None, "application/fhir+xml", "text/plain", "application/json; charset=latin-1", "multipart/x"]
)
def test_other_bodies_are_refused(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMedia):
        check_read(content_type)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Preferences()),
        ("return=minimal", Preferences("minimal")),
        ("return=OperationOutcome, handling=lenient", Preferences("OperationOutcome", lenient=True)),
        ('handling="lenient"; return = representation', Preferences("representation", lenient=True)),
        ("handling=strict, respond-async, wait=10", Preferences()),
        ("return=everything", Preferences()),
    ],
)
def test_prefer(header: str | None, expected: Preferences) -> None:
    assert preferences(header) == expected


@pytest.mark.parametrize(("header", "version"), [('W/"3"', 3), ('"12"', 12), (None, None)])
def test_if_match_names_a_version(header: str | None, version: int | None) -> None:
    assert if_match(header) == version


@pytest.mark.parametrize("header", ["", "3", "*", 'W/"0"', 'W/"-1"', 'W/"1", W/"2"', 'W/"٣"', 'W/"99999999999"'])
def test_if_match_of_another_form_is_refused(header: str) -> None:
    with pytest.raises(Malformed) as refused:
        if_match(header)
    assert refused.value.issues[0].at == "If-Match"


def test_if_none_match_decides_before_if_modified_since() -> None:
    now = http_date(UPDATED + timedelta(days=1))
    assert not_modified('W/"1", W/"2"', None, 2, UPDATED)
    assert not_modified("*", None, 2, UPDATED)
    assert not not_modified('W/"1"', now, 2, UPDATED)
    assert not_modified_tag('"a", W/"b"', '"b"')
    assert not not_modified_tag(None, '"b"')


def test_if_modified_since_has_seconds() -> None:
    assert not_modified(None, http_date(UPDATED), 1, UPDATED)
    assert not not_modified(None, http_date(UPDATED - timedelta(seconds=1)), 1, UPDATED)
    assert not not_modified(None, "yesterday", 1, UPDATED)


@given(st.text(max_size=60))
def test_no_header_makes_a_bug(text: str) -> None:
    preferences(text)
    not_modified(text, text, 1, UPDATED)
    with suppress(NotAcceptable):
        check_produced(text, None)
    with suppress(UnsupportedMedia):
        check_read(text)
    with suppress(Malformed):
        if_match(text)


def test_booleans_are_true_or_false() -> None:
    assert is_true("true", "_pretty")
    assert not is_true(None, "_pretty")
    with pytest.raises(Malformed):
        is_true("yes", "_pretty")
