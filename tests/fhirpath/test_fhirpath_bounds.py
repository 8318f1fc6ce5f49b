"""No expression hangs, recurses without end, or makes what cannot be held; none ends in an error that is not ours."""

import contextlib
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr import limits
from ehr.errors import EhrError, TooMuch
from ehr.fhir import fhirpath
from ehr.fhir.fhirpath import ExpressionError

BUNDLE: dict[str, Any] = {
    "resourceType": "Bundle",
    "entry": [{"resource": {"resourceType": "Patient", "name": [{"given": ["A"] * 20}]}} for _ in range(100)],
}


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 200 + "1" + ")" * 200,
        "-" * 200 + "1",
        "a" + ".a" * 200,
        "1" + " + 1" * 200,
        "iif(true, " * 200 + "1" + ")" * 200,
        " " * (limits.fhirpath_characters_max + 1),
    ],
)
def test_long_or_deep_expressions_are_refused(expression: str) -> None:
    with pytest.raises(TooMuch):
        fhirpath.compile(expression)


def test_what_is_just_deep_enough_is_evaluated() -> None:
    operands = limits.fhirpath_depth_max - 1
    assert fhirpath.compile(" + ".join(["1"] * operands)).values({"resourceType": "Basic"}) == [operands]


@pytest.mark.parametrize(
    "expression",
    [
        "entry.descendants().select(%resource.descendants().select(%resource.descendants()))",
        "entry.select(%resource.entry.select(%resource.entry.select(%resource.entry)))",
        "entry.all(%resource.descendants().distinct().count() > 0 and %resource.descendants().isDistinct())",
        "entry.aggregate($total.combine($total), entry)",
        "repeat(%resource.descendants().select(id.toString() & 'a'))" + " | repeat(%resource.descendants())" * 90,
        "entry.aggregate($total & $total, 'ab')",
        "entry.aggregate($total.replace('a', 'aa'), 'ab')",
        "entry.aggregate($total.replace('', 'aa'), 'ab')",
        "entry.aggregate($total.replaceMatches('a', 'aa'), 'ab')",
        "entry.aggregate(($total | $total).combine($total).join($total), 'ab')",
    ],
)
def test_costly_expressions_end(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "fhirpath_steps_max", 50_000)
    begun = time.perf_counter()
    with pytest.raises(TooMuch):
        fhirpath.compile(expression).evaluate(BUNDLE)
    assert time.perf_counter() - begun < 5


def test_the_limit_itself_ends_in_time() -> None:
    begun = time.perf_counter()
    with pytest.raises(TooMuch):
        fhirpath.compile("entry.select(%resource.entry.select(%resource.entry.select(%resource.entry)))").evaluate(
            BUNDLE
        )
    assert time.perf_counter() - begun < 20


def test_repeat_ends_where_nothing_new_is_found() -> None:
    assert len(fhirpath.compile("repeat(%resource)").evaluate({"resourceType": "Basic"})) == 1


def test_regular_expressions_take_linear_time() -> None:
    expression = fhirpath.compile("('a' & code.text).matches('^(a+)+$') or code.text.matches('(a|a|b)*c')")
    tree = {"resourceType": "Basic", "code": {"text": "a" * 50_000 + "!"}}
    begun = time.perf_counter()
    assert not expression.holds(tree)
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\\1", "a{2000}{2000}", "[z-a]"])
def test_patterns_that_re2_does_not_run_are_refused(pattern: str) -> None:
    with pytest.raises(ExpressionError, match="regular expression"):
        fhirpath.compile(f"'a'.matches('{pattern}')").evaluate({"resourceType": "Basic"})


@pytest.mark.parametrize(
    "expression",
    [
        "value.value * value.value",
        "value.value.power(99999)",
        "value.value.toInteger()",
        "value.value.round(2)",
        "value.value.toString()",
        "value.toString()",
        "value + value",
        "value = 1 'mg'",
        "value ~ 1 'mg'",
        "value | 1 'kg' | 7 'Cel'",
        "value.value.lowBoundary()",
        "value.value.sqrt().exp().ln()",
        "@2014-01-01 + value",
        "@T10:00 - value",
        "(9 | 8).skip(value.value.truncate())",
        "value.toQuantity('g')",
    ],
)
@pytest.mark.parametrize("number", ["1E+400000", "-1E+400000", "1E-400000", "99999999999999999999999999999999999999.5"])
@pytest.mark.parametrize("code", ["mg", "d", "nobody"])
def test_huge_numbers_give_something_or_nothing(expression: str, number: str, code: str) -> None:
    quantity = {"value": Decimal(number), "system": "http://unitsofmeasure.org", "code": code}
    with contextlib.suppress(ExpressionError):
        fhirpath.compile(expression).evaluate({"resourceType": "Observation", "valueQuantity": quantity})


WORDS = st.sampled_from(
    """name given entry resource value $this $total %resource 1 2.5 'a' 'a+' @2014-05 @T10:30 4 days 5 'mg' {} true
    . . . ( ) [ ] , + - * / div mod & | = ~ != < > <= in contains and or xor implies is as Quantity String
    where( select( exists() first() repeat( iif( matches( toString() toQuantity() lowBoundary() sort( join( type()
    descendants() aggregate( trace('a') ofType( extension( resolve() round( power( substring( split(""".split()  # noqa: SIM905
)


@given(words=st.lists(WORDS, max_size=14))
def test_any_row_of_words_is_read_or_refused(words: list[str]) -> None:
    with contextlib.suppress(EhrError):
        fhirpath.compile(" ".join(words)).evaluate(BUNDLE["entry"][0]["resource"])


def test_elements_of_a_variable_are_read_once_in_an_evaluation() -> None:
    """As sdf-8 asks it of a snapshot: for each of 1,200 elements, the first of all."""
    tree = {"resourceType": "Patient", "name": [{"text": f"a{n}"} for n in range(1_200)]}
    asked = fhirpath.compile("name.all(text.startsWith(%resource.name.first().text.substring(0, 1)))")
    assert asked.holds(tree)
    tree["name"].append({"text": "b"})  # type: ignore[attr-defined]
    assert not asked.holds(tree)
