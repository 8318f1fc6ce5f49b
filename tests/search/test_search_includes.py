"""Includes that are more than a page holds: every one is on some page, and no page is too long."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ehr import limits
from ehr.database.connection import Connection, Row
from ehr.database.engine import Database
from ehr.errors import NotSupported
from ehr.search import include, statements
from ehr.search.page import Page
from ehr.search.shape import Values
from ehr.search.shape_statements import IncludedOf
from tests.search.store import Records

Links = list[tuple[int, int]]
"""Numbers of Patients: the first refers to the second (Patient.link)."""

QUERIES = (
    ["_include=Patient:link"],
    ["_revinclude=Patient:link"],
    ["_include=Patient:link", "_include:iterate=Patient:link"],
    ["_revinclude=Patient:link", "_revinclude:iterate=Patient:link", "_include=Patient:link"],
    ["_include:iterate=Patient:link", "_revinclude=Observation:patient"],
    ["_revinclude=*", "_include:iterate=Observation:performer"],
)


def store(links: Links) -> list[dict[str, Any]]:
    """Seven patients, and an Observation for each link, that its first one performed on the second."""
    patients: list[dict[str, Any]] = []
    for number in range(7):
        others = [{"other": {"reference": f"Patient/p{to}"}, "type": "seealso"} for at, to in links if at == number]
        patients.append({"resourceType": "Patient", "id": f"p{number}"} | ({"link": others} if others else {}))
    observations = [
        {
            "resourceType": "Observation",
            "id": f"o{number}",
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": f"Patient/p{to}"},
            "performer": [{"reference": f"Patient/p{at}"}],
        }
        for number, (at, to) in enumerate(links)
    ]
    return [*patients, *observations]


def around(links: Links, one: str, steps: Iterable[str]) -> set[str]:
    """What one resource is shown with, by one step each."""
    found: set[str] = set()
    kind, number = one[0], int(one[1:])
    for step in steps:
        if step == "_include=Patient:link" and kind == "p":
            found |= {f"p{to}" for at, to in links if at == number}
        elif step == "_revinclude=Patient:link" and kind == "p":
            found |= {f"p{at}" for at, to in links if to == number}
        elif step == "_revinclude=Observation:patient" and kind == "p":
            found |= {f"o{place}" for place, (_, to) in enumerate(links) if to == number}
        elif step == "_include=Observation:performer" and kind == "o":
            found |= {f"p{links[number][0]}"}
        elif step == "_revinclude=*" and kind == "p":
            found |= {f"p{at}" for at, to in links if to == number}
            found |= {f"o{place}" for place, pair in enumerate(links) if number in pair}
    return found


def expected(links: Links, query: list[str]) -> set[str]:
    """All that is around the Patients p0 and p1."""
    every = [step.replace(":iterate=", "=") for step in query]
    again = [step.replace(":iterate=", "=") for step in query if ":iterate" in step]
    found, fresh, steps = {"p0", "p1"}, {"p0", "p1"}, every
    while fresh:
        fresh = set().union(*(around(links, one, steps) for one in fresh)) - found
        found |= fresh
        steps = again
    return found


async def walked(records: Records, query: list[tuple[str, str]]) -> list[Page]:
    pages = [await records.page("Patient", query)]
    while (cursor := pages[-1].next_cursor) is not None:
        pages.append(await records.page("Patient", [*query, ("_cursor", cursor)]))
        assert len(pages) < 400
    return pages


@given(
    links=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=14, unique=True),
    query=st.sampled_from(QUERIES),
    room=st.integers(1, 4),
    sort=st.sampled_from(("_id", "-_id", "-_lastUpdated")),
    count=st.sampled_from((1, 2)),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_all_of_them_are_reached(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    links: Links,
    query: list[str],
    room: int,
    sort: str,
    count: int,
) -> None:
    monkeypatch.setattr(limits, "include_count_max", room)
    monkeypatch.setattr(limits, "include_depth_max", 100)
    records = Records(database)
    async with database.acquire() as connection:
        for table in ("resource", "string_index", "date_index", "quantity_index"):
            await connection.execute(f"delete from {table}")
    await records.put(*store(links))
    asked = [("_id", "p0,p1"), ("_sort", sort), ("_count", str(count))]
    pages = await walked(records, [*asked, *(tuple(one.split("=", 1)) for one in query)])  # type: ignore[list-item]
    shown = [one.id for page in pages for one in page.matches]
    assert sorted(shown) == ["p0", "p1"]
    included = [one.id for page in pages for one in page.included]
    assert set(shown) | set(included) == expected(links, query)
    for page in pages:
        assert len(page.included) <= room
        assert len({one.reference for one in (*page.matches, *page.included)}) == len(page.matches) + len(page.included)
        assert not page.issues


async def test_a_match_with_many_includes_takes_pages_of_its_own(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the matches go on after it, whatever is deleted meanwhile."""
    monkeypatch.setattr(limits, "include_count_max", 2)
    records = Records(database)
    await records.put(*store([(3, 0), (4, 0), (5, 0), (6, 1), (0, 1)]))
    query = [("_id", "p0,p1,p2"), ("_sort", "_id"), ("_total", "accurate"), ("_revinclude", "Observation:patient")]
    pages = await walked(records, query)
    assert [[one.id for one in page.matches] for page in pages] == [["p0"], [], ["p1", "p2"]]
    assert [[one.id for one in page.included] for page in pages] == [["o0", "o1"], ["o2"], ["o3", "o4"]]
    assert [page.total for page in pages] == [3, 3, 3]
    cursor = pages[0].next_cursor
    async with database.acquire() as connection:
        await connection.execute("delete from resource where id = 'p0'")
    again = await records.page("Patient", [*query, ("_cursor", str(cursor))])
    assert [one.id for one in again.matches] == ["p1", "p2"]


