"""Units against conversions worked out by hand, and properties of all of UCUM's table."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminology.ucum import Unit, _table, unit_of

SAME = (
    # one value in two units
    ("1000", "mg", "1", "g"),
    ("5.5", "mmol/L", "5500", "umol/L"),
    ("1", "mg/dL", "10", "mg/L"),
    ("1", "kPa", "1000", "Pa"),
    ("760", "mm[Hg]", "101324.72", "Pa"),
    ("98.6", "[degF]", "37", "Cel"),
    ("0", "Cel", "273.15", "K"),
    ("1", "[in_i]", "2.54", "cm"),
    ("1", "[lb_av]", "453.59237", "g"),
    ("4.5", "10*3/uL", "4500000000", "/L"),
    ("1", "h", "3600", "s"),
    ("60", "{beats}/min", "1", "Hz"),
    ("1", "U/L", "1", "umol/min/L"),
    ("2", "k[iU]/L", "2000", "[iU]/L"),
    ("1", "g/(24.h)", "1", "g/d"),
    ("1", "L", "1", "dm3"),
    ("1", "J", "1", "kg.m2/s2"),
)


@pytest.mark.parametrize(("value", "of", "expected", "to"), SAME)
def test_one_value_in_two_units(value: str, of: str, expected: str, to: str) -> None:
    first, second = unit_of(of), unit_of(to)
    assert first is not None
    assert second is not None
    assert first.to(second, Fraction(value)) == Fraction(expected)
    assert second.to(first, Fraction(expected)) == Fraction(value)


@pytest.mark.parametrize(("one", "other"), [("mmol/L", "mg/L"), ("mol", "1"), ("[iU]", "g"), ("g", "m"), ("[pH]", "1")])
def test_what_is_not_the_same_kind(one: str, other: str) -> None:
    first, second = unit_of(one), unit_of(other)
    assert first is not None
    assert second is not None
    assert first.dimensions != second.dimensions


@pytest.mark.parametrize(
    "code", ["", "foo", "mg//L", "(mg", "mg)", "mg.", "5 mg", "J/Cel", "k[in_i]", "m" * 65, "0", "{a"]
)
def test_what_is_not_ucum(code: str) -> None:
    assert unit_of(code) is None


def test_all_of_the_table_is_read() -> None:
    assert [code for code in _table()["units"] if unit_of(code) is None] == []


CODES = st.sampled_from([code for code in _table()["units"] if code not in {"Cel", "[degF]", "[degRe]"}])


@given(CODES, CODES, st.sampled_from("./"))
def test_a_product_has_the_factors_of_both(one: str, other: str, mark: str) -> None:
    made, first, second = unit_of(f"{one}{mark}{other}"), unit_of(one), unit_of(other)
    assert made is not None
    assert first is not None
    assert second is not None
    assert made.factor == (first.factor * second.factor if mark == "." else first.factor / second.factor)


@given(st.text(alphabet="mgLdku[]{}()./*^0123456789-+ lo%", max_size=24))
def test_no_text_ends_otherwise(code: str) -> None:
    assert isinstance(unit_of(code), Unit | None)
