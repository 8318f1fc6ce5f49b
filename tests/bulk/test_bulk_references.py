"""An import that refuses dangling references, against a model: nothing is stored that refers to what is not."""

import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from ehr.access.policy import Caller
from ehr.bulk import job
from ehr.bulk.order import Order
from ehr.errors import Malformed
from ehr.jobs.queue import Queue
from ehr.jobs.work import work
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from tests.bulk.conftest import Killed

REFUSE = Order(references="refuse")
ROUNDS = 6

Import = Callable[..., Any]


@pytest.fixture
def imported(record: Record, settings: Settings, tmp_path: Path) -> Import:
    async def run(*lines: dict[str, Any], name: str = "mixed", part_bytes: int = 300, **order: Any) -> job.Summary:
        path = tmp_path / f"{name}.ndjson"
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        queue = Queue(record.database)
        asked = Order(**{"references": "refuse", **order})
        job_id = await job.plan(queue, [path], settings.data_dir / "imports", asked, part_bytes=part_bytes)
        return await work_off(record, settings, job_id)

    return run


async def work_off(record: Record, settings: Settings, job_id: str) -> job.Summary:
    assert settings.database_url is not None
    opener = partial(open_record, settings, settings.database_url.get_secret_value())
    return await job.run_here(record, Queue(record.database), job_id, opener, processes=1, seen=lambda _: None)


def group(id: str, *members: str, **more: Any) -> dict[str, Any]:
    """A List that refers to these; of one type, so that every id may refer to every other."""
    entries = {"entry": [{"item": {"reference": member}} for member in members]} if members else {}
    return {"resourceType": "List", "id": id, "status": "current", "mode": "working", **entries, **more}


def told(done: job.Summary) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in Path(done.error_file).read_bytes().splitlines()] if done.error_file else []


async def ids(record: Record) -> set[str]:
    async with record.database.acquire() as connection:
        return {f"List/{row['id']}" for row in await connection.fetch("select id from resource")}


@dataclass(frozen=True)
class Line:
    key: str
    to: tuple[str, ...]


def largest_set(lines: Iterable[Line], held: set[str]) -> list[int]:
    """The lines that may be stored, by taking away until nothing more dangles."""
    kept = dict(enumerate(lines, start=1))
    while True:
        there = held | {line.key for line in kept.values()}
        gone = [number for number, line in kept.items() if not there.issuperset(line.to)]
        if not gone:
            return sorted(kept)
        for number in gone:
            del kept[number]


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_what_is_stored_is_the_largest_set_in_which_nothing_dangles(
    record: Record, imported: Import, seed: int
) -> None:
    rng = random.Random(seed)
    names = [f"g{n}" for n in range(24)]
    first = await imported(*(group(name) for name in rng.sample(names, 3)), name="before")
    assert first.stored == 3
    held = await ids(record)
    lines = []
    for _ in range(rng.randrange(5, 40)):
        to = tuple(f"List/{rng.choice(names)}" for _ in range(rng.choice([0, 1, 1, 1, 2])))
        lines.append(Line(f"List/{rng.choice(names)}", to))
    trees = [group(line.key.removeprefix("List/"), *line.to, title=str(n)) for n, line in enumerate(lines)]
    done = await imported(*trees, part_bytes=rng.choice([200, 1_000, 100_000]))
    kept = largest_set(lines, held)
    assert (done.state, done.errors, done.dangling) == ("done", [], 0)
    assert (done.lines, done.refused) == (len(lines), len(lines) - len(kept))
    assert done.lines == done.stored + done.updated + done.unchanged + done.superseded + done.refused
    assert done.bytes_checked == done.bytes_done == done.bytes
    assert await ids(record) == held | {lines[number - 1].key for number in kept}
    refused = [one for one in told(done) if one["outcome"]["issue"][0]["severity"] == "error"]
    assert [one["line"] for one in refused] == sorted(set(range(1, len(lines) + 1)) - set(kept))
    there = await ids(record)
    for one in refused:
        line = lines[one["line"] - 1]
        places = [f"List.entry[{n}].item.reference" for n, to in enumerate(line.to) if to not in there]
        assert [issue["expression"] for issue in one["outcome"]["issue"]] == [[place] for place in places]
        assert {issue["code"] for issue in one["outcome"]["issue"]} == {"not-found"}


async def test_a_line_that_is_not_valid_makes_those_dangle_that_refer_to_it(record: Record, imported: Import) -> None:
    done = await imported(group("a", "List/b"), group("b", status="sideways"), group("c"))
    assert (done.stored, done.refused) == (1, 2)
    assert await ids(record) == {"List/c"}
    first, second = told(done)
    assert (first["line"], first["outcome"]["issue"][0]["expression"]) == (1, ["List.entry[0].item.reference"])
    assert (second["line"], second["outcome"]["issue"][0]["expression"]) == (2, ["List.status"])


