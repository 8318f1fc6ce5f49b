"""Queries → requests: escapes, precision, and every refusal by name."""

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr import limits
from ehr.errors import EhrError, Invalid, NotSupported, TooMuch, UnservedModifier
from ehr.fhir import parameters
from ehr.fhir.r4 import TYPE_IDS
from ehr.search import values
from ehr.search.parse import SUPPORTED, parse
from ehr.search.terms import Chain, Criterion, NumberValue, TokenValue

REFUSED: tuple[tuple[str, str, str, type[EhrError]], ...] = (
    ("Patient", "nme", "x", NotSupported),
    ("Patient", "name:sounds-like", "x", NotSupported),
    ("Patient", "name", "", Invalid),
    ("Patient", "name", ",", Invalid),
    ("Patient", "gender:text", "x", NotSupported),
    ("Patient", "identifier:in", "http://vs", NotSupported),
    ("Patient", "identifier", "a|b|c", Invalid),
    ("Patient", "identifier", "|", Invalid),
    ("Patient", "birthdate", "1980-2", Invalid),
    ("Patient", "birthdate", "gt", Invalid),
    ("Patient", "birthdate:exact", "1980", NotSupported),
    ("Patient", "birthdate:missing", "yes", Invalid),
    ("Patient", "organization.nme", "x", NotSupported),
    ("Patient", "organization:Patient.name", "x", Invalid),
    ("Patient", "name.family", "x", NotSupported),
    ("Patient", "_has:Observation:patient", "x", Invalid),
    ("Patient", "_has:Nothing:patient:code", "x", Invalid),
    ("Patient", "_has:Observation:encounter:code", "x", NotSupported),
    ("Questionnaire", "_has:QuestionnaireResponse:questionnaire:status", "x", NotSupported),
    ("Patient", "_content:exact", "x", NotSupported),
    ("Patient", "organization._content", "x", NotSupported),
    ("Patient", "_query", "x", NotSupported),
    ("Patient", "_filter", "gender", Invalid),
    ("Patient", "_list", "$current-allergies", NotSupported),
    ("Patient", "_count", "-1", Invalid),
    ("Patient", "_count", "1e3", Invalid),
    ("Patient", "_total", "yes", Invalid),
    ("Patient", "_summary", "yes", Invalid),
    ("Patient", "_sort", "phonetic", NotSupported),
    ("Patient", "_sort", "_content", NotSupported),
    ("Observation", "_sort", "code-value-quantity", NotSupported),
    ("Patient", "_sort", "nothing", NotSupported),
    ("Patient", "_sort:asc", "name", Invalid),
    ("Patient", "_contained", "yes", Invalid),
    ("Patient", "_include", "Patient", Invalid),
    ("Patient", "_include", "Patient:name", NotSupported),
    ("Patient", "_include", "Patient:organization:Patient", Invalid),
    ("Patient", "_include:recurse", "Patient:link", NotSupported),
    ("Patient", "_type", "Observation", Invalid),
    ("Location", "near", "1", Invalid),
    ("Observation", "value-quantity", "x", Invalid),
    ("Observation", "value-quantity", "1|kg", Invalid),
    ("Observation", "value-quantity", "1e9999", Invalid),
    ("Observation", "value-quantity", "1e999", Invalid),
    ("Patient", "name", "a\0b", Invalid),
    ("Patient", "name", "\ud800", Invalid),
    ("Observation", "code-value-quantity", "x", Invalid),
    ("Observation", "component-code-value-concept", "urn:x|$y", NotSupported),
    ("Observation", "subject", "Pateint/1", Invalid),
    ("Observation", "subject:Location", "a b", Invalid),
    ("Observation", "focus", "1", Invalid),
    ("Observation", "subject:Encounter", "1", Invalid),
    ("ValueSet", "_source:below", "http://x", NotSupported),
)


@pytest.mark.parametrize(("type_name", "name", "value", "error"), REFUSED)
def test_what_is_not_served_is_refused_by_name(type_name: str, name: str, value: str, error: type[EhrError]) -> None:
    with pytest.raises(error) as caught:
        parse(type_name, [(name, value)])
    assert caught.value.issues[0].at == name


def test_lenient_handling_says_what_it_ignored() -> None:
    request = parse("Patient", [("nme", "x"), ("gender", "male"), ("nme:like", "y"), ("given", "")], strict=False)
    assert [issue.at for issue in request.ignored] == ["nme", "nme:like", "given"]
    assert all(issue.severity == "warning" for issue in request.ignored)
    assert request.served == [("gender", "male")]
    with pytest.raises(Invalid):  # understood, and wrong: leaving it out would widen the answer unseen
        parse("Patient", [("birthdate", "x")], strict=False)
    for name in ("name:like", "_id:exact", "_list:not"):  # R4 has these refused in any case
        with pytest.raises(UnservedModifier):
            parse("Patient", [(name, "x")], strict=False)


