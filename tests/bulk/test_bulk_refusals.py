"""Lines that cannot be stored: a precise error with file and line, the line itself kept; the others are stored."""

import asyncio
import gzip
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from ehr import limits
from ehr.access.policy import Caller
from ehr.bulk import ingest, job
from ehr.bulk.order import Order
from ehr.errors import Malformed, NotFound
from ehr.fhir.vietnam import PATIENT_NUMBER
from ehr.jobs.queue import Queue
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store import ledger
from ehr.store.record import Record
from tests.facility import add_facility
from tests.unit.profile_definitions import HERE, definition, element, extension, observation, patient, stored

GOOD = '{"resourceType":"Patient","id":"%s","identifier":[{"system":"urn:x","value":"%s"}]}'

BAD = {
    2: ('{"resourceType":"Patient","id":"a"', "structure", None),
    3: ('{"resourceType":"Patient","id":"b","id":"c"}', "structure", None),
    4: ('{"resourceType":"Patient","id":"d","gender":"robot"}', None, "Patient.gender"),
    5: ('{"resourceType":"Horse","id":"e"}', "not-supported", "resourceType"),
    6: ('{"resourceType":"Patient","id":"not/an/id"}', None, "Patient.id"),
    7: ('{"resourceType":"Patient","birthDate":"2020-02-31"}', None, "Patient.birthDate"),
    9: ('{"resourceType":"Patient","name":[{"text":"a\\u0000b"}]}', "structure", None),
    10: ("[1]", "structure", None),
}


async def run(
    record: Record,
    settings: Settings,
    path: Path,
    *,
    processes: int = 1,
    order: Order = ingest.CITY,
    seen: Callable[[job.Summary], None] = lambda _: None,
) -> job.Summary:
    queue = Queue(record.database)
    job_id = await job.plan(queue, [path], settings.data_dir / "imports", order)
    assert settings.database_url is not None
    opener = partial(open_record, settings, settings.database_url.get_secret_value())
    return await job.run_here(record, queue, job_id, opener, processes=processes, seen=seen)