async def test_a_refused_line_takes_no_part_in_who_is_newest(record: Record, imported: Import) -> None:
    older = group("a", title="older", meta={"lastUpdated": "2020-01-01T00:00:00Z"})
    newer = group("a", "List/nobody", title="newer", meta={"lastUpdated": "2021-01-01T00:00:00Z"})
    done = await imported(newer, older, group("b", "List/a"))
    assert (done.stored, done.refused, done.superseded) == (2, 1, 0)
    async with record.unit_of_work(Caller.system("test")) as uow:
        body = (await uow.resources.read("List", "a")).body
    assert body is not None
    assert orjson.loads(body)["title"] == "older"


async def test_what_counts_as_a_reference(record: Record, imported: Import) -> None:
    elsewhere = ("#it", "https://elsewhere.example/fhir/List/x", "urn:uuid:9d3fd6d6-5f0c-4b6c-9f37-1f4a7a5ad9a1")
    contained = [{"resourceType": "List", "id": "it", "status": "current", "mode": "working"}]
    inside = group("inner", "List/nobody")
    entry = [{"fullUrl": "https://a.example/List/inner", "resource": inside}]
    bundle = {"resourceType": "Bundle", "id": "bundle", "type": "collection", "entry": entry}
    versioned = group("v", "List/a/_history/3", "List/nobody/_history/1")
    done = await imported(group("a", *elsewhere, contained=contained), bundle, versioned)
    assert (done.stored, done.refused) == (2, 1)
    (one,) = told(done)
    assert [issue["expression"] for issue in one["outcome"]["issue"]] == [["List.entry[1].item.reference"]]


async def test_a_reference_with_an_escaped_slash_is_seen(record: Record, settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "escaped.ndjson"
    path.write_bytes(orjson.dumps(group("a", "List/nobody")).replace(b"List/nobody", rb"List\/nobody") + b"\n")
    job_id = await job.plan(Queue(record.database), [path], settings.data_dir / "imports", REFUSE)
    assert (await work_off(record, settings, job_id)).refused == 1


async def test_what_is_deleted_while_it_is_imported_is_told(
    record: Record, settings: Settings, imported: Import, tmp_path: Path
) -> None:
    assert (await imported(group("old"), name="before")).stored == 1
    path = tmp_path / "later.ndjson"
    path.write_bytes(orjson.dumps(group("new", "List/old")) + b"\n")
    queue = Queue(record.database)
    job_id = await job.plan(queue, [path], settings.data_dir / "imports", REFUSE)
    run = job.handler(record)

    async def until_settled(chunk: Any) -> Any:
        result = await run(chunk)
        if "settle" in chunk.params:
            async with record.unit_of_work(Caller.system("test")) as uow:
                await uow.resources.delete("List", "old")
        return result

    await work(queue, {job.KIND: until_settled}, record.clock, job_id=job_id)
    done = await job.summary(queue, job_id)
    assert (done.state, done.stored, done.refused, done.dangling) == ("done", 1, 0, 1)


@pytest.mark.parametrize("seed", range(max(1, int(os.environ.get("EHR_IMPORT_KILLS", "2")) // 2)))
async def test_killed_and_resumed_it_refuses_the_same(
    record: Record, settings: Settings, killed: Killed, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    names = [f"g{n}" for n in range(400)]
    lines = [Line(f"List/{name}", (f"List/{rng.choice([*names, 'nobody'])}",)) for name in names[:395]]
    path = tmp_path / "List.ndjson"
    trees = (group(line.key.removeprefix("List/"), *line.to) for line in lines)
    path.write_bytes(b"".join(orjson.dumps(tree) + b"\n" for tree in trees))
    job_id = await killed(path, REFUSE, part_bytes=2_000, after_s=rng.random() * 0.4)
    done = await work_off(record, settings, job_id)
    kept = largest_set(lines, set())
    assert 0 < len(kept) < len(lines)
    assert (done.state, done.stored, done.refused) == ("done", len(kept), len(lines) - len(kept))
    assert await ids(record) == {lines[number - 1].key for number in kept}
    left = sorted(one.name for one in (settings.data_dir / "imports" / job_id).glob("checked-*"))
    assert left == []


async def test_what_else_references_may_be_is_said(record: Record) -> None:
    with pytest.raises(Malformed, match="report, refuse or ignore"):
        Order(references="forbid")