def test_bounds() -> None:
    many = ",".join(str(number) for number in range(limits.search_values_max + 1))
    with pytest.raises(TooMuch):
        parse("Patient", [("identifier", many)])
    with pytest.raises(TooMuch):
        parse("Patient", [("gender", "male")] * (limits.search_parameters_max + 1))
    chain = "partof." * (limits.search_chain_max + 1) + "name"
    with pytest.raises(TooMuch):
        parse("Organization", [(chain, "x")])
    assert parse("Organization", [(chain.removeprefix("partof."), "x")]).conditions
    has = "_has:Organization:partof:" * (limits.search_chain_max + 1) + "name"
    with pytest.raises(TooMuch):
        parse("Organization", [(has, "x")])
    assert parse("Patient", [("_count", "999999999")]).count == limits.page_count_max


def test_a_chain_goes_to_every_type_that_knows_the_next_step() -> None:
    (chain,) = parse("Observation", [("subject.name", "x")]).conditions
    assert isinstance(chain, Chain)
    assert [name for name, _ in chain.links] == ["Location", "Patient"]


def only(type_name: str, name: str, value: str) -> Criterion:
    (found,) = parse(type_name, [(name, value)]).conditions
    assert isinstance(found, Criterion)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", TokenValue(None, "a")),
        ("s|a", TokenValue("s", "a")),
        ("|a", TokenValue("", "a")),
        ("s|", TokenValue("s", None)),
        (r"a\|b", TokenValue(None, "a|b")),
        (r"s\,t|a\\b\$", TokenValue("s,t", r"a\b$")),
    ],
)
def test_tokens_and_escapes(text: str, expected: TokenValue) -> None:
    assert only("Patient", "identifier", text).values == (expected,)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("100", 99.5, 100.5),
        ("100.00", 99.995, 100.005),
        ("1e2", 50, 150),
        ("-0.5", -0.55, -0.45),
        ("5.40", 5.395, 5.405),
    ],
)
def test_digits_say_how_exact_a_number_is(text: str, low: float, high: float) -> None:
    (value,) = only("Observation", "value-quantity", text).values
    assert isinstance(value, NumberValue)
    assert value.low == pytest.approx(low)
    assert value.high == pytest.approx(high)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=3))
def test_a_number_lies_in_its_own_range(number: Decimal) -> None:
    found = values.number(str(number), "x")
    assert found.low <= found.number < found.high


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_escaped_values_come_back_as_they_were(texts: list[str]) -> None:
    escaped = [text.translate({ord(sign): "\\" + sign for sign in "\\,|$"}) for text in texts]
    joined = ",".join(escaped)
    assert [values.unescape(part) for part in values.split(joined, ",")] == texts


@given(st.sampled_from(sorted(TYPE_IDS)), st.text(max_size=30), st.text(max_size=30))
def test_no_query_ends_in_anything_but_an_answer_or_a_refusal(type_name: str, name: str, value: str) -> None:
    with contextlib.suppress(EhrError):
        assert parse(type_name, [(name, value)]).served or name in {"_format", "_pretty"}


@given(st.data())
def test_no_value_of_a_served_parameter_ends_otherwise(data: st.DataObject) -> None:
    type_name = data.draw(st.sampled_from(sorted(TYPE_IDS)))
    parameter = data.draw(st.sampled_from(SUPPORTED[type_name]))
    modifier = data.draw(st.sampled_from(["", ":missing", ":not", ":exact", ":identifier", ":Patient"]))
    value = data.draw(st.text(alphabet="0123456789-TZ:.|,$\\abgetPatient/ ", max_size=30))
    with contextlib.suppress(EhrError):
        request = parse(type_name, [(parameter.code + modifier, value)])
        assert len([*request.conditions, *request.content]) == 1


def test_the_table_of_parameters_keeps_its_numbers() -> None:
    """Ids and slots are inside every stored hash: these may never change."""
    known = parameters.of("Observation")
    assert (known["code"].id, known["subject"].id, known["subject"].slot) == (1119, 1150, 10)
    assert (parameters.of("Patient")["identifier"].id, parameters.of("VisionPrescription")["status"].id) == (1219, 1709)
    ids = [one.id for name in ("Resource", *TYPE_IDS) for one in parameters.of(name).values() if one.type_name == name]
    assert len(ids) == len(set(ids)) == 1709
