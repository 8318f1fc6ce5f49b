"""Which first pages are planned once: those whose text says the way, whatever the values."""

from collections.abc import Sequence

import pytest

from ehr.access.policy import ALL_GRANTS, DIRECTORY_TYPES, AccessPredicate
from ehr.index.hashing import Hasher
from ehr.search.parse import parse, understood
from ehr.search.plan import plan
from ehr.search.settled import settled

HASHER = Hasher(7)
EVERYTHING = AccessPredicate(ALL_GRANTS)
MINE = AccessPredicate(ALL_GRANTS, "person-1", DIRECTORY_TYPES)

Query = Sequence[tuple[str, str]]

OF_PATIENT = ("patient", "1")


@pytest.mark.parametrize(
    ("type_name", "query", "once"),
    [
        # one patient's: the index by shard
        ("Observation", [OF_PATIENT], True),
        ("Observation", [OF_PATIENT, ("code", "a,b"), ("date", "ge2026"), ("_sort", "-date")], True),
        ("Observation", [OF_PATIENT, ("_sort", "value-quantity")], True),
        ("Observation", [OF_PATIENT, ("value-quantity", "gt5")], False),
        ("Observation", [OF_PATIENT, ("code:not", "a")], False),
        ("Observation", [OF_PATIENT, ("encounter.status", "finished")], False),
        ("Observation", [OF_PATIENT, ("_include", "Observation:subject")], False),
        ("Observation", [OF_PATIENT, ("_total", "accurate")], False),
        ("Observation", [OF_PATIENT, ("_count", "0")], False),
        ("Observation", [OF_PATIENT, ("_contained", "both")], False),
        ("Observation", [OF_PATIENT, ("_content", "a")], False),
        # what few have is looked up
        ("Patient", [("identifier", "urn:a|1")], True),
        ("Observation", [("encounter", "Encounter/1"), ("code", "a")], True),
        ("Patient", [("identifier", "urn:a|1"), ("name", "an")], False),
        # as many rows of an order are passed as are looked up
        ("Observation", [("code", "a")], True),
        ("Observation", [("code", "a"), ("_sort", "-date")], True),
        ("Observation", [("code", "a"), ("_sort", "_id")], False),
        ("Observation", [("code", "a"), ("date", "2026")], False),
        ("Observation", [("code:in", "urn:v")], False),
        # what only the planner can judge
        ("Observation", [], False),
        ("Patient", [("name", "an")], False),
        ("Encounter", [("date", "2026")], False),
        (None, [("_type", "Patient,Observation"), ("_id", "1")], False),
    ],
)
def test_it_is_settled_where_the_text_says_the_way(type_name: str | None, query: Query, once: bool) -> None:
    assert settled(plan(parse(type_name, query), EVERYTHING), HASHER) is once
    assert settled(plan(understood(type_name, query), EVERYTHING), HASHER) is once
    assert not settled(plan(parse(type_name, query), MINE), HASHER), "a person's shards are the planner's to join"