async def test_each_bad_line_is_told_and_kept_and_the_good_ones_are_stored(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    lines = [GOOD % ("p1", "1"), *(BAD.get(n, ("", None, None))[0] for n in range(2, 11)), GOOD % ("p2", "2")]
    path = tmp_path / "mixed.ndjson"
    path.write_text("\n".join(lines) + "\n")
    done = await run(record, settings, path)
    assert (done.lines, done.stored, done.blank, done.refused) == (11, 2, 1, len(BAD))
    assert done.error_file is not None
    told = [orjson.loads(line) for line in Path(done.error_file).read_bytes().splitlines()]
    assert [one["line"] for one in told] == sorted(BAD)
    assert {one["file"] for one in told} == {"mixed.ndjson"}
    for one in told:
        _, code, at = BAD[one["line"]]
        issue = one["outcome"]["issue"][0]
        assert code is None or issue["code"] == code, one
        assert at is None or issue["expression"] == [at], one
    async with record.unit_of_work(Caller.system("test")) as uow:
        kept = await ledger.entries(uow.connection, states=["refused"])
        assert {entry.control_id for entry in kept} == {f"mixed.ndjson:{n}" for n in BAD}
        raw = {entry.control_id: await ledger.raw(uow.connection, entry.id) for entry in kept}
    assert raw["mixed.ndjson:2"].decode() == BAD[2][0]


async def test_a_line_over_the_limit_is_refused_without_being_held(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "long.ndjson"
    with path.open("w") as file:
        file.write(GOOD % ("before", "1") + "\n")
        file.write('{"resourceType":"Patient","name":[{"text":"' + "x" * (6 * 1024 * 1024) + '"}]}\n')
        file.write(GOOD % ("after", "2") + "\n")
    done = await run(record, settings, path)
    assert (done.lines, done.stored, done.refused) == (3, 2, 1)
    assert done.error_file is not None
    told = orjson.loads(Path(done.error_file).read_bytes())
    assert (told["line"], told["outcome"]["issue"][0]["code"]) == (2, "too-costly")


async def test_a_failed_import_of_packed_files_is_resumed(
    record: Record, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had unpacked is still there, until it is done."""
    path = tmp_path / "packed.ndjson.gz"
    path.write_bytes(gzip.compress((GOOD % ("p1", "1")).encode() + b"\n"))

    async def broken(*_: object, **__: object) -> None:
        raise Malformed("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(job, "ingest", broken)
        failed = await run(record, settings, path)
    assert (failed.state, failed.errors) == ("failed", ["Malformed: the disk is full"])
    queue = Queue(record.database)
    job_id = await job.resume(queue, [path])
    assert job_id == failed.job_id
    opener = partial(open_record, settings, record.database.url)
    done = await job.run_here(record, queue, job_id, opener, processes=1, seen=lambda _: None)
    assert (done.state, done.stored) == ("done", 1)
    assert not list((settings.data_dir / "imports").glob("*/spool"))


MEMORY = """
import asyncio, resource, sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from ehr.bulk import job
from ehr.jobs.queue import Queue
from ehr.record import open_record
from ehr.settings import Settings

async def main(path, data_dir, url):
    settings = Settings(data_dir=Path(data_dir), pool_connections_max=2)
    record = await open_record(settings, url)
    queue = Queue(record.database)
    job_id = await job.plan(queue, [Path(path)], Path(data_dir) / "imports")
    opener = partial(open_record, settings, url)
    done = await job.run_here(record, queue, job_id, opener, processes=1, seen=lambda _: None)
    print(done.state, done.stored, done.refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    await record.close()

asyncio.run(main(*sys.argv[1:]))
"""
WORKER_BYTES_MAX = 1024**3


async def test_a_worker_needs_less_than_a_gibibyte_whatever_the_lines(settings: Settings, tmp_path: Path) -> None:
    """Two parts of small lines; between them one of 50 MB, one that is just short enough, and one of many elements."""
    small = '{"resourceType":"Basic","id":"b%d","code":{"text":"' + "x" * 1_000 + '"}}\n'
    binary = {"resourceType": "Binary", "contentType": "x/x", "data": "A" * 4_800_000}
    dense = {"resourceType": "Patient", "name": [{"text": "x"}] * 100_000}
    path, count = tmp_path / "large.ndjson", 8_000
    with path.open("w") as file:
        file.writelines(small % n for n in range(count))
        file.write(json.dumps({"resourceType": "Patient", "name": [{"text": "x" * 50_000_000}]}) + "\n")
        file.writelines(json.dumps(one) + "\n" for one in (binary, dense))
        file.writelines(small % n for n in range(count, 2 * count))
    assert settings.database_url is not None
    arguments = [str(path), str(settings.data_dir), settings.database_url.get_secret_value()]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEMORY, *arguments, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await child.communicate()
    state, stored, refused, peak = told.split()
    assert (state, int(stored), int(refused)) == (b"done", 2 * count + 2, 1), "all but the line of 50 MB"
    assert int(peak) < WORKER_BYTES_MAX


def _interrupt_others(_: job.Summary) -> None:
    """Ctrl-C in a terminal, as the processes of the command hear it."""
    for child in multiprocessing.active_children():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGINT)


async def test_several_processes_store_everything_once(
    record: Record, settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "many.ndjson"
    filler = "x" * 4000
    lines = [
        json.dumps({"resourceType": "Basic", "id": f"b{n}", "code": {"text": filler}}, separators=(",", ":"))
        for n in range(6_000)
    ]
    path.write_text("\n".join(lines) + "\n")
    assert path.stat().st_size > 2 * limits.import_chunk_bytes, "more parts than processes"
    done = await run(record, settings, path, processes=2, seen=_interrupt_others)
    assert (done.state, done.stored, done.bytes_done) == ("done", 6_000, path.stat().st_size)
    assert not multiprocessing.active_children()
    assert "Traceback" not in capfd.readouterr().err
    async with record.database.acquire() as connection:
        assert await connection.fetchval("select count(*) from resource") == 6_000
        assert await connection.fetchval("select count(*) from change") == 6_000


async def test_what_is_no_import_file_is_said(record: Record, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nothing\.ndjson"):
        await run(record, settings, tmp_path / "nothing.ndjson")
    with pytest.raises(NotFound, match=r"no \.ndjson"):
        await run(record, settings, tmp_path)
    empty = tmp_path / "empty.ndjson"
    empty.touch()
    with pytest.raises(Malformed, match="empty"):
        await run(record, settings, empty)
    cut = tmp_path / "cut.ndjson.gz"
    cut.write_bytes(gzip.compress(b"x" * 100_000)[:60])
    with pytest.raises(Malformed, match=r"cut\.ndjson\.gz"):
        await run(record, settings, cut)


async def test_a_deleted_id_continues_its_versions(record: Record, settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "Patient.ndjson"
    path.write_text(GOOD % ("p1", "1") + "\n")
    await run(record, settings, path)
    async with record.unit_of_work(Caller.system("test")) as uow:
        await uow.resources.delete("Patient", "p1")
    done = await run(record, settings, path)
    assert (done.stored, done.updated) == (0, 1)
    async with record.unit_of_work(Caller.system("test")) as uow:
        assert (await uow.resources.read("Patient", "p1")).version == 3


async def test_texts_of_the_lines_can_be_looked_through_after_a_race_too(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    """A deleted id makes the transaction begin anew; the texts are written by the attempt that commits."""
    condition = '{"resourceType":"Condition","id":"%s","subject":{"reference":"Patient/p"},"code":{"text":"%s"}}'
    path = tmp_path / "conditions.ndjson"
    path.write_text(condition % ("c", "Fever") + "\n")
    await run(record, settings, path)
    await record.run(Caller.system("test"), lambda uow: uow.resources.delete("Condition", "c"))
    path.write_text("\n".join(condition % one for one in (("c", "Cough"), ("d", "Rash"), ("e", "Rash"))) + "\n")
    done = await run(record, settings, path)
    assert (done.stored, done.updated, done.refused) == (2, 1, 0)
    async with record.database.acquire() as connection:
        terms = {row["value"] for row in await connection.fetch("select value from term")}
    assert {"fever", "cough", "rash"} <= terms


async def test_a_line_that_only_its_write_shows_to_be_refused_does_not_cost_the_others(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    """A code of a search parameter that is taken; a definition that is the server's own."""

    def declared(id: str, code: str) -> dict[str, object]:
        url = f"http://example.org/fhir/SearchParameter/{id}"
        head = {"resourceType": "SearchParameter", "id": id, "url": url, "name": "Added", "status": "active"}
        body = {"description": "x", "code": code, "base": ["Patient"], "type": "token"}
        return {**head, **body, "expression": "Patient.maritalStatus"}

    own: dict[str, object] = {
        "resourceType": "OperationDefinition",
        "id": "Patient-everything",
        "name": "Mine",
        "status": "active",
    }
    own |= {"kind": "operation", "code": "everything", "system": False, "type": True, "instance": False}
    trees = [declared("s1", "married"), declared("s2", "wed"), declared("s3", "married"), own]
    path = tmp_path / "mixed.ndjson"
    path.write_text("\n".join([*map(json.dumps, trees), GOOD % ("p1", "1")]) + "\n")
    done = await run(record, settings, path)
    assert (done.state, done.stored, done.refused) == ("done", 3, 2)
    assert done.error_file is not None
    told = [orjson.loads(line) for line in Path(done.error_file).read_bytes().splitlines()]
    assert {one["line"] for one in told} < {1, 3, 4}
    assert {one["outcome"]["issue"][0]["expression"][0] for one in told} == {
        "SearchParameter.code",
        "OperationDefinition.id",
    }
    path.write_text(json.dumps(declared("s2", "married")) + "\n" + GOOD % ("p2", "2") + "\n")
    again = await run(record, settings, path)
    assert (again.stored, again.refused) == (1, 1)  # an update is refused in the same way


async def test_a_part_of_a_resource_does_not_replace_the_whole(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    """As an export with _elements leaves it; the lines around it are stored."""
    path = tmp_path / "Patient.ndjson"
    path.write_text(GOOD % ("p1", "1") + "\n")
    await run(record, settings, path)
    tag = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
    part = {"resourceType": "Patient", "id": "p1", "meta": {"tag": [tag]}}
    path.write_text(f"{GOOD % ('p2', '2')}\n{json.dumps(part)}\n{GOOD % ('p3', '3')}\n")
    done = await run(record, settings, path)
    assert (done.state, done.stored, done.refused) == ("done", 2, 1)
    assert done.error_file is not None
    told = orjson.loads(Path(done.error_file).read_bytes())
    assert (told["line"], told["outcome"]["issue"][0]["expression"]) == (2, ["line 2"])


async def test_however_many_lines_their_writes_refuse_a_part_is_begun_thrice(
    record: Record, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A facility that sends its Patients again under other ids, with the numbers they have."""
    async with record.database.acquire() as connection:
        facility = await add_facility(connection)
    begun = 0

    async def counted(*arguments: Any) -> ingest.Outcome:
        nonlocal begun
        begun += 1
        return await store(*arguments)

    def patients(prefix: str, count: int) -> str:
        numbers = ([{"system": PATIENT_NUMBER, "value": str(n)}] for n in range(count))
        trees = ({"resourceType": "Patient", "id": f"{prefix}{n}", "identifier": one} for n, one in enumerate(numbers))
        return "".join(json.dumps(tree) + "\n" for tree in trees)

    store = ingest._store
    monkeypatch.setattr(ingest, "_store", counted)
    path = tmp_path / "Patient.ndjson"
    path.write_text(patients("a", 30))
    assert (await run(record, settings, path, order=Order(facility))).stored == 30
    assert begun == 1
    path.write_text(patients("b", 40))
    done = await run(record, settings, path, order=Order(facility))
    assert (done.state, done.stored, done.refused, begun) == ("done", 10, 30, 1 + 3)


async def test_a_line_keeps_the_profile_it_claims_and_no_more_than_that(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    """As at every other door: what a claimed profile says, also of what lies in the resource."""
    named = stored(definition("named", "Patient", element("Patient.name", min=1)))
    only_in_names = stored(extension("note", context=[{"type": "element", "expression": "HumanName"}]))
    claim, name = {"profile": [HERE + "named"]}, [{"text": "a"}]
    elsewhere = [{"url": HERE + "note", "valueString": "a"}]
    lines = [
        patient(id="p1", meta=claim),
        patient(id="p2", meta=claim, name=name, extension=elsewhere),
        observation(id="o1", contained=[patient(id="c", meta=claim)], subject={"reference": "#c"}),
    ]
    for part, trees in (("definitions", [named, only_in_names]), ("lines", lines)):
        (tmp_path / f"{part}.ndjson").write_bytes(b"\n".join(orjson.dumps(tree) for tree in trees))
    assert (await run(record, settings, tmp_path / "definitions.ndjson")).refused == 0
    done = await run(record, settings, tmp_path / "lines.ndjson")
    assert done.error_file is not None
    outcomes = [orjson.loads(line) for line in Path(done.error_file).read_bytes().splitlines()]
    told = [issue["expression"][0] for one in outcomes for issue in one["outcome"]["issue"]]
    assert (done.stored, sorted(told)) == (1, ["Observation.contained[0].name", "Patient.name"])
