"""An export is one state: of the watermark, whatever happens after it, and exports since one another miss nothing."""

import asyncio
import functools
import json
import os
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ehr import limits
from ehr.access.policy import Caller
from ehr.bulk import export, export_job, export_plan, output
from ehr.bulk.export_request import ExportRequest
from ehr.bulk.manifest import export_manifest, files_of
from ehr.jobs.queue import Progress, Queue
from ehr.jobs.work import work
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

CITY = Caller.system("test")
TYPES = ("Basic", "Observation", "Organization")
State = dict[str, bytes]
DAY_S = 24 * 3_600


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that every export of these tests has many spans and slices."""
    monkeypatch.setattr(limits, "export_chunk_resources", 4)
    monkeypatch.setattr(limits, "export_chunk_patients", 3)
    monkeypatch.setattr(limits, "export_slice_patients", 2)
    monkeypatch.setattr(output, "SLICE", 2)
    monkeypatch.setattr(output, "BEHIND_BYTES", 500)


async def begin(record: Record, home: Path, **asked: Any) -> str:
    request = ExportRequest(**{"level": "system", "types": TYPES, **asked})
    return await export_plan.plan(record, CITY, request, home=home, url="test")


async def finish(record: Record, job_id: str) -> Progress:
    queue = Queue(record.database)
    await work(queue, {export_job.KIND: export.handler(record)}, record.clock, job_id=job_id, turn_s=60)
    progress = await queue.progress(job_id)
    assert progress is not None
    assert progress.state == "done", progress.errors
    return progress


def lines_of(progress: Progress, kind: str = "output") -> list[bytes]:
    folder = Path(progress.params["home"]) / progress.id
    found: list[bytes] = []
    for file in files_of(progress):
        if file.kind == kind:
            content = (folder / file.name).read_bytes()
            lines = content.splitlines()
            assert (len(lines), len(content)) == (file.count, file.bytes)
            found += lines
    return found


def state_of(progress: Progress) -> State:
    lines = lines_of(progress)
    found = {key_of(json.loads(line)): line for line in lines}
    assert len(found) == len(lines), "no resource is exported twice"
    return found


def gone_of(progress: Progress) -> set[str]:
    bundles = [json.loads(line) for line in lines_of(progress, "deleted")]
    assert all(bundle["type"] == "transaction" for bundle in bundles)
    return {entry["request"]["url"] for bundle in bundles for entry in bundle["entry"]}


async def put(record: Record, body: bytes) -> None:
    async def update(uow: UnitOfWork) -> None:
        tree = json.loads(body)
        await uow.resources.update(tree["resourceType"], tree["id"], body, tree)

    await record.run(CITY, update)


def follow(held: State, made: Progress) -> None:
    """What a client does with an export of what changed."""
    held.update(state_of(made))
    for key in gone_of(made):
        held.pop(key, None)


def key_of(tree: Mapping[str, Any]) -> str:
    return f"{tree['resourceType']}/{tree['id']}"


def moment_of(progress: Progress) -> datetime:
    return datetime.fromisoformat(progress.params["time"])


async def at_watermark(record: Record, xid: int) -> State:
    """The newest version below the number, by looking at every row there is."""
    async with record.database.acquire() as connection:
        rows = await connection.fetch(
            "select type_id, rid, version, xid, 'U' as op, body from resource"
            " union all select type_id, rid, version, xid, op, body from resource_history"
        )
    newest: dict[tuple[int, int], Any] = {}
    for row in rows:
        key = (row["type_id"], row["rid"])
        if row["xid"] < xid and (key not in newest or newest[key]["version"] < row["version"]):
            newest[key] = row
    bodies = [record.bodies.decompress(row["body"]) for row in newest.values() if row["op"] != "D"]
    found = {key_of(json.loads(body)): body for body in bodies}
    return {name: body for name, body in found.items() if name.partition("/")[0] in TYPES}


def tree_of(type_name: str, id: str, value: int) -> dict[str, Any]:
    concept = {"coding": [{"system": "http://example.org/codes", "code": str(value)}]}
    if type_name == "Observation":
        subject = {"reference": f"Patient/p{value % 4}"}
        return {"resourceType": type_name, "id": id, "status": "final", "code": concept, "subject": subject}
    if type_name == "Organization":
        return {"resourceType": type_name, "id": id, "name": f"Trạm {value}"}
    return {"resourceType": type_name, "id": id, "code": concept}


async def _delete(type_name: str, id: str, uow: UnitOfWork) -> None:
    await uow.resources.delete(type_name, id)


class Store:
    """Random writes, and what the record holds after them."""

    def __init__(self, record: Record, seed: int) -> None:
        self.record = record
        self.dice = random.Random(seed)
        self.state: State = {}

    async def write(self, count: int) -> None:
        for _ in range(count):
            type_name, id = self.dice.choice(TYPES), f"r{self.dice.randrange(12)}"
            key, value = f"{type_name}/{id}", self.dice.randrange(1000)
            if key in self.state and self.dice.random() < 0.3:
                await self.record.run(CITY, functools.partial(_delete, type_name, id))
                del self.state[key]
            else:
                tree = tree_of(type_name, id, value)

                async def update(uow: UnitOfWork, tree: dict[str, Any] = tree) -> bytes:
                    version, _ = await uow.resources.update(tree["resourceType"], tree["id"], None, tree)
                    assert version.body is not None
                    return version.body

                self.state[key] = await self.record.run(CITY, update)


@pytest.mark.parametrize("seed", range(2))
async def test_exports_equal_the_state_they_began_at_and_changes_since_lead_to_the_next(
    record: Record, data_dir: Path, seed: int
) -> None:
    store = Store(record, seed)
    since: datetime | None = None
    known: State = {}
    by_clock: State = {}
    for turn in range(5):
        await store.write(15)
        wanted = dict(store.state)
        full = await begin(record, data_dir)
        later = await begin(record, data_dir, since=since)
        shifted = since - timedelta(microseconds=1) if since else None  # no job has this moment: clocks decide
        clock = await begin(record, data_dir, since=shifted)
        await store.write(10)
        done = await finish(record, full)
        assert state_of(done) == wanted, f"turn {turn}"
        for made, held in ((await finish(record, later), known), (await finish(record, clock), by_clock)):
            follow(held, made)
            assert held == wanted, f"turn {turn}"
        since = moment_of(done)


async def test_exports_under_writers_are_the_state_at_the_watermark_and_miss_nothing(
    record: Record, data_dir: Path
) -> None:
    """Each transaction writes a pair of resources alike, some of them slowly; no export sees half of one."""
    stopping = asyncio.Event()

    async def writer(number: int) -> None:
        dice = random.Random(number)
        while not stopping.is_set():
            pair, value = 4 * dice.randrange(4) + number, dice.randrange(10**6)
            removing = dice.random() < 0.2
            pause_s = dice.choice((0, 0, 0.005, 0.03))

            async def both(
                uow: UnitOfWork, pair: int = pair, value: int = value, gone: bool = removing, pause_s: float = pause_s
            ) -> None:
                for side in ("left", "right"):
                    id = f"{side}{pair}"
                    if gone:
                        await uow.resources.delete("Basic", id)
                    else:
                        await uow.resources.update("Basic", id, None, tree_of("Basic", id, value))
                    await asyncio.sleep(pause_s)

            await record.run(CITY, both)

    writers = [asyncio.create_task(writer(number)) for number in range(4)]
    known: State = {}
    since: datetime | None = None
    try:
        for _ in range(6):
            await asyncio.sleep(0.1)
            full, later = await begin(record, data_dir), await begin(record, data_dir, since=since)
            await asyncio.sleep(0.1)
            done, changed = await finish(record, full), await finish(record, later)
            state = state_of(done)
            assert state == await at_watermark(record, done.params["snapshot"]["xid"])
            codes = {key: json.loads(line)["code"] for key, line in state.items()}
            for key, code in codes.items():
                other = key.replace("left", "right") if "left" in key else key.replace("right", "left")
                assert codes.get(other) == code, "a transaction is exported whole or not at all"
            follow(known, changed)
            assert known == await at_watermark(record, changed.params["snapshot"]["xid"])
            since = moment_of(changed)
    finally:
        stopping.set()
        await asyncio.gather(*writers)
    assert known, "something was written"


async def test_where_nobody_writes_the_next_export_since_has_only_what_is_new(record: Record, data_dir: Path) -> None:
    store = Store(record, 4)
    await store.write(20)
    before = record.clock.now() - timedelta(milliseconds=1)
    done = await finish(record, await begin(record, data_dir))
    assert before <= moment_of(done) <= record.clock.now()
    assert all(
        datetime.fromisoformat(json.loads(line)["meta"]["lastUpdated"]) <= moment_of(done) for line in lines_of(done)
    )
    await asyncio.sleep(0.002)
    await put(record, json.dumps(tree_of("Basic", "new", 1)).encode())
    for since in (moment_of(done), moment_of(done) + timedelta(microseconds=1)):  # known as a snapshot, and by clocks
        assert state_of(await finish(record, await begin(record, data_dir, since=since))).keys() == {"Basic/new"}


async def test_patients_come_whole_and_others_not_at_all(record: Record, data_dir: Path) -> None:
    for number in range(4):
        await put(record, json.dumps({"resourceType": "Patient", "id": f"p{number}", "gender": "female"}).encode())
    store = Store(record, 7)
    await store.write(40)
    asked = {"level": "patient", "types": ("Patient", "Observation")}
    listed = await begin(record, data_dir, **asked, patients=("p0", "p1", "p3"))
    everyone = await begin(record, data_dir, **asked)
    blocks = await begin(record, data_dir, **asked, organized_by="Patient")
    observed = {key: line for key, line in store.state.items() if key.startswith("Observation/")}
    await store.write(20)
    found = state_of(await finish(record, listed))
    chosen = {key: line for key, line in observed.items() if b'"Patient/p2"' not in line}
    assert {key: line for key, line in found.items() if key.startswith("Observation/")} == chosen
    assert {key for key in found if key.startswith("Patient/")} == {"Patient/p0", "Patient/p1", "Patient/p3"}
    assert {k: v for k, v in state_of(await finish(record, everyone)).items() if k.startswith("Obs")} == observed
    under: dict[str, list[str]] = {}
    block: list[str] = []
    for line in lines_of(await finish(record, blocks)):
        tree = json.loads(line)
        if tree["resourceType"] == "Parameters":
            block = under[tree["parameter"][0]["valueReference"]["reference"]] = []
        else:
            block.append(key_of(tree))
            assert tree.get("subject", {"reference": block[0]})["reference"] == block[0]
    assert {key for block in under.values() for key in block} == {*observed, *(f"Patient/p{n}" for n in range(4))}


async def test_a_chunk_that_died_leaves_nothing_and_runs_again(
    record: Record, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(record, 1)
    await store.write(30)
    job_id = await begin(record, data_dir)
    await store.write(30)
    queue = Queue(record.database)
    chunk = await queue.claim([export_job.KIND], job_id=job_id, lease_s=0.05)
    assert chunk is not None
    with monkeypatch.context() as patched:
        patched.setattr(record.bodies, "lines", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await export.export(record, chunk)
    folder = data_dir / job_id
    assert list(folder.iterdir()) == []
    twice = [await export.export(record, chunk) for _ in range(2)]
    assert twice[0] == twice[1]
    await asyncio.sleep(0.1)
    assert state_of(await finish(record, job_id)) == await at_watermark(
        record, int(chunk.job_params["snapshot"]["xid"])
    )


async def test_types_with_few_rows_share_a_chunk(record: Record, data_dir: Path) -> None:
    for type_name, count in (("Basic", 1), ("Observation", 9), ("Organization", 1)):
        for n in range(count):
            await put(record, json.dumps(tree_of(type_name, f"r{n}", n)).encode())
    job_id = await begin(record, data_dir)
    async with record.database.acquire() as connection:
        rows = await connection.fetch("select params from job_chunk where job_id = $1 order by number", job_id)
    chunks = [[name for name, _ in json.loads(row["params"])["spans"]] for row in rows]
    assert chunks == [["Basic", "Observation"], ["Observation"], ["Observation", "Organization"]]
    assert len(state_of(await finish(record, job_id))) == 11


async def test_bodies_with_line_feeds_are_lines_beside_others(record: Record, data_dir: Path) -> None:
    trees = [tree_of("Basic", f"b{n}", n) for n in range(12)]
    for n, tree in enumerate(trees):
        await put(record, json.dumps(tree, indent=2 if n % 5 == 0 else None).replace("\n", "\r\n").encode())
    state = state_of(await finish(record, await begin(record, data_dir, types=("Basic",))))
    assert not any(b"\r" in line for line in state.values())
    found = {key: json.loads(line) for key, line in state.items()}
    assert [found[key_of(tree)]["code"] for tree in trees] == [tree["code"] for tree in trees]


async def test_files_are_removed_when_their_time_is_over(record: Record, data_dir: Path) -> None:
    await Store(record, 2).write(10)
    home = data_dir / "exports"
    old, cancelled, new = [await begin(record, home) for _ in range(3)]
    for job_id in (old, cancelled, new):
        await finish(record, job_id)
    for name, age_s in (("left", 8 * DAY_S), ("begun", 0)):  # by somebody who was killed, or is about to enqueue it
        (home / name).mkdir()
        since = (home / name).stat().st_mtime - age_s
        os.utime(home / name, (since, since))
    await Queue(record.database).withdraw(cancelled)
    async with record.database.acquire() as connection:
        await connection.execute("update job set finished = finished - interval '8 days' where id = $1", old)
    assert await export_job.clean(Queue(record.database), home) == 3
    assert sorted(place.name for place in home.iterdir()) == sorted([new, "begun"])


async def test_an_export_is_known_for_a_year_and_one_left_for_a_week_is_over(record: Record, data_dir: Path) -> None:
    await Store(record, 2).write(4)
    queue, home = Queue(record.database), data_dir / "exports"
    aged = {"year": 399, "older": 401}
    jobs = {name: await begin(record, home) for name in aged}
    request = ExportRequest("system", TYPES)
    left = {
        days: await export_plan.plan(record, CITY, request, home=home, url="test", kind=export_job.HERE)
        for days in (6, 8)
    }
    async with record.database.acquire() as connection:
        for name, days in aged.items():
            await finish(record, jobs[name])
            past = "update job set finished = finished - $2 * interval '1 day' where id = $1"
            await connection.execute(past, jobs[name], days)
        for days, job_id in left.items():
            await connection.execute(
                "update job set created = now() - $2 * interval '1 day' where id = $1", job_id, days
            )
            past = "update job_chunk set due = now() - $2 * interval '1 day' where job_id = $1"
            await connection.execute(past, job_id, days)
    await export_job.clean(queue, home)
    known = {job_id: await queue.progress(job_id) for job_id in (*jobs.values(), *left.values())}
    states = [one.state if one is not None else None for one in known.values()]
    assert states == ["done", None, "queued", "cancelled"]


async def test_a_manifest_lists_what_the_files_hold(record: Record, data_dir: Path) -> None:
    store = Store(record, 5)
    await store.write(30)
    done = await finish(record, await begin(record, data_dir))
    manifest = export_manifest(done, "http://host/fhir/_job/1", token=True)
    assert sum(one["count"] for one in manifest["output"]) == len(store.state)
    assert len(manifest["output"]) > 3, "several chunks have made files"
