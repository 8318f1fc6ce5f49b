"""A search of one patient is understood, planned and asked as if it had been worked out by itself."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict

from ehr.access.policy import ALL_GRANTS, DIRECTORY_TYPES, AccessPredicate, Caller
from ehr.database.engine import Database
from ehr.errors import EhrError
from ehr.search.page import Note, search
from ehr.search.parse import parse, understood
from ehr.search.plan import plan
from ehr.search.terms import SearchRequest
from tests.search.store import EVERYTHING, Plain, Records

Query = Sequence[tuple[str, str]]
IDS = ("0", "p1", "p2", "*", "Patient", "a.b-c", "Patient/p1", "x" * 64, "x" * 65, "p1,p2", "p1|2", "p1\\,", " p1", "")
NAMES = ("patient", "subject", "patient:Patient", "subject:Patient", "patient:missing", "subject:not", "patient._id")
OTHERS = (
    ("category", "laboratory"),
    ("performer", "Patient/p1"),
    ("_filter", "patient eq p1"),
    ("_id", "p1,0"),
    ("_sort", "-date"),
    ("_count", "1"),
    ("no-such", "p1"),
    ("_cursor", "AAAA"),
)
named = st.builds(
    lambda name, form, id: (name, form.format(id)),
    st.sampled_from(NAMES),
    st.sampled_from(("{}", "Patient/{}", "Group/{}", "http://x.test/Patient/{}", "Patient/{}/_history/1")),
    st.sampled_from(IDS) | st.from_regex(r"[A-Za-z0-9.\-]{1,8}", fullmatch=True),
)
queries = st.lists(named | st.sampled_from(OTHERS), min_size=1, max_size=4)


def outcome(reader: Any, query: Query, *, strict: bool) -> dict[str, Any] | list[str]:
    """What it understood, without how it came to it."""
    try:
        found: SearchRequest = reader("Observation", query, strict=strict)
    except EhrError as error:
        return [f"{type(error).__name__} {one.at} {one.text}" for one in error.issues]
    return {name: value for name, value in asdict(found).items() if name not in {"plans", "anyone", "patient"}}


@given(queries, st.booleans())
def test_it_is_understood_as_by_itself(query: Query, strict: bool) -> None:
    assert outcome(understood, query, strict=strict) == outcome(parse, query, strict=strict)


def test_a_patient_is_remembered_as_any_other() -> None:
    one, two = (understood("Observation", [("patient", id), ("code", "x")]) for id in ("p1", "p2"))
    assert one.anyone is not None
    assert one.anyone is two.anyone
    for query in ([("patient", "p1,p2")], [("subject", "p1")], [("patient", "p1"), ("patient", "p1")], [("code", "x")]):
        assert understood("Observation", query).anyone is None
    assert understood("Observation", [("subject", "Patient/p1")]).anyone is not None
    assert understood("Organization", [("name", "p1")]).anyone is None


@pytest.fixture
async def records(database: Database) -> Records:
    made = Records(database)
    for id in ("p0", "p1"):
        await made.put({"resourceType": "Patient", "id": id})
        await made.put(
            *(
                {
                    "resourceType": "Observation",
                    "id": f"{id}-{number}",
                    "status": "final",
                    "code": {"coding": [{"code": "xy"[number % 2]}]},
                    "subject": {"reference": f"Patient/{id}"},
                    "performer": [{"reference": "Patient/p1"}],
                    "effectiveDateTime": f"2026-03-0{number + 1}",
                }
                for number in range(4)
            )
        )
    await made.link("p1", "person-1")
    return made


async def asked(records: Records, request: SearchRequest, access: AccessPredicate) -> tuple[list[str], list[Any]]:
    """Ids, and every statement of ours (the driver asks about types) with its values but for snapshots."""
    statements: list[Any] = []
    async with records.database.acquire() as connection:
        with connection.query_logger(lambda said: statements.append((said.query, [*map(_timeless, said.args)]))):
            page = await search(
                connection,
                plan(request, access),
                installation=records.database.installation,
                bodies=Plain(),
                note=Note(Caller("client", "ward", ALL_GRANTS), '{"parameters": []}'),
            )
            await connection.execute("rollback")  # the loop calls loggers later
    assert statements
    return [found.id for found in page.matches], [one for one in statements if "resource" in one[0]]


def _timeless(value: Any) -> Any:
    return "snapshot" if isinstance(value, str) and re.fullmatch(r"\d+:\d+:[\d,]*", value) else value


MINE = AccessPredicate(ALL_GRANTS, "person-1", DIRECTORY_TYPES)
QUERIES: Sequence[Query] = (
    [],
    [("code", "x")],
    [("code", "x,y"), ("_sort", "-date")],
    [("code:not", "x"), ("_count", "1")],
    [("date", "ge2026-03-02"), ("_sort", "date"), ("_total", "accurate")],
    [("performer", "Patient/p1")],
    [("_filter", "patient eq p1")],
    [("performer:Patient._id", "p1")],
    [("performer:missing", "false")],
    [("_include", "Observation:subject")],
    [("_contained", "both")],
)


@pytest.mark.parametrize("more", QUERIES)
async def test_it_is_asked_as_by_itself(records: Records, more: Query) -> None:
    for access in (EVERYTHING, MINE):
        for id in ("p0", "p1", "none"):
            for name, value in (("patient", id), ("subject", f"Patient/{id}")):
                query = [*more[:1], (name, value), *more[1:]]
                mine = await asked(records, understood("Observation", query), access)
                assert mine == await asked(records, parse("Observation", query), access)
                assert all(found.startswith(id) for found in mine[0])
