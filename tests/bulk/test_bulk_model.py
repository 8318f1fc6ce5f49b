"""An import against a model: any mix of good, bad, repeated and changed lines, whole, killed and resumed, twice."""

import asyncio
import gc
import json
import os
import random
import time
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
import zstandard

from ehr.access.policy import Caller
from ehr.bulk import files, job, winner
from ehr.bulk.ingest import CITY, ingest, prepare_part
from ehr.bulk.order import Order
from ehr.errors import Malformed
from ehr.fhir import codec
from ehr.jobs.queue import Queue
from ehr.jobs.work import work
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from tests.bulk.conftest import Killed

KINDS = ("good", "again", "older", "newer", "changed", "bad", "torn", "blank", "anonymous")
ROUNDS = 12


class Model:
    """What the lines of one import leave behind, and how they are counted."""

    def __init__(self) -> None:
        self.current: dict[str, tuple[Any, dict[str, Any]]] = {}
        self.lines = self.blank = self.refused = self.superseded = self.anonymous = 0

    def add(self, text: str) -> None:
        self.lines += 1
        number = self.lines
        if not text.strip():
            self.blank += 1
            return
        try:
            tree = json.loads(text)
        except ValueError:
            self.refused += 1
            return
        if tree.get("gender") == "robot":
            self.refused += 1
            return
        if "id" not in tree:
            self.anonymous += 1
            return
        rank = (tree.get("meta", {}).get("lastUpdated", ""), number)
        other = self.current.get(tree["id"])
        if other is not None:
            self.superseded += 1
        if other is None or other[0] < rank:
            self.current[tree["id"]] = (rank, tree)


def made_lines(rng: random.Random) -> list[str]:
    """Lines of all kinds; ids from few, so that many repeat."""
    lines = []
    for n in range(rng.randrange(1, 60)):
        tree: dict[str, Any] = {"resourceType": "Patient", "id": f"p{rng.randrange(12)}", "name": [{"text": "An"}]}
        kind = rng.choice(KINDS)
        if kind in ("older", "newer"):
            tree["meta"] = {"lastUpdated": f"20{rng.randrange(10, 26)}-01-01T00:00:00Z"}
        if kind == "changed":
            tree["name"] = [{"text": f"Bình {n}"}]
        if kind == "bad":
            tree["gender"] = "robot"
        if kind == "anonymous":
            del tree["id"]
        text = json.dumps(tree, ensure_ascii=rng.random() < 0.5)
        lines.append({"torn": text[:-2], "blank": "  "}.get(kind, text))
    return lines


async def run(
    record: Record, settings: Settings, path: Path, order: Order = CITY, *, part_bytes: int = 100_000
) -> job.Summary:
    queue = Queue(record.database)
    job_id = await job.plan(queue, [path], settings.data_dir / "imports", order, part_bytes=part_bytes)
    return await work_off(record, settings, job_id)


async def work_off(record: Record, settings: Settings, job_id: str) -> job.Summary:
    queue = Queue(record.database)
    assert settings.database_url is not None
    opener = partial(open_record, settings, settings.database_url.get_secret_value())
    return await job.run_here(record, queue, job_id, opener, processes=1, seen=lambda _: None)


async def stored(record: Record) -> dict[str, tuple[int, dict[str, Any]]]:
    """id → (version, content without what the server sets) of every Patient that is there."""
    async with record.database.acquire() as connection:
        rows = await connection.fetch("select id, version, body from resource")
    found = {}
    for row in rows:
        tree = codec.loads(record.bodies.decompress(row["body"]))
        if tree["resourceType"] == "Patient":
            tree.pop("meta")
            found[row["id"]] = (row["version"], tree)
    return found


