"""Kinds of searches over a made store, in the database: how long each takes, and how many statements it is.

Run:     python -m benchmarks.search [--resources 20000] [--times 200]
Out:     milliseconds, half of the searches and nineteen of twenty are faster: of the statements alone, and of the
         whole search by a caller (parsed, planned, rows decompressed, its audit row committed); rows and statements
Why:     these order the kinds of searches and show a plan gone wrong; they are wall time on a store that fits in memory
Access:  the whole search is a client's, with its grants
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks import _city
from ehr.access.policy import ALL_GRANTS, Caller
from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.interactions.read import read
from ehr.interactions.search import search
from ehr.operations.everything import Wanted, everything
from ehr.record import open_record
from ehr.search.page import search as search_page
from ehr.search.parse import parse
from ehr.search.plan import plan
from ehr.settings import Settings
from ehr.store.record import Record

CALLER: Final = Caller("client", "benchmark", ALL_GRANTS)
OF_PATIENT: Final = {"Patient": 1, "Encounter": 2, "Condition": 3, "Observation": 14}
CODES: Final = 300
FAMILIES: Final = ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Vũ", "Đặng", "Bùi", "Đỗ", "Ngô")
NUMBER: Final = "http://fhir.ehealth.gov.vn/core/sid/patient-internal-id"
LOINC: Final = "http://loinc.org"
DEEP: Final = 50

Query = list[tuple[str, str]]


# ---- the store


def spread(number: int, below: int) -> int:
    """A number that has nothing to do with its neighbours."""
    return int((number * 2_654_435_761 % 2**32) >> 7) % below


def day(number: int) -> str:
    made = spread(number, 7_200)
    return f"{2006 + made // 360}-{made // 30 % 12 + 1:02}-{made % 28 + 1:02}T08:00:00+07:00"


def code(number: int) -> str:
    """A tenth of all have the first code, the others are rare."""
    return "0-1" if number % 10 == 0 else f"{spread(number, CODES)}-1"


def resource(type_name: str, number: int) -> dict[str, Any]:
    made: dict[str, Any] = {"resourceType": type_name, "id": f"{type_name[0].lower()}{number}"}
    subject = {"reference": f"Patient/p{number // OF_PATIENT[type_name]}"}
    match type_name:
        case "Patient":
            name = {"family": FAMILIES[spread(number, 10)], "given": ["Thị", f"Đào{number % 500}"]}
            return made | {"identifier": [{"system": NUMBER, "value": f"{number:08}"}], "name": [name]}
        case "Encounter":
            period = {"start": day(number), "end": day(number)}
            made |= {"status": "finished", "class": {"code": "AMB"}, "period": period}
        case "Condition":
            made |= {"code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": f"J{number % 99}"}]}}
        case _:
            made |= {"status": "final", "code": {"coding": [{"system": LOINC, "code": code(number)}]}}
            made |= {"effectiveDateTime": day(number), "valueQuantity": {"value": number % 90, "unit": "mmol/L"}}
    return made | {"subject": subject}


async def load(url: str, folder: Path, patients: int) -> None:
    """Through the import, as a city is loaded."""
    source = folder / "ndjson"
    source.mkdir()
    for type_name, each in OF_PATIENT.items():
        with (source / f"{type_name}.ndjson").open("wb") as file:
            file.writelines(orjson.dumps(resource(type_name, n)) + b"\n" for n in range(patients * each))
    assert await _city.load(url, folder, source) == patients * sum(OF_PATIENT.values())


# ---- the measure


@dataclass
class Timed:
    """A connection that adds up the time of its statements."""

    connection: Any
    seconds: float = 0.0
    statements: int = 0

    async def fetch(self, *arguments: Any) -> Any:
        return await self._run(self.connection.fetch, arguments)

    async def fetchrow(self, *arguments: Any) -> Any:
        return await self._run(self.connection.fetchrow, arguments)

    async def fetchval(self, *arguments: Any) -> Any:
        return await self._run(self.connection.fetchval, arguments)

    async def _run(self, act: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...]) -> Any:
        began = time.perf_counter()
        found = await act(*arguments)
        self.seconds += time.perf_counter() - began
        self.statements += 1
        return found


@dataclass
class Times:
    """Milliseconds of one kind of search."""

    database: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    statements: int = 0

    def line(self, name: str) -> str:
        shown = "".join(self._of(found) for found in (self.database, self.whole))
        return f"{name:38}{shown}{statistics.mean(self.rows):8.0f}{self.statements:6}"

    def _of(self, found: list[float]) -> str:
        if not found:
            return f"{'':18}"
        ordered = sorted(found)
        return f"{statistics.median(ordered):9.2f}{ordered[int(len(ordered) * 0.95)]:9.2f}"


Shape = tuple[str, str, Callable[[int], Query]]


def shapes(patients: int) -> Iterator[Shape]:
    def some(number: int) -> int:
        return spread(number + 1, patients)

    def rare(number: int) -> str:
        return f"{LOINC}|{code(some(number) * 10 + 3)}"

    def own(number: int) -> Query:
        """A code that the patient has."""
        patient = some(number)
        return [("patient", f"p{patient}"), ("code", f"{LOINC}|{code(patient * OF_PATIENT['Observation'] + 3)}")]

    def newest(number: int) -> Query:
        return [("patient", f"p{some(number)}"), ("date", "ge2010"), ("_sort", "-date"), ("_count", "20")]

    yield "Patient?identifier", "Patient", lambda n: [("identifier", f"{NUMBER}|{some(n):08}")]
    yield "Patient?family, a prefix", "Patient", lambda n: [("family", FAMILIES[n % 10][:2]), ("_count", "20")]
    yield "Observation?patient&code", "Observation", own
    yield "Observation?patient&date, newest 20", "Observation", newest
    yield "Encounter?date, a year", "Encounter", lambda n: [("date", f"{2008 + n % 15}"), ("_sort", "date")]
    yield "Condition?code", "Condition", lambda n: [("code", f"J{n % 99}"), ("_count", "20")]
    yield "Observation?code, a popular one", "Observation", lambda _: [("code", f"{LOINC}|0-1"), ("_count", "20")]
    yield "Observation?code, newest 20", "Observation", lambda n: [("code", rare(n)), ("_sort", "-date")]
    yield (
        "Observation?patient.identifier",
        "Observation",
        lambda n: [("patient.identifier", f"{NUMBER}|{some(n):08}"), ("_count", "20")],
    )
    yield "Patient?_has:Observation:patient:code", "Patient", lambda n: [("_has:Observation:patient:code", rare(n))]
    yield (
        "Observation?patient&code, _include",
        "Observation",
        lambda n: [*own(n), ("_include", "Observation:subject")],
    )
    yield (
        "count of a popular code",
        "Observation",
        lambda _: [("code", f"{LOINC}|0-1"), ("_summary", "count")],
    )
    yield "count of a type", "Observation", lambda _: [("_summary", "count")]


async def ask(record: Record, times: Times, type_name: str, query: Query) -> str | None:
    """One search, alone and as a caller's; the cursor of the next page."""
    async with record.reading(CALLER) as uow:
        timed: Any = Timed(uow.connection)
        planned = plan(parse(type_name, query), uow.access)
        page = await search_page(timed, planned, installation=record.installation, bodies=record.bodies)
    times.database.append(timed.seconds * 1e3)
    times.statements = timed.statements
    times.rows.append(page.total if page.total is not None else len(page.matches) + len(page.included))
    began = time.perf_counter()
    await search(record, CALLER, type_name, query)
    times.whole.append((time.perf_counter() - began) * 1e3)
    return page.next_cursor