async def test_below_a_depth_what_does_not_fit_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "include_count_max", 2)
    monkeypatch.setattr(limits, "include_depth_max", 1)
    records = Records(database)
    await records.put(*store([(0, 3), (3, 4), (3, 5), (3, 6)]))
    query = [("_id", "p0"), ("_include", "Patient:link"), ("_include:iterate", "Patient:link")]
    pages = await walked(records, query)
    assert [[one.id for one in page.included] for page in pages if page.included] == [["p3", "p4"]]
    assert [issue.code for issue in pages[0].issues] == ["incomplete"]


async def test_canonical_urls_are_followed_to_what_they_name(database: Database) -> None:
    records = Records(database)
    form, plan = "http://x.vn/form", "http://x.vn/plan"
    await records.put(
        {"resourceType": "Questionnaire", "id": "v1", "url": form, "version": "1", "status": "active"},
        {"resourceType": "Questionnaire", "id": "v2", "url": form, "version": "2", "status": "active"},
        {"resourceType": "PlanDefinition", "id": "p", "url": plan, "status": "active"},
        {"resourceType": "QuestionnaireResponse", "id": "r1", "status": "completed", "questionnaire": f"{form}|1"},
        {"resourceType": "QuestionnaireResponse", "id": "r2", "status": "completed", "questionnaire": form},
        {"resourceType": "QuestionnaireResponse", "id": "r3", "status": "completed", "questionnaire": f"{form}|3"},
        {"resourceType": "ServiceRequest", "id": "s", "status": "active", "intent": "order",
         "instantiatesCanonical": [plan, f"{plan}|9"], "subject": {"reference": "Patient/p"}},
    )  # fmt: skip
    by = ("_include", "QuestionnaireResponse:questionnaire")
    for id, shown in (("r1", ["v1"]), ("r2", ["v1", "v2"]), ("r3", []), ("r1,r2,r3", ["v1", "v2"])):
        page = await records.page("QuestionnaireResponse", [("_id", id), by])
        assert [one.id for one in page.included] == shown, id
    assert (await records.page("QuestionnaireResponse", [("_include", "*")])).included == []
    page = await records.page("ServiceRequest", [("_include", "ServiceRequest:instantiates-canonical")])
    assert [one.reference for one in page.included] == ["PlanDefinition/p"]
    await records.put(
        {"resourceType": "Library", "id": "l1", "url": "http://x.vn/l", "version": "1", "status": "active"},
        {"resourceType": "Library", "id": "l2", "status": "active"},
        {"resourceType": "Device", "id": "d", "url": "http://x.vn/l"},  # where it can be reached, not what it is
        {"resourceType": "Measure", "id": "m", "status": "active", "relatedArtifact": [
            {"type": "depends-on", "resource": one} for one in ("http://x.vn/l|1", "http://x.vn/l", "Library/l2")]},
    )  # fmt: skip
    page = await records.page("Measure", [("_include", "Measure:depends-on")])
    assert {one.reference for one in page.included} == {"Library/l1", "Library/l2"}
    for name, value in (("_revinclude", by[1]), ("_include", "ConceptMap:source-uri")):
        with pytest.raises(NotSupported) as refused:
            await records.page("Questionnaire", [(name, value)])
        assert refused.value.issues[0].at == name


async def test_a_wildcard_follows_a_union_that_points_to_more(database: Database) -> None:
    """DeviceUseStatement:subject is stored as DeviceUseStatement:patient, which R4 lets point to a Patient alone."""
    records = Records(database)
    used = {"resourceType": "DeviceUseStatement", "id": "u", "status": "active", "subject": {"reference": "Group/g"}}
    await records.put({"resourceType": "Group", "id": "g", "type": "person", "actual": True}, used)
    page = await records.page("DeviceUseStatement", [("_include", "*")])
    assert [one.reference for one in page.included] == ["Group/g"]
    page = await records.page("Group", [("_revinclude", "*")])
    assert [one.reference for one in page.included] == ["DeviceUseStatement/u"]


@pytest.mark.parametrize("step", ["Condition:patient", "Condition:asserter", "*"])
async def test_what_points_to_a_page_is_looked_up(
    database: Database, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Its LIMIT would tempt the planner to walk all of a type until it has met what it looks for."""
    asked: list[str] = []

    async def fetch(connection: Connection, statement: IncludedOf, to: Values) -> Sequence[Row]:
        asked.append(statements.sql_of(statement).text)
        return await statements.fetch(connection, statement, to)

    monkeypatch.setattr(include, "fetch", fetch)
    records = Records(database)
    await records.put(
        *store([(1, 2)]), {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p1"}}
    )
    page = await records.page("Patient", [("_id", "p1"), ("_revinclude", step)])
    assert ("Condition/c" in {one.reference for one in page.included}) is (step != "Condition:asserter")
    (text,) = asked
    looked_up, _, _ = text.partition("LIMIT")
    assert "AS MATERIALIZED" in looked_up
    assert ".shard = " in text or step != "Condition:patient", "a patient's own lie in its shard"
