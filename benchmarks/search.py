"""Kinds of searches over stores of growing size, in the database: how long each takes, and how many statements it is.

Run:     python -m benchmarks.search [--resources 20000[,200000,…]] [--times 200] [--keep FOLDER]
Out:     of each kind and size, milliseconds that half of the searches and nineteen of twenty are faster than: of the
         statements alone, and of the whole search by a caller (parsed, planned, rows decompressed, its audit row
         committed); rows and statements; and how many times as long nineteen of twenty take in the database as in the
         first store of LIMIT_FROM resources or more
Limit:   nineteen of twenty take at most LIMIT_MS in the database, and in a larger store at most GROWTH_MAX times as
         long as in the smaller one; exit code 1 where a kind is over it
Rest:    measured after vacuum, analyze and a checkpoint: what loading leaves to do is not the searches'
How:     each size is a store with a server of its own, and each search is asked of one after another, so that an hour
         in which everything takes longer is no growth; three times each, and the fastest counts: the others say how
         busy the machine was, the spread that is left is that of the searches themselves
Keep:    a folder whose stores are used again, because two million resources take minutes to load
Access:  the whole search is a client's, with its grants
"""

import argparse
import asyncio
import functools
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks import _city
from benchmarks._city import City, spread
from benchmarks._scratch import scratch
from ehr.access.policy import ALL_GRANTS, Caller
from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.interactions.read import read
from ehr.interactions.search import reading, search
from ehr.operations.everything import Wanted, everything
from ehr.record import open_record
from ehr.search.page import Page
from ehr.search.page import search as search_page
from ehr.search.parse import parse
from ehr.search.plan import plan
from ehr.settings import Settings
from ehr.store.counts import Counts
from ehr.store.record import Record

CALLER: Final = Caller("client", "benchmark", ALL_GRANTS)
LIMIT_MS: Final = 5.0
LIMIT_FROM: Final = 200_000
GROWTH_MAX: Final = 1.5
FIRST: Final = frozenset({"count of a popular code, first", "count of a type, first"})
"""The first count of a process visits what it counts: alone, these grow with what there is, and have no limit."""
DEEP: Final = 50
TRIES: Final = 3

Query = list[tuple[str, str]]


# ---- the store


@dataclass
class Store:
    """A city, as far as it is loaded."""

    city: City
    folder: Path
    patients: int = 0
    resources: int = 0

    @classmethod
    def at(cls, folder: Path) -> "Store":
        made, place = cls(_city.city(), folder), folder / "loaded.json"
        if place.exists():
            made.patients, made.resources = orjson.loads(place.read_bytes())
        return made

    async def grow(self, url: str, resources: int) -> None:
        """Through the import, as a city is loaded."""
        if resources <= self.resources:
            return
        source = self.folder / "ndjson"
        written = self.city.write(source, resources - self.resources, first=self.patients)
        began = time.perf_counter()
        self.resources += await _city.load(url, self.folder, source)
        self.patients = written.end
        (self.folder / "loaded.json").write_bytes(orjson.dumps([self.patients, self.resources]))
        shutil.rmtree(source)
        shutil.rmtree(self.folder / "imports", ignore_errors=True)
        print(f"loaded {written.resources:,} in {time.perf_counter() - began:.0f} s", flush=True)

    def some(self, number: int) -> int:
        """A patient."""
        return spread(number + 1, self.patients)

    def code_of(self, number: int) -> str:
        """A code that a patient has."""
        codes = self.city.group(number).codes["Observation"]
        return codes[spread(number, len(codes))]

    def ranked(self, type_name: str) -> list[str]:
        """Codes of a type, the most frequent first."""
        counted = Counter(code for group in self.city.groups for code in group.codes.get(type_name, ()))
        return [code for code, _ in counted.most_common()]


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

    def is_in_transaction(self) -> bool:
        return bool(self.connection.is_in_transaction())

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

    @property
    def line(self) -> str:
        shown = "".join(self._of(found) for found in (self.database, self.whole))
        return f"{shown}{statistics.mean(self.rows):8.0f}{self.statements:6}"

    @property
    def p95_ms(self) -> float:
        return sorted(self.database)[int(len(self.database) * 0.95)]

    def _of(self, found: list[float]) -> str:
        if not found:
            return f"{'':18}"
        ordered = sorted(found)
        return f"{statistics.median(ordered):9.2f}{ordered[int(len(ordered) * 0.95)]:9.2f}"


Shape = tuple[str, str, Callable[[int], Query]]


