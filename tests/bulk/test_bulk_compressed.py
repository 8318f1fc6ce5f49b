"""The first chunk of a type already lies compressed with a dictionary made from it; the command trains what is left."""

import functools
import json
from pathlib import Path

import pytest
import zstandard
from typer.testing import CliRunner

from ehr import cli
from ehr.bulk import job
from ehr.fhir.r4 import TYPE_IDS
from ehr.jobs.queue import Queue
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record

LINE = '{"resourceType":"%s","id":"x%d","code":{"text":"%d lần đo, %d lần hẹn, tại phòng khám số %d"}}'


def written(folder: Path, type_name: str, count: int) -> Path:
    path = folder / f"{type_name}.ndjson"
    path.write_text("\n".join(LINE % (type_name, n, n, n % 7, n % 11) for n in range(count)) + "\n")
    return path


async def numbers(record: Record, type_name: str) -> set[int]:
    async with record.database.acquire() as connection:
        rows = await connection.fetch("select body from resource where type_id = $1", TYPE_IDS[type_name])
    return {zstandard.get_frame_parameters(row["body"]).dict_id for row in rows}


async def test_an_import_trains_where_it_has_enough_and_nothing_is_known(
    record: Record, settings: Settings, tmp_path: Path
) -> None:
    queue = Queue(record.database)
    paths = [written(tmp_path, "Basic", 400), written(tmp_path, "DetectedIssue", 200)]
    job_id = await job.plan(queue, paths, settings.data_dir / "imports")
    opener = functools.partial(open_record, settings, record.database.url)
    done = await job.run_here(record, queue, job_id, opener, processes=1, seen=lambda _: None)
    assert (done.stored, done.refused) == (400, 200), "a DetectedIssue without a status is refused"
    (number,) = await numbers(record, "Basic")
    assert number
    async with record.database.acquire() as connection:
        assert await connection.fetchval("select count(*) from zstd_dictionary") == 1


def test_the_command_says_what_each_type_would_gain(
    database_url: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EHR_DATABASE_URL", database_url)
    order = ["--data-dir", str(data_dir), "--json"]
    for part in range(2):
        path = written(tmp_path, "Basic", 200)
        path.write_text(path.read_text().replace('"x', f'"p{part}-'))
        loaded = CliRunner().invoke(cli.app, ["import", str(path), *order])
        assert loaded.exit_code == 0, loaded.output
    trained = [CliRunner().invoke(cli.app, ["db", "dictionaries", *order]) for _ in range(2)]
    first, again = (json.loads(one.stdout) for one in trained)
    assert (first["type_name"], first["samples"], first["kept"]) == ("Basic", 320, True)
    assert first["after"] < first["before"]
    assert not again["kept"]
