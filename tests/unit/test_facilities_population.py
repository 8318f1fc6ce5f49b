"""The synthetic population: numbers of valid form, unique, in proportion, the same for the same seed."""

import functools
import re
import unicodedata
from collections import Counter
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.facilities.communes import COMMUNES
from adapters.facilities.dice import dice
from adapters.facilities.population import REFERENCE_DAY, SIZE_MAX, Citizen, Population
from adapters.facilities.registry import FACILITIES

CCCD = re.compile(r"001[0-3]\d{2}\d{6}")
CARD = re.compile(r"[A-Z]{2}[1-5]01\d{10}")
CITY = Population(7, 10_000_000)
CODES = {facility.code for facility in FACILITIES}


@functools.cache
def sample() -> list[Citizen]:
    """40,000 of them, from all of the city."""
    return [CITY.citizen(n) for n in range(0, CITY.size, CITY.size // 40_000)]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**63), n=st.integers(0, 9_999_999))
def test_numbers_have_the_form_the_law_gives_them(seed: int, n: int) -> None:
    citizen = Population(seed, 10_000_000).citizen(n)
    if citizen.cccd is not None:
        assert CCCD.fullmatch(citizen.cccd)
        century = citizen.birth_date.year // 100 - 19
        assert int(citizen.cccd[3]) == century * 2 + (citizen.sex == "female")
        assert int(citizen.cccd[4:6]) == citizen.birth_date.year % 100
    if citizen.card is not None:
        assert CARD.fullmatch(citizen.card.number)
        assert citizen.card.registered in CODES
        assert citizen.card.valid_from <= citizen.card.valid_to
    if citizen.phone is not None:
        assert re.fullmatch(r"010\d{7}", citizen.phone)
    assert citizen.birth_date <= REFERENCE_DAY
    assert citizen.commune is COMMUNES[n % len(COMMUNES)]


def test_the_same_seed_gives_the_same_people_in_any_order() -> None:
    first = [Population(5, 100_000).citizen(n) for n in range(200)]
    city = Population(5, 100_000)
    again = [city.citizen(n) for n in reversed(range(200))]
    assert first == again[::-1]
    assert first != [Population(6, 100_000).citizen(n) for n in range(200)]


def test_no_two_people_share_a_number() -> None:
    city = Population(3, SIZE_MAX)
    places = [*range(30_000), *range(4_001 * 3, 4_001 * 3 + 30_000), *range(SIZE_MAX - 30_000, SIZE_MAX)]
    people = [city.citizen(n) for n in set(places)]
    national = [citizen.cccd for citizen in people if citizen.cccd]
    social = [citizen.card.number[5:] for citizen in people if citizen.card]
    assert len(set(national)) == len(national)
    assert len(set(social)) == len(social)


def test_ages_sexes_and_cards_are_in_proportion() -> None:
    people = sample()
    total = len(people)
    ages = [citizen.age_at(REFERENCE_DAY) for citizen in people]
    assert sum(age < 15 for age in ages) / total == pytest.approx(0.243, abs=0.015)
    assert sum(age >= 65 for age in ages) / total == pytest.approx(0.077, abs=0.015)
    assert sum(citizen.sex == "male" for citizen in people) / total == pytest.approx(0.497, abs=0.02)
    assert sum(citizen.card is not None for citizen in people) / total == pytest.approx(0.95, abs=0.01)
    groups = Counter(citizen.card.group for citizen in people if citizen.card)
    insured = sum(groups.values())
    assert groups["DN"] / insured == pytest.approx(0.27, abs=0.05)
    assert groups["GD"] / insured == pytest.approx(0.25, abs=0.05)
    assert (groups["HS"] + groups["SV"]) / insured == pytest.approx(0.20, abs=0.04)
    assert groups["TE"] / insured == pytest.approx(0.10, abs=0.03)


def test_newborns_have_no_personal_number_yet_and_all_children_cards_are_full() -> None:
    people = sample()
    newborn = [citizen for citizen in people if (REFERENCE_DAY - citizen.birth_date).days < 60]
    assert newborn
    assert all(citizen.cccd is None for citizen in newborn)
    assert sum(citizen.cccd is None for citizen in people) == len(newborn)
    cards = {citizen.card.number[:3] for citizen in people if citizen.card and citizen.age_at(REFERENCE_DAY) < 6}
    assert cards == {"TE1"}


def test_names_are_composed_but_for_a_few() -> None:
    people = sample()
    decomposed = [citizen for citizen in people if not unicodedata.is_normalized("NFC", citizen.name)]
    assert 40 < len(decomposed) < 500


def test_a_facility_number_belongs_to_one_person_of_that_facility() -> None:
    people = [CITY.citizen(n) for n in range(5_000)]
    here = {citizen.record_number(12) for citizen in people}
    assert len(here) == len(people)
    assert sum(citizen.record_number(12) == citizen.record_number(13) for citizen in people) == 0


def test_neighbours_live_in_the_commune() -> None:
    random = dice(1, "neighbours")
    for place in (0, 300, 578):
        for _ in range(50):
            assert CITY.citizen(CITY.neighbour(place, random)).commune is COMMUNES[place]


def test_ten_million_people_need_no_memory() -> None:
    city = Population(1, 10_000_000)
    assert city.citizen(9_999_999).birth_date > date(1920, 1, 1)
    assert city.age_of(9_999_999) == REFERENCE_DAY.year - city.citizen(9_999_999).birth_date.year
