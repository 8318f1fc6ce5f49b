"""Pages: nothing twice, nothing left out, nothing new, whatever others write meanwhile; cursors cannot be made up."""

import pytest

from ehr import limits
from ehr.database.engine import Database
from ehr.errors import Invalid
from ehr.search.lower import Lowering, typed
from ehr.search.order import keys_of
from ehr.search.page import Page
from ehr.search.parse import parse
from ehr.search.plan import plan
from ehr.search.shape import Values
from ehr.search.shape_statements import PageOf
from ehr.search.statements import sql_of
from tests.search.store import EVERYTHING, Records

COUNT = 23


def observation(number: int) -> dict[str, object]:
    made: dict[str, object] = {
        "resourceType": "Observation",
        "id": f"n{number:03}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": f"c{number % 3}"}]},
        "subject": {"reference": f"Patient/p{number % 5}"},
        "valueQuantity": {"value": number % 7},
    }
    if number % 4:
        made["effectiveDateTime"] = f"2026-03-{1 + number % 9:02}"
    return made


@pytest.fixture
async def records(database: Database) -> Records:
    made = Records(database)
    await made.put(*(observation(number) for number in range(COUNT)))
    return made


async def walk(records: Records, query: list[tuple[str, str]], *, disturb: bool = False) -> list[Page]:
    pages = [await records.page("Observation", query)]
    written = 100
    while (cursor := pages[-1].next_cursor) is not None:
        if disturb:
            await records.put(*(observation(number) for number in range(written, written + 3)))
            written += 3
        pages.append(await records.page("Observation", [*query, ("_cursor", cursor)]))
        assert len(pages) <= COUNT + 1
    return pages


SORTS = ("", "date", "-date", "_lastUpdated", "-_id", "-date,_id", "value-quantity", "-value-quantity,date", "_id",
         "code", "-subject,date", "status,-code,-value-quantity", "-_profile")  # fmt: skip


@pytest.mark.parametrize(
    ("sort", "count"), [*((sort, 4) for sort in SORTS), ("", 1), ("-date", 1), ("-date", 23), ("date", 24)]
)
async def test_pages_are_the_whole_in_order_while_others_write(records: Records, sort: str, count: int) -> None:
    sorting = [("_sort", sort)] if sort else []
    whole = [one.id for one in (await records.page("Observation", [*sorting, ("_count", "1000")])).matches]
    assert len(whole) == COUNT
    assert len(set(whole)) == COUNT
    pages = await walk(records, [*sorting, ("_count", str(count))], disturb=True)
    assert [one.id for page in pages for one in page.matches] == whole
    assert all(len(page.matches) == count for page in pages[:-1])


@pytest.mark.parametrize("query", [[], [("date", "ge2026-03-04")]])
async def test_a_value_that_orders_is_looked_up_once_a_row(records: Records, query: list[tuple[str, str]]) -> None:
    """A page has two keys of it: whether there is one, and which."""
    to = Values()
    asked = plan(parse("Observation", [*query, ("_sort", "value-quantity")]), EVERYTHING)
    clauses, narrow = Lowering(records.hasher, EVERYTHING).plan(to, asked)
    page = PageOf(tuple(clauses), typed(to, asked.types), narrow, keys_of(to, asked, None), True, None, to.add(21))
    sql = sql_of(page)
    async with records.database.acquire() as connection:
        rows = await connection.fetch(f"EXPLAIN {sql.text}", *sql.arguments(to))
    looked = [row[0] for row in rows if "quantity_index" in row[0] and " on " in row[0]]
    assert len(looked) == 1, looked


@pytest.mark.parametrize("sort", SORTS)
async def test_previous_pages_are_the_same_pages(records: Records, sort: str) -> None:
    query = [*([("_sort", sort)] if sort else []), ("_count", "5")]
    pages = await walk(records, query)
    forward = [[one.id for one in page.matches] for page in pages]
    back, cursor = [forward[-1]], pages[-1].previous_cursor
    while cursor is not None:
        page = await records.page("Observation", [*query, ("_cursor", cursor)])
        if not page.matches:
            break
        back.append([one.id for one in page.matches])
        cursor = page.previous_cursor
    assert [one for page in reversed(back) for one in page] == [one for page in forward for one in page]


async def test_the_total_is_counted_once(records: Records) -> None:
    first = await records.page("Observation", [("_total", "accurate"), ("_count", "5")])
    await records.put(observation(500))
    assert first.next_cursor
    second = await records.page(
        "Observation", [("_total", "accurate"), ("_count", "5"), ("_cursor", first.next_cursor)]
    )
    assert (first.total, second.total) == (COUNT, COUNT)


async def test_a_cursor_belongs_to_its_search_and_its_server(records: Records) -> None:
    page = await records.page("Observation", [("code", "c1"), ("_count", "2")])
    assert page.next_cursor
    with pytest.raises(Invalid, match="another search"):
        await records.page("Observation", [("code", "c2"), ("_cursor", page.next_cursor)])
    changed = page.next_cursor[:-4] + ("AAAA" if page.next_cursor[-4:] != "AAAA" else "BBBB")
    for text in (changed, "", "%%%", "AAAA", page.next_cursor[:20]):
        with pytest.raises(Invalid):
            await records.page("Observation", [("code", "c1"), ("_cursor", text)])


async def test_too_many_includes_shorten_the_page(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cut silently: the page ends earlier, and its next link goes on from there."""
    monkeypatch.setattr(limits, "include_count_max", 8)
    patients = [{"resourceType": "Patient", "id": f"p{number}"} for number in range(5)]
    await records.put(*patients)
    found: dict[str, set[str]] = {}
    query = [("_count", "5"), ("_revinclude", "Observation:patient")]
    page = await records.page("Patient", query)
    pages = 1
    while True:
        for one in page.matches:
            found[one.id] = {other.id for other in page.included if f'"Patient/{one.id}"'.encode() in other.body}
        if page.next_cursor is None:
            break
        page = await records.page("Patient", [*query, ("_cursor", page.next_cursor)])
        pages += 1
        assert not page.issues
    assert pages > 1
    assert found == {
        f"p{patient}": {f"n{number:03}" for number in range(COUNT) if number % 5 == patient} for patient in range(5)
    }