def without_meta(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name != "meta"}


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_any_mix_of_lines_is_what_the_model_says(
    record: Record, settings: Settings, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    lines, model = made_lines(rng), Model()
    for text in lines:
        model.add(text)
    path = tmp_path / "Patient.ndjson"
    path.write_text("\n".join(lines) + "\n")
    done = await run(record, settings, path, part_bytes=rng.choice([200, 1_000, 100_000]))
    assert done.state == "done", done.errors
    assert done.bytes_done == path.stat().st_size
    assert (done.lines, done.blank, done.refused) == (model.lines, model.blank, model.refused)
    accepted = done.stored + done.updated + done.unchanged
    assert accepted + done.superseded == len(model.current) + model.superseded + model.anonymous
    assert done.stored == len(model.current) + model.anonymous
    found = await stored(record)
    named = {id: tree for id, (_, tree) in found.items() if id in model.current}
    assert named == {id: without_meta(tree) for id, (_, tree) in model.current.items()}
    assert len(found) == done.stored
    told = [orjson.loads(one) for one in Path(done.error_file).read_bytes().splitlines()] if done.error_file else []
    assert len(told) == done.refused + done.superseded
    assert len({one["line"] for one in told}) == len(told)


async def test_the_same_again_changes_nothing(record: Record, settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "Patient.ndjson"
    path.write_text("\n".join(made_lines(random.Random(5))) + "\n")
    first = await run(record, settings, path)
    before = await stored(record)
    named = {id: kept for id, kept in before.items() if id.startswith("p")}
    second = await run(record, settings, path)
    after = await stored(record)
    assert {id: kept for id, kept in after.items() if id.startswith("p")} == named
    assert second.unchanged == len(named)
    assert (second.lines, second.refused, second.superseded) == (first.lines, first.refused, first.superseded)


async def test_an_older_line_of_a_later_part_changes_nothing(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    """The newest line is what is stored already; older ones come after it in the file."""

    def line(name: str, year: int) -> str:
        meta = {"lastUpdated": f"{year}-01-01T00:00:00Z"}
        return json.dumps({"resourceType": "Patient", "id": "p", "meta": meta, "name": [{"text": name}]}) + "\n"

    path = tmp_path / "Patient.ndjson"
    path.write_text(line("An", 2020))
    assert (await run(record, settings, path)).stored == 1
    path.write_text(line("An", 2022) + line("Old", 2021) + line("An", 2024) + line("Late", 2023) + line("Older", 2019))
    done = await run(record, settings, path, part_bytes=10)
    assert (done.state, done.updated, done.unchanged, done.superseded) == ("done", 0, 2, 3)
    assert (await stored(record))["p"][0] == 1
    async with record.database.acquire() as connection:
        assert await connection.fetchval("select count(*) from import_unchanged") == 0, (
            "nothing is kept of what is over"
        )


async def test_what_was_refused_of_an_earlier_part_is_newer_than_nothing(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    """Nor is an id missed that is written with an escape."""

    def line(id: str, year: int, gender: str = "male") -> str:
        meta = f'{{"lastUpdated":"{year}-01-01T00:00:00Z"}}'
        return f'{{"resourceType":"Patient","id":"{id}","meta":{meta},"gender":"{gender}"}}\n'

    path = tmp_path / "Patient.ndjson"
    first = line("\\u0070", 2020) + line("p", 2025, "none") + line("q", 2030) + line("q", 2010)
    path.write_text(first + line("p", 2022, "female") + line("q", 2029, "female"))
    done = await run(record, settings, path, part_bytes=len(first))
    assert (done.stored, done.updated, done.superseded, done.refused) == (2, 1, 2, 1)


async def test_a_part_of_ids_that_came_before_costs_no_more_than_another(record: Record, tmp_path: Path) -> None:
    """Each id was looked for in each line: of files that hold a second year of the same, none was ever stored."""
    path, count = tmp_path / "Patient.ndjson", 8_000
    path.write_text("".join(f'{{"resourceType":"Patient","id":"p{n}","active":true}}\n' for n in range(count)))
    (part,) = files.parts(path.name, path)
    gc.collect()
    gc.disable()  # what other tests left behind may cost more than either
    try:
        begun_s = time.process_time()
        prepared = await prepare_part(record, part, job_id=str(uuid4()))
        between_s = time.process_time()
        keys = [one.key for one in prepared.ready]
        ranked = await winner.reread(part, 0, frozenset(keys), prepared.preparer)
        ended_s = time.process_time()
    finally:
        gc.enable()
    assert list(ranked) == keys
    assert ended_s - between_s < 2 * (between_s - begun_s)


@pytest.mark.parametrize("seed", range(ROUNDS // 2))
async def test_onto_what_is_stored_two_workers_bring_the_newest_lines(
    record: Record, settings: Settings, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    before, path = tmp_path / "before" / "Patient.ndjson", tmp_path / "Patient.ndjson"
    before.parent.mkdir()
    before.write_text("".join(f'{{"resourceType":"Patient","id":"p{n}","name":[{{"text":"An"}}]}}\n' for n in range(8)))
    assert (await run(record, settings, before)).stored == 8
    lines, model = made_lines(rng) + made_lines(rng), Model()
    for text in lines:
        model.add(text)
    path.write_text("\n".join(lines) + "\n")
    queue = Queue(record.database)
    job_id = await job.plan(queue, [path], settings.data_dir / "imports", part_bytes=rng.choice([100, 400, 1_000]))
    handlers = job.handlers_of(record)
    await asyncio.gather(*(work(queue, handlers, record.clock, job_id=job_id) for _ in range(2)))
    done = await work_off(record, settings, job_id)
    assert (done.state, done.errors) == ("done", [])
    assert (done.lines, done.blank, done.refused) == (model.lines, model.blank, model.refused)
    assert done.lines == done.blank + done.stored + done.updated + done.unchanged + done.superseded + done.refused
    named = {id: tree for id, (_, tree) in (await stored(record)).items() if id in model.current}
    assert named == {id: without_meta(tree) for id, (_, tree) in model.current.items()}


async def test_several_that_bring_the_same_ids_at_once_store_each_once(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "Patient.ndjson"
    path.write_text("".join(f'{{"resourceType":"Patient","id":"p{n}","gender":"other"}}\n' for n in range(400)))
    (part,) = files.parts(path.name, path)
    outcomes = await asyncio.gather(*(ingest(record, part, job_id=uuid4().hex) for _ in range(4)))
    assert sorted((one.tally.stored, one.tally.unchanged) for one in outcomes) == [(0, 400)] * 3 + [(400, 0)]
    assert {version for version, _ in (await stored(record)).values()} == {1}


@pytest.mark.parametrize("seed", range(int(os.environ.get("EHR_IMPORT_KILLS", "2"))))
async def test_killed_at_any_moment_and_resumed_it_is_the_same(
    record: Record, settings: Settings, killed: Killed, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    lines = [text for _ in range(40) for text in made_lines(rng)]
    path, model = tmp_path / "Patient.ndjson", Model()
    path.write_text("\n".join(lines) + "\n")
    for text in lines:
        model.add(text)
    job_id = await killed(path, part_bytes=3_000, after_s=rng.random() * 0.6)
    done = await work_off(record, settings, job_id)
    assert (done.state, done.bytes_done) == ("done", path.stat().st_size)
    assert (done.lines, done.blank, done.refused) == (model.lines, model.blank, model.refused)
    assert done.stored == len(model.current) + model.anonymous
    found_now = await stored(record)
    assert len(found_now) == done.stored
    assert {id: tree for id, (_, tree) in found_now.items() if id in model.current} == {
        id: without_meta(tree) for id, (_, tree) in model.current.items()
    }
    async with record.database.acquire() as connection:
        histories = await connection.fetch("select id, count(*), max(version) from change group by id")
    assert all(row["count"] == row["max"] for row in histories), "no version twice"


async def test_kept_meta_is_what_the_sender_said(record: Record, settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "Patient.ndjson"
    meta = {"versionId": "7", "lastUpdated": "2019-05-06T07:08:09.123Z", "tag": [{"code": "x"}]}
    good = {"resourceType": "Patient", "id": "a", "meta": meta, "active": True}
    odd = {"resourceType": "Patient", "id": "b", "meta": {"versionId": "first"}}
    early = {"resourceType": "Patient", "id": "c", "meta": {"lastUpdated": "0001-01-01T00:00:00+14:00"}}
    late = {"resourceType": "Patient", "id": "d", "meta": {"lastUpdated": "9999-12-31T23:59:59-12:00"}}
    path.write_text("".join(f"{json.dumps(one)}\n" for one in (good, odd, early, late)))
    order = Order(keep_meta=True)
    done = await run(record, settings, path, order)
    assert (done.stored, done.refused) == (1, 3)
    async with record.unit_of_work(Caller.system("test")) as uow:
        version = await uow.resources.read("Patient", "a")
        page = await uow.resources.history("Patient", "a")
    assert [one.op for one in page.entries] == ["P"], "its id was sent"
    assert version.body is not None
    assert (version.version, codec.loads(version.body)) == (7, good)
    assert version.updated.isoformat(timespec="milliseconds") == "2019-05-06T07:08:09.123+00:00"
    again = await run(record, settings, path, order)
    assert (again.stored, again.unchanged) == (0, 1)


async def test_zstd_is_read_and_a_cut_frame_is_refused(record: Record, settings: Settings, tmp_path: Path) -> None:
    text = "".join(
        f"{one}\n" for one in ('{"resourceType":"Patient","id":"z1"}', '{"resourceType":"Patient","id":"z2"}')
    )
    frames = b"".join(zstandard.compress(line.encode()) for line in text.splitlines(keepends=True))
    path = tmp_path / "Patient.ndjson.zst"
    path.write_bytes(frames)
    assert (await run(record, settings, path)).stored == 2
    path.write_bytes(frames[:-3])
    with pytest.raises(Malformed, match="zstd"):
        await run(record, settings, path)
    assert list(files.find([path])) == [path]


async def test_references_that_lead_nowhere_are_told_when_all_is_stored(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    def observation(id: str, patient: str) -> str:
        code = {"text": "x"}
        subject = {"reference": f"Patient/{patient}"}
        return json.dumps(
            {"resourceType": "Observation", "id": id, "status": "final", "code": code, "subject": subject}
        )

    lines = [observation("o1", "later"), observation("o2", "nobody"), observation("o3", "nobody")]
    lines += ['{"resourceType":"Patient","id":"later"}']
    path = tmp_path / "mixed.ndjson"
    path.write_text("\n".join(lines) + "\n")
    done = await run(record, settings, path, part_bytes=100)
    assert (done.state, done.stored, done.dangling) == ("done", 4, 2)
    assert done.dangling_file is not None
    told = [orjson.loads(line) for line in Path(done.dangling_file).read_bytes().splitlines()]
    assert [one.pop("outcome")["issue"][0]["severity"] for one in told] == ["warning", "warning"]
    assert told == [{"file": "mixed.ndjson", "line": n, "reference": "Patient/nobody"} for n in (2, 3)]
    ignored = await run(record, settings, path, Order(references="ignore"))
    assert (ignored.unchanged, ignored.dangling) == (4, 0)
