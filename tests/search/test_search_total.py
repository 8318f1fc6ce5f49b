"""Counts that are carried on from one search to the next are those that a look at every row gives."""

import random
from typing import Any

import pytest

from ehr.access.policy import Caller
from ehr.fhir import codec
from ehr.interactions.search import search
from ehr.search import total
from ehr.store import counts
from ehr.store.counts import Counts
from ehr.store.record import Record

CALLER = Caller.system("test")
STATUSES = ("final", "amended", "corrected")
CODES = ("a", "b")
ASKED: tuple[dict[str, str], ...] = (
    {},
    {"status": "final"},
    {"status": "final,amended"},
    {"status:not": "final"},
    {"code": "a", "status": "final"},
    {"code:not": "a", "status": "corrected,amended"},
)


@pytest.fixture(autouse=True)
def keep_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "KEPT_FROM", 0)


@pytest.fixture
async def held(record: Record) -> dict[str, tuple[str, str]]:
    """Ids → code and status of what stands; the record begins with some of each."""
    standing: dict[str, tuple[str, str]] = {}
    for number in range(12):
        await put(record, standing, f"o{number}", CODES[number % 2], STATUSES[number % 3])
    return standing


async def put(record: Record, standing: dict[str, tuple[str, str]], id: str, code: str, status: str) -> None:
    tree = {
        "resourceType": "Observation",
        "id": id,
        "status": status,
        "code": {"coding": [{"system": "http://x", "code": code}]},
    }
    await record.write(CALLER, lambda uow: uow.resources.update("Observation", id, codec.dumps(tree), tree))
    standing[id] = code, status


async def counted(record: Record, query: dict[str, str]) -> int | None:
    found = await search(record, CALLER, "Observation", [*query.items(), ("_summary", "count")])
    return found.page.total


def expected(standing: dict[str, tuple[str, str]], query: dict[str, str]) -> int:
    def holds(code: str, status: str) -> bool:
        said = {"code": code, "status": status}
        return all(
            (said[name.removesuffix(":not")] in values.split(",")) != name.endswith(":not")
            for name, values in query.items()
        )

    return sum(holds(*one) for one in standing.values())


@pytest.mark.parametrize("went_max", [1_000, 2])
async def test_counts_are_exact_whatever_is_written_between_them(
    record: Record, held: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch, went_max: int
) -> None:
    monkeypatch.setattr(total, "WENT_MAX", went_max)
    chance = random.Random(went_max)
    for _ in range(12):
        for _ in range(chance.randrange(5)):
            id = f"o{chance.randrange(18)}"
            if chance.random() < 0.3:
                await record.write(CALLER, lambda uow, id=id: uow.resources.delete("Observation", id))  # type: ignore[misc]
                held.pop(id, None)
            else:
                await put(record, held, id, chance.choice(CODES), chance.choice(STATUSES))
        for query in chance.sample(ASKED, 3):
            assert await counted(record, query) == expected(held, query)
    for query in ASKED:
        assert await counted(record, query) == expected(held, query)


async def test_what_was_counted_is_not_visited_again(record: Record, held: dict[str, tuple[str, str]]) -> None:
    first = await counted(record, {"status": "final"})
    (key, before), *others = record.counts._counted.items()
    assert (first, others) == (before.rows, [])
    record.counts._counted[key] = counts.Counted(before.rows + 1_000, before.snapshot)
    await put(record, held, "new", "a", "final")
    assert await counted(record, {"status": "final"}) == before.rows + 1_001


async def test_what_is_not_committed_is_counted_by_its_own_transaction_alone(
    record: Record, held: dict[str, tuple[str, str]]
) -> None:
    count = len(held)
    assert await counted(record, {}) == count

    async def work(uow: Any) -> None:
        for id in ("x", "o1"):
            tree = {"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "z"}}
            await uow.resources.update("Observation", id, codec.dumps(tree), tree)
        assert await counted(record.within(uow), {}) == count + 1
        assert await counted(record.within(uow), {"status:not": "amended"}) is not None
        assert await counted(record, {}) == count
        raise LookupError

    with pytest.raises(LookupError):
        await record.run(CALLER, work)
    for query in ASKED:
        assert await counted(record, query) == expected(held, query)


async def test_a_restored_record_whose_transactions_are_to_come_keeps_no_count(
    record: Record, held: dict[str, tuple[str, str]]
) -> None:
    async with record.database.acquire() as connection:
        await connection.execute("update resource set xid = '4000000000' where id = 'o3'")
    for _ in range(2):
        assert await counted(record, {}) == len(held)
        await put(record, held, "o3", "a", "final")
    assert not record.counts._counted


async def test_small_counts_and_those_of_other_rows_are_not_kept(
    record: Record, held: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    await counted(record, {"_has:Provenance:target:agent": "Practitioner/p"})
    await counted(record, {"date": "ge2020"})
    monkeypatch.setattr(counts, "KEPT_FROM", 1_000)
    await counted(record, {})
    assert not record.counts._counted


async def test_no_more_counts_are_kept_than_the_bound(
    record: Record, held: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "KEPT_MAX", 2)
    for query in ASKED:
        assert await counted(record, query) == expected(held, query)
    assert isinstance(record.counts, Counts)
    assert len(record.counts._counted) <= 2
