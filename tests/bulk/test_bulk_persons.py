"""Patients that come by import are linked to persons as those of every other door, and summaries know of it."""

import functools
import json
from pathlib import Path

from ehr import identity
from ehr.bulk import job
from ehr.bulk.order import Order
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.vietnam import INSURANCE_NUMBER, NATIONAL_ID
from ehr.jobs.queue import Queue
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record

AN, BINH = "001090000001", "001090000002"


def patient(id: str, *numbers: tuple[str, str], name: str = "Nguyễn Văn An") -> dict[str, object]:
    identifiers = [{"system": system, "value": value} for system, value in numbers]
    tree: dict[str, object] = {"resourceType": "Patient", "id": id, "name": [{"text": name}]}
    return {**tree, "identifier": identifiers} if identifiers else tree


def written(folder: Path, name: str, *resources: dict[str, object]) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in resources))
    return path


async def imported(record: Record, settings: Settings, path: Path, facility_id: int) -> job.Summary:
    queue = Queue(record.database)
    job_id = await job.plan(queue, [path], settings.data_dir / "imports", Order(facility_id))
    opener = functools.partial(open_record, settings, record.database.url)
    done = await job.run_here(record, queue, job_id, opener, processes=1, seen=lambda _: None)
    assert (done.state, done.refused) == ("done", 0), done
    return done


async def counts(record: Record) -> dict[str, int]:
    tables = ("resource", "resource_history", "change", "claim", "person_link", "zstd_dictionary")
    async with record.database.acquire() as connection:
        return {table: await connection.fetchval(f"select count(*) from {table}") for table in tables}


async def persons(record: Record) -> list[dict[str, object]]:
    async with record.database.acquire() as connection:
        rows = await connection.fetch("select body from resource where type_id = $1 order by rid", TYPE_IDS["Person"])
    return [codec.loads(record.bodies.decompress(row["body"])) for row in rows]


async def person_of(record: Record, patient_id: str) -> str | None:
    async with record.database.acquire() as connection:
        return await identity.person_of(connection, patient_id)


async def test_one_number_in_two_files_of_two_facilities_is_one_person(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    first = written(
        tmp_path, "first.ndjson", patient("p1", (NATIONAL_ID, AN)), patient("q1", (NATIONAL_ID, BINH), name="Lê Bình")
    )
    second = written(
        tmp_path, "second.ndjson", patient("p2", (NATIONAL_ID, AN), (INSURANCE_NUMBER, "0123456789")), patient("r2")
    )
    await imported(record, settings, first, 1)
    await imported(record, settings, second, 2)
    assert len(await persons(record)) == 2
    assert await person_of(record, "p1") == await person_of(record, "p2") is not None
    assert await person_of(record, "q1") not in (None, await person_of(record, "p1"))
    assert await person_of(record, "r2") is None
    before = await counts(record)
    for path, facility_id in ((first, 1), (second, 2)):
        again = await imported(record, settings, path, facility_id)
        assert (again.stored, again.updated, again.unchanged) == (0, 0, 2)
    assert await counts(record) == before


async def test_one_file_may_state_a_number_twice_and_many_numbers_once(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    many = [patient(f"m{n}", (NATIONAL_ID, f"00109000{n:04}"), name=f"Người {n}") for n in range(50)]
    twice = [patient("t1", (NATIONAL_ID, "001090009999")), patient("t2", (NATIONAL_ID, "001090009999"))]
    await imported(record, settings, written(tmp_path, "many.ndjson", *many, *twice), 1)
    made = await persons(record)
    assert len(made) == 51
    assert await person_of(record, "t1") == await person_of(record, "t2") is not None
    assert len({await person_of(record, f"m{n}") for n in range(50)}) == 50
    async with record.database.acquire() as connection:
        assert await connection.fetchval("select count(*) from claim where scope = 0") == 51
        fed = await connection.fetchval("select count(*) from change where type_id = $1", TYPE_IDS["Person"])
        assert fed >= 51


async def test_a_summary_is_due_for_every_patient_an_import_touches(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    await imported(record, settings, written(tmp_path, "patients.ndjson", patient("p1", (NATIONAL_ID, AN))), 1)
    async with record.database.acquire() as connection:
        await connection.execute("delete from outbox")
    condition: dict[str, object] = {"resourceType": "Condition", "id": "c1", "subject": {"reference": "Patient/p1"}}
    await imported(record, settings, written(tmp_path, "conditions.ndjson", condition), 1)
    async with record.database.acquire() as connection:
        assert await connection.fetchval("select array_agg(key) from outbox where topic = 'summary'") == ["p1"]