async def deep(record: Record, times: int) -> Times:
    """The page after DEEP others of one search by date."""
    query = [("date", "ge2007"), ("_sort", "date"), ("_count", "20")]
    skipped, measured = Times(), Times()
    cursor = await ask(record, skipped, "Encounter", query)
    for _ in range(DEEP - 1):
        assert cursor is not None, "the store has that many pages"
        cursor = await ask(record, skipped, "Encounter", [*query, ("_cursor", cursor)])
    assert cursor is not None, "the store has one more"
    for _ in range(times):
        await ask(record, measured, "Encounter", [*query, ("_cursor", cursor)])
    return measured


async def other(act: Callable[[int], Awaitable[int]], times: int) -> Times:
    """What is no search: only whole, as a caller's."""
    found = Times(statements=1)
    for number in range(-times // 10, times):
        began = time.perf_counter()
        rows = await act(number)
        if number >= 0:
            found.whole.append((time.perf_counter() - began) * 1e3)
            found.rows.append(rows)
    return found


async def measure(record: Record, patients: int, times: int) -> None:
    async def one(number: int) -> int:
        await read(record, CALLER, "Patient", f"p{spread(number + 1, patients)}")
        return 1

    async def all_of(number: int) -> int:
        found = await everything(record, CALLER, "Patient", f"p{spread(number + 1, patients)}", Wanted(count=200))
        return len(found.matches) + len(found.included)

    print(f"{'':38}{'statements alone':>18}{'a caller, audited':>18}{'rows':>8}{'statements':>12}")
    print(f"{'milliseconds':38}{'p50':>9}{'p95':>9}{'p50':>9}{'p95':>9}")
    print((await other(one, times)).line("read by id"), flush=True)
    for name, type_name, query in shapes(patients):
        warm, found = Times(), Times()
        for number in range(times // 10):
            await ask(record, warm, type_name, query(number))
        for number in range(times):
            await ask(record, found, type_name, query(number))
        print(found.line(name), flush=True)
    if patients * OF_PATIENT["Encounter"] > (DEEP + 2) * 20:
        print((await deep(record, times)).line(f"Encounter?date, page {DEEP + 1}"), flush=True)
    print((await other(all_of, times)).line("$everything of a patient"), flush=True)


async def run(folder: Path, resources: int, times: int) -> None:
    patients = max(resources // sum(OF_PATIENT.values()), 1)
    postgres = EmbeddedPostgres(folder)
    url = await postgres.start()
    try:
        await migrate.upgrade(url)
        await load(url, folder, patients)
        record = await open_record(Settings(data_dir=folder), url)
        try:
            async with record.database.acquire() as connection:
                await connection.execute("analyze")
            print(f"{patients * sum(OF_PATIENT.values()):,} resources of {patients:,} patients, {times} times each")
            await measure(record, patients, times)
        finally:
            await record.close()
    finally:
        await postgres.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="searches in the database")
    parser.add_argument("--resources", type=int, default=20_000, help="20000, or 200000 for a store with room in it")
    parser.add_argument("--times", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ehr-bench-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        asyncio.run(run(folder, given.resources, given.times))


if __name__ == "__main__":
    main()
