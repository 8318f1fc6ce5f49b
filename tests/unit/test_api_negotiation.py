"""Headers of HTTP are read as RFC 9110 and FHIR say, or refused by name."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.api.answer import http_date
from ehr.api.negotiation import (
    Preferences,
    expected,
    is_true,
    not_modified,
    not_modified_tag,
    preferences,
    produced,
    produced_or_json,
    read_form,
)
from ehr.errors import Malformed, NotAcceptable, UnsupportedMedia
from ehr.store.preconditions import ANY

UPDATED = datetime(2026, 11, 23, 2, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "json"),
        ("", "json"),
        ("*/*", "json"),
        ("application/fhir+json", "json"),
        ("application/json", "json"),
        ("application/fhir+json; fhirVersion=4.0", "json"),
        ("application/*", "json"),
        ("text/html, */*;q=0.1", "json"),
        ("APPLICATION/FHIR+JSON", "json"),
        ("application/fhir+xml", "xml"),
        ("text/xml;charset=utf-8", "xml"),
        ("application/xml; fhirVersion=4.0", "xml"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "xml"),
        ("application/fhir+xml, application/fhir+json;q=0.5", "xml"),
        ("application/fhir+xml;q=0.5, application/fhir+json", "json"),
        ("application/fhir+json, application/fhir+xml", "json"),
        ("application/fhir+xml, application/fhir+json", "xml"),
        ("application/fhir+json;q=0, */*", "xml"),
        ("application/fhir+xml, */*", "xml"),
        ("application/fhir+xml; fhirVersion=5.0, application/*;q=0.2", "json"),
    ],
)
def test_accept_chooses_the_format(accept: str | None, form: str) -> None:
    assert produced(accept, None) == form


@pytest.mark.parametrize(
    "accept",
    [
        "application/fhir+turtle",
        "text/html",
        "application/json;q=0",
        "application/fhir+json; fhirVersion=5.0",
        "application/fhir+json;q=nonsense",
        "json",
    ],
)
def test_nothing_else_is_produced(accept: str) -> None:
    with pytest.raises(NotAcceptable) as refused:
        produced(accept, None)
    assert refused.value.issues[0].at == "Accept"
    assert produced_or_json(accept, None) == "json"


@pytest.mark.parametrize("form", ["json", "xml"])
@pytest.mark.parametrize("written", ["{}", "text/{}", "application/{}", "application/fhir+{}", "application/fhir {}"])
def test_format_overrides_accept(form: str, written: str) -> None:
    other = "application/fhir+xml" if form == "json" else "application/fhir+json"
    assert produced(other, written.format(form)) == form


@pytest.mark.parametrize("format_", ["ttl", "application/fhir+turtle", "html"])
def test_other_formats_are_refused_by_name(format_: str) -> None:
    with pytest.raises(NotAcceptable) as refused:
        produced("*/*", format_)
    assert refused.value.issues[0].at == "_format"


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("application/fhir+json", "json"),
        ("application/json; charset=UTF-8", "json"),
        ('application/json;charset="utf-8"', "json"),
        ("application/fhir+xml", "xml"),
        ("text/xml; charset=utf-8", "xml"),
        ('application/fhir+json; fhirVersion="4.0"', "json"),
    ],
)
def test_bodies_are_read_in_their_format(content_type: str, form: str) -> None:
    assert read_form(content_type) == form


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/xhtml+xml",
        "text/plain",
        "application/json; charset=latin-1",
        "application/fhir+json; charset=utf-8; fhirVersion=3.0",
        "multipart/x",
    ],
)
def test_other_bodies_are_refused(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMedia):
        read_form(content_type)


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


@pytest.mark.parametrize(
    ("header", "versions"), [('W/"3"', {3}), ('"12"', {12}), ('W/"1" , "2"', {1, 2}), (" *", ANY), (None, None)]
)
def test_if_match_names_versions(header: str | None, versions: frozenset[int] | None) -> None:
    assert expected({} if header is None else {"if-match": header}) == versions


@pytest.mark.parametrize("header", ["", "3", 'W/"0"', 'W/"-1"', '*, W/"1"', 'W/"1",', 'W/"٣"', 'W/"99999999999"'])
def test_if_match_of_another_form_is_refused(header: str) -> None:
    with pytest.raises(Malformed) as refused:
        expected({"if-match": header})
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
        produced(text, None)
    with suppress(UnsupportedMedia):
        read_form(text)
    with suppress(Malformed):
        expected({"if-match": text})


def test_booleans_are_true_or_false() -> None:
    assert is_true("true", "_pretty")
    assert not is_true(None, "_pretty")
    with pytest.raises(Malformed):
        is_true("yes", "_pretty")
