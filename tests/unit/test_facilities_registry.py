"""The 661 facilities and their feeds."""

from collections import Counter

import pytest

from adapters.facilities.communes import COMMUNES, DISTRICTS
from adapters.facilities.registry import FACILITIES, FEEDS, FeedSplit, centre_of, city, station_of


def test_the_city_has_661_facilities_of_four_kinds() -> None:
    assert Counter(facility.kind for facility in FACILITIES) == {
        "station": 579,
        "hospital": 42,
        "centre": 30,
        "other": 10,
    }
    assert len({facility.code for facility in FACILITIES}) == 661
    assert all(len(facility.code) == 5 and facility.code.startswith("01Z") for facility in FACILITIES)


def test_every_commune_has_a_station_and_every_district_a_centre() -> None:
    assert len(COMMUNES) == 579
    assert len(DISTRICTS) == 30
    assert Counter(commune.unit for commune in COMMUNES) == {"xã": 383, "phường": 175, "thị trấn": 21}
    for commune in COMMUNES:
        assert station_of(commune).commune is commune
        assert commune.name in station_of(commune).name
        assert commune.district in centre_of(commune).name
    assert len({station_of(commune).code for commune in COMMUNES}) == 579


def test_no_hospital_bears_a_real_name() -> None:
    for facility in FACILITIES:
        if facility.kind in ("hospital", "other"):
            assert "(mô phỏng)" in facility.name


def test_feeds_follow_the_split() -> None:
    stations = [facility for facility in city() if facility.kind == "station"]
    shares = Counter(facility.feed for facility in stations)
    assert shares["hl7v2"] / 579 == pytest.approx(0.4, abs=0.01)
    assert shares["fhir"] / 579 == pytest.approx(0.4, abs=0.01)
    assert shares["claim_xml"] / 579 == pytest.approx(0.2, abs=0.01)
    assert {facility.feed for facility in city() if facility.kind in ("hospital", "centre")} == {"hl7v2"}
    for place, feed in enumerate(FEEDS):
        only = (float(place == 0), float(place == 1), float(place == 2))
        split = FeedSplit(hospital=only, centre=only, other=only, station=only)
        assert {facility.feed for facility in city(split=split)} == {feed}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 60, 300, 660, 661])
def test_a_smaller_city_has_every_kind_that_fits(count: int) -> None:
    chosen = city(count)
    assert len(chosen) == count
    assert len({facility.kind for facility in chosen}) == min(4, count)


@pytest.mark.parametrize("count", [0, 662])
def test_a_city_has_bounds(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 661"):
        city(count)
