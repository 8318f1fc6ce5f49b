"""National numbers and names in every form facilities write them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.fhir.vietnam import INSURANCE_NUMBER, NATIONAL_ID, PASSPORT_NUMBER
from ehr.identity.normalize import Numbers, agree, births_agree, name_words, names_agree

NUMBERS = Numbers()
DRAFT = "http://fhir.hl7.org.vn/core/sid/"


@pytest.mark.parametrize(
    ("system", "value", "key"),
    [
        (NATIONAL_ID, "001090000001", f"{NATIONAL_ID}|001090000001"),
        (NATIONAL_ID, " 001.090.000 001", f"{NATIONAL_ID}|001090000001"),
        (f"{DRAFT}cccd", "001090000001", f"{NATIONAL_ID}|001090000001"),
        (NATIONAL_ID, "123456789", None),  # an old CMND
        (NATIONAL_ID, "00109000000A", None),
        (NATIONAL_ID, "００１０９００００００１", None),
        (INSURANCE_NUMBER, "DN4010123456789", f"{INSURANCE_NUMBER}|0123456789"),
        (INSURANCE_NUMBER, "dn-4-01-0123456789", f"{INSURANCE_NUMBER}|0123456789"),
        (INSURANCE_NUMBER, "0123456789", f"{INSURANCE_NUMBER}|0123456789"),
        (INSURANCE_NUMBER, "001090000001", f"{NATIONAL_ID}|001090000001"),
        (INSURANCE_NUMBER, "DN40101234567", None),
        (PASSPORT_NUMBER, "b1234567", f"{PASSPORT_NUMBER}|B1234567"),
        (PASSPORT_NUMBER, "UNKNOWN", None),
        ("urn:somewhere", "001090000001", None),
        (NATIONAL_ID, "", None),
    ],
)
def test_a_number_has_one_key(system: str, value: str, key: str | None) -> None:
    number = NUMBERS.read(system, value)
    assert (number.key if number else None) == key


def test_the_surest_number_comes_first_and_old_ones_not_at_all() -> None:
    tree = {
        "identifier": [
            {"system": INSURANCE_NUMBER, "value": "0123456789"},
            {"system": INSURANCE_NUMBER, "value": "DN4010123456789"},
            {"system": NATIONAL_ID, "value": "001090000002", "use": "old"},
            {"system": NATIONAL_ID, "value": "001090000001"},
            {"system": NATIONAL_ID},
        ]
    }
    assert [(n.kind, n.value) for n in NUMBERS.of(tree)] == [
        ("national_id", "001090000001"),
        ("insurance_number", "0123456789"),
    ]


def named(*names: dict[str, Any]) -> dict[str, Any]:
    return {"name": list(names)}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (named({"text": "Nguyễn Văn Đức"}), named({"text": "NGUYEN VAN DUC"}), True),
        (named({"text": "Nguye\u0302\u0303n Văn An"}), named({"text": "Nguyễn Văn An"}), True),
        (named({"text": "Nguyễn Văn An"}), named({"family": "Nguyễn", "given": ["Văn", "An"]}), True),
        (named({"text": "Nguyễn Văn An"}), named({"text": "Nguyễn Văn Anh"}), False),
        (named({"text": "An", "use": "nickname"}, {"text": "Lê Bình"}), named({"text": "Lê Bình"}), True),
        (named(), named({"text": "Lê Bình"}), True),
    ],
)
def test_names_agree_by_their_words(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    assert names_agree(one, other) is same
    assert names_agree(other, one) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1990-02-03", "1990-02-03", True),
        ("1990-02-03", "1990-02", True),
        ("1990-02-03", "1990", True),
        ("1990-02-03", None, True),
        ("1990-02-03", "1990-03-02", True),
        ("1990-01-01", "1990-11-20", True),
        ("1990-02-03", "1991-02-03", False),
        ("1990-02-03", "1990-02-04", False),
        ("1990-02", "1990-03", False),
    ],
)
def test_births_agree_as_far_as_they_are_known(one: str, other: str | None, same: bool) -> None:
    assert births_agree({"birthDate": one}, {"birthDate": other}) is same
    assert births_agree({"birthDate": other}, {"birthDate": one}) is same


@given(st.text(), st.text())
def test_no_text_breaks_it(system: str, value: str) -> None:
    for known in (system, NATIONAL_ID, INSURANCE_NUMBER, PASSPORT_NUMBER):
        number = NUMBERS.read(known, value)
        assert number is None or number.value.isascii()
    tree = named({"text": value}) | {"birthDate": system}
    assert agree(tree, tree)
    assert name_words(tree) == name_words(named({"text": value}))
