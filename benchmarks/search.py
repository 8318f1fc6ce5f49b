"""Kinds of searches over stores of growing size, in the database: how long each takes, and how many statements it is.

Run:     python -m benchmarks.search [--resources 20000[,200000,…]] [--times 200] [--keep FOLDER]
Out:     of each size, milliseconds that half of the searches and nineteen of twenty are faster than: of the statements
         alone, and of the whole search by a caller (parsed, planned, rows decompressed, its audit row committed); rows
         and statements. Then each kind's growth, from the first size of LIMIT_FROM resources or more
Limit:   nineteen of twenty take at most LIMIT_MS in the database, and in a larger store at most GROWTH_MAX times as
         long as in the smaller one; exit code 1 where a kind is over it
Rest:    measured after vacuum, analyze and a checkpoint: what loading leaves to do is not the searches'
How:     every search is asked three times and the fastest counts: the others say how busy the machine was, the spread
         that is left is that of the searches themselves
Keep:    a folder whose store is used again and made larger, because two million resources take minutes to load
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
from collections.abc import Awaitable, Callable, Iterator
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

    def line(self, name: str) -> str:
        shown = "".join(self._of(found) for found in (self.database, self.whole))
        return f"{name:38}{shown}{statistics.mean(self.rows):8.0f}{self.statements:6}"

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


async def deep(record: Record, times: int) -> Times:
    """The page after DEEP others of one search by date."""
    query = [("date", "ge2007"), ("_sort", "date"), ("_count", "20")]
    skipped, measured = Times(), Times()
    cursor = await ask(record, skipped, "Encounter", query)
    for _ in range(DEEP - 1):
        assert cursor is not None, "the store has that many pages"
        cursor = await ask(record, skipped, "Encounter", [*query, ("_cursor", cursor)])
    assert cursor is not None, "the store has one more"
    for _ in range(times // 4):
        await ask(record, measured, "Encounter", [*query, ("_cursor", cursor)])
    return measured


async def other(act: Callable[[int], Awaitable[int]], times: int) -> Times:
    """What is no search: only whole, as a caller's."""
    found = Times(statements=1)
    for number in range(times):
        found.rows.append(await act(number))
        found.whole.append(await fastest(functools.partial(act, number)))
    return found


async def measure(record: Record, store: Store, times: int) -> dict[str, float]:
    """Prints a line for each kind; what nineteen of twenty take in the database."""

    async def one(number: int) -> int:
        await read(record, CALLER, "Patient", store.city.patient_id(store.some(number)))
        return 1

    async def all_of(number: int) -> int:
        patient = store.city.patient_id(store.some(number))
        found = await everything(record, CALLER, "Patient", patient, Wanted(count=200))
        return len(found.matches) + len(found.included)

    print(f"{store.resources:,} resources of {store.patients:,} patients, {times} times each")
    print(f"{'':38}{'statements alone':>18}{'a caller, audited':>18}{'rows':>8}{'statements':>12}")
    print(f"{'milliseconds':38}{'p50':>9}{'p95':>9}{'p50':>9}{'p95':>9}")
    print((await other(one, times)).line("read by id"), flush=True)
    found: dict[str, Times] = {}
    for name, type_name, query in shapes(store):
        found[name] = Times()
        for number in range(times):
            await ask(record, found[name], type_name, query(number), None if name in FIRST else record.counts)
        print(found[name].line(name), flush=True)
    found[f"Encounter?date, page {DEEP + 1}"] = last = await deep(record, times)
    print(last.line(f"Encounter?date, page {DEEP + 1}"), flush=True)
    print((await other(all_of, times)).line("$everything of a patient"), flush=True)
    return {name: one.p95_ms for name, one in found.items()}


def judged(sizes: list[int], measured: list[dict[str, float]]) -> bool:
    """Prints the growth of each kind; whether all that have a limit are within it."""
    judging = [number for number, size in enumerate(sizes) if size >= LIMIT_FROM]
    print(f"{'p95 ms in the database, at':38}" + "".join(f"{size:>12,}" for size in sizes) + "      growth")
    within = True
    for name in measured[0]:
        line = "".join(f"{one[name]:12.2f}" for one in measured)
        growth = measured[judging[-1]][name] / measured[judging[0]][name] if len(judging) > 1 else 1.0
        over = bool(judging) and (measured[judging[0]][name] > LIMIT_MS or growth > GROWTH_MAX)
        within &= not over or name in FIRST
        print(f"{name:38}{line}{growth:12.2f}{'  over' if over and name not in FIRST else ''}")
    return within


async def run(folder: Path, sizes: list[int], times: int) -> bool:
    store = Store.at(folder)
    postgres = EmbeddedPostgres(folder)
    url = await postgres.start()
    measured = []
    try:
        await migrate.upgrade(url)
        for size in sizes:
            await store.grow(url, size)
            record = await open_record(Settings(data_dir=folder), url)
            try:
                async with record.database.acquire() as connection:
                    await connection.execute("set statement_timeout = 0")
                    await connection.execute("vacuum analyze")
                    await connection.execute("checkpoint")
                    await connection.execute("reset statement_timeout")
                measured.append(await measure(record, store, times))
            finally:
                await record.close()
        return judged(sizes, measured)
    finally:
        await postgres.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description="searches in the database")
    parser.add_argument("--resources", default="20000", help="20000, or 200000,500000,1000000,2000000 for growth")
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the store is, or is to be")
    given = parser.parse_args()
    sizes = [int(size) for size in given.resources.split(",")]
    with scratch(given.keep) as folder:
        return int(not asyncio.run(run(folder, sizes, given.times)))


if __name__ == "__main__":
    sys.exit(main())