def shapes(store: Store) -> Iterator[Shape]:
    some = store.some
    codes, conditions = store.ranked("Observation"), store.ranked("Condition")
    popular, middle, rare = codes[0], codes[len(codes) // 2], codes[len(codes) * 9 // 10]

    def patient(number: int) -> tuple[str, str]:
        return "patient", store.city.patient_id(some(number))

    def own(number: int) -> Query:
        """A code that the patient has."""
        return [patient(number), ("code", store.code_of(some(number)))]

    def newest(number: int) -> Query:
        return [patient(number), ("date", "ge2010"), ("_sort", "-date"), ("_count", "20")]

    def newest_of(code: str) -> Query:
        return [("code", code), ("_sort", "-date")]

    def any_code(number: int) -> str:
        return codes[spread(number, len(codes))]

    yield "Patient?identifier", "Patient", lambda n: [("identifier", f"{_city.NUMBER}|{some(n):08}")]
    yield "Patient?family, a prefix", "Patient", lambda n: [("family", _city.FAMILIES[n % 10][:2]), ("_count", "20")]
    yield "Observation?patient&code", "Observation", own
    yield "Observation?patient&date, newest 20", "Observation", newest
    yield "Encounter?date, a year", "Encounter", lambda n: [("date", f"{2008 + n % 12}"), ("_sort", "date")]
    yield "Condition?code", "Condition", lambda n: [("code", conditions[n % len(conditions)]), ("_count", "20")]
    yield "Observation?code, a popular one", "Observation", lambda _: [("code", popular), ("_count", "20")]
    yield "Observation?code, newest, popular", "Observation", lambda _: newest_of(popular)
    yield "Observation?code, newest, middle", "Observation", lambda _: newest_of(middle)
    yield "Observation?code, newest, rare", "Observation", lambda _: newest_of(rare)
    yield "Observation?code, newest, any", "Observation", lambda n: newest_of(any_code(n))
    yield (
        "Observation?patient.identifier",
        "Observation",
        lambda n: [("patient.identifier", f"{_city.NUMBER}|{some(n):08}"), ("_count", "20")],
    )
    yield (
        "Patient?_has:Observation:patient:code",
        "Patient",
        lambda n: [("_has:Observation:patient:code", any_code(n)), ("_count", "20")],
    )
    yield (
        "Observation?patient&code, _include",
        "Observation",
        lambda n: [*own(n), ("_include", "Observation:subject")],
    )
    for which in ("", ", first"):
        yield f"count of a popular code{which}", "Observation", lambda _: [("code", popular), ("_summary", "count")]
        yield f"count of a type{which}", "Observation", lambda _: [("_summary", "count")]


async def ask(record: Record, times: Times, type_name: str, query: Query, counts: Counts | None = None) -> str | None:
    """One search, alone and as a caller's; the cursor of the next page. counts: those it is carried on from, alone."""
    request = parse(type_name, query)
    async with reading(record, CALLER, request) as uow:
        timed: Any = Timed(uow.connection)
        planned = plan(request, uow.access)
        page, alone = Page(), []
        for _ in range(TRIES):
            timed.seconds, timed.statements = 0.0, 0
            page = await search_page(
                timed, planned, installation=record.installation, bodies=record.bodies, counts=counts
            )
            alone.append(timed.seconds * 1e3)
    times.database.append(min(alone))
    times.whole.append(await fastest(lambda: search(record, CALLER, type_name, query)))
    times.statements = timed.statements
    times.rows.append(page.total if page.total is not None else len(page.matches) + len(page.included))
    return page.next_cursor


async def fastest(act: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds."""
    taken = []
    for _ in range(TRIES):
        began = time.perf_counter()
        await act()
        taken.append((time.perf_counter() - began) * 1e3)
    return min(taken)


@dataclass
class Searched:
    """One store while its searches are measured."""

    store: Store
    record: Record

    async def ask(self, times: Times, kind: str, type_name: str, query: Query) -> str | None:
        return await ask(self.record, times, type_name, query, None if kind in FIRST else self.record.counts)

    async def page_of(self, deep: int) -> Query:
        """A search by date, after so many pages."""
        query = [("date", "ge2007"), ("_sort", "date"), ("_count", "20")]
        cursor = await ask(self.record, Times(), "Encounter", query)
        for _ in range(deep - 1):
            assert cursor is not None, "the store has that many pages"
            cursor = await ask(self.record, Times(), "Encounter", [*query, ("_cursor", cursor)])
        assert cursor is not None, "the store has one more"
        return [*query, ("_cursor", cursor)]

    async def one(self, number: int) -> int:
        await read(self.record, CALLER, "Patient", self._patient(number))
        return 1

    async def all_of(self, number: int) -> int:
        found = await everything(self.record, CALLER, "Patient", self._patient(number), Wanted(count=200))
        return len(found.matches) + len(found.included)

    def _patient(self, number: int) -> str:
        return self.store.city.patient_id(self.store.some(number))


async def measure(cities: list[Searched], times: int) -> bool:
    """Prints some lines for each kind; whether all that have a limit are within it."""
    for one in cities:
        print(f"{one.store.resources:,} resources of {one.store.patients:,} patients")
    print(f"{times} times each{'':36}{'statements alone':>18}{'a caller, audited':>18}{'rows':>8}{'statements':>12}")
    print(f"{'milliseconds':48}{'p50':>9}{'p95':>9}{'p50':>9}{'p95':>9}{'growth':>22}")
    within = True
    await whole("read by id", cities, Searched.one, times)
    for kinds in zip(*(shapes(one.store) for one in cities), strict=True):
        found, name = [Times() for _ in cities], kinds[0][0]
        for number in range(times):
            for one, of_one, (_, type_name, query) in zip(cities, found, kinds, strict=True):
                await one.ask(of_one, name, type_name, query(number))
        within &= judged(name, cities, found)
    found, name = [Times() for _ in cities], f"Encounter?date, page {DEEP + 1}"
    pages = [await one.page_of(DEEP) for one in cities]
    for _ in range(times // 4):
        for one, of_one, page in zip(cities, found, pages, strict=True):
            await one.ask(of_one, name, "Encounter", page)
    within &= judged(name, cities, found)
    await whole("$everything of a patient", cities, Searched.all_of, times)
    return within


async def whole(kind: str, cities: list[Searched], act: Callable[[Searched, int], Awaitable[int]], times: int) -> None:
    """What is no search: only as a caller's."""
    found = [Times(statements=1) for _ in cities]
    for number in range(times):
        for one, of_one in zip(cities, found, strict=True):
            of_one.rows.append(await act(one, number))
            of_one.whole.append(await fastest(functools.partial(act, one, number)))
    for one, of_one in zip(cities, found, strict=True):
        print(f"{kind:38}{one.store.resources:10,}{of_one.line}", flush=True)


def judged(kind: str, cities: list[Searched], found: list[Times]) -> bool:
    """Prints a kind in each store; whether it is within the limits."""
    within, smaller = True, 0.0
    for one, of_one in zip(cities, found, strict=True):
        smaller = smaller or (of_one.p95_ms if one.store.resources >= LIMIT_FROM else 0.0)
        growth = of_one.p95_ms / smaller if smaller else 1.0
        over = kind not in FIRST and bool(smaller) and (smaller > LIMIT_MS or growth > GROWTH_MAX)
        within &= not over
        said = f"{one.store.resources:10,}{of_one.line}{growth:8.2f}{'  over' if over else ''}"
        print(f"{kind:38}{said}", flush=True)
    return within


@asynccontextmanager
async def opened(folder: Path, size: int) -> AsyncIterator[Searched]:
    """A store of this size, loaded where it is not, and at rest."""
    store, postgres = Store.at(folder), EmbeddedPostgres(folder)
    url = await postgres.start()
    try:
        await migrate.upgrade(url)
        await store.grow(url, size)
        record = await open_record(Settings(data_dir=folder), url)
        try:
            async with record.database.acquire() as connection:
                await connection.execute("set statement_timeout = 0")
                await connection.execute("vacuum analyze")
                await connection.execute("checkpoint")
                await connection.execute("reset statement_timeout")
            yield Searched(store, record)
        finally:
            await record.close()
    finally:
        await postgres.stop()


async def run(folder: Path, sizes: list[int], times: int) -> bool:
    async with AsyncExitStack() as stack:
        folders = [stack.enter_context(scratch(folder / str(size))) for size in sizes]
        cities = [await stack.enter_async_context(opened(*one)) for one in zip(folders, sizes, strict=True)]
        return await measure(cities, times)


def main() -> int:
    parser = argparse.ArgumentParser(description="searches in the database")
    parser.add_argument("--resources", default="20000", help="20000, or 200000,2000000 for growth")
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the stores are, or are to be")
    given = parser.parse_args()
    sizes = [int(size) for size in given.resources.split(",")]
    with scratch(given.keep) as folder:
        return int(not asyncio.run(run(folder, sizes, given.times)))


if __name__ == "__main__":
    sys.exit(main())
