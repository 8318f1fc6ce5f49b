"""Files dropped into a facility's folder are imported once, and put away with the reasons of what was refused."""

import os
import time
from pathlib import Path

import pytest

from ehr.bulk import drop, job
from ehr.jobs.queue import Queue
from ehr.jobs.work import work
from ehr.store.record import Record
from tests.facility import add_facility

GOOD = '{"resourceType":"Patient","id":"d%d"}\n'


def dropped(record: Record, code: str, name: str, text: str, *, age_s: float = 60) -> Path:
    folder = record.settings.data_dir / drop.FOLDER / code
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return path


async def registered(record: Record) -> int:
    async with record.database.acquire() as connection:
        return await add_facility(connection, "01929")


async def worked(record: Record) -> None:
    """The clock's tick, the work it brings, and the tick after."""
    await drop.collect(record)
    await work(Queue(record.database), {job.KIND: job.handler(record)}, record.clock)
    await drop.collect(record)


async def test_a_dropped_file_is_imported_as_the_facilitys_and_put_away(record: Record) -> None:
    facility = await registered(record)
    dropped(record, "01929", "Patient.ndjson", GOOD % 1 + GOOD % 2)
    await worked(record)
    folder = record.settings.data_dir / drop.FOLDER / "01929"
    assert [path.name.split("-")[-1] for path in (folder / drop.DONE).iterdir()] == ["Patient.ndjson"]
    assert not list((folder / drop.TAKEN).iterdir())
    async with record.database.acquire() as connection:
        sources = await connection.fetch("select source from resource")
        assert [row["source"] for row in sources] == [facility, facility]
        assert await connection.fetchval("select count(*) from job") == 1


async def test_lines_that_were_refused_lie_beside_the_file(record: Record) -> None:
    await registered(record)
    dropped(record, "01929", "mixed.ndjson", GOOD % 1 + "{\n")
    dropped(record, "01929", "cut.ndjson.gz", "no gzip")
    await worked(record)
    place = record.settings.data_dir / drop.FOLDER / "01929" / drop.REFUSED
    names = sorted(path.name.split("-")[-1] for path in place.iterdir())
    assert names == ["cut.ndjson.gz", "cut.ndjson.gz.errors.txt", "mixed.ndjson", "mixed.ndjson.errors.ndjson"]


async def test_names_that_cannot_stay_hold_up_nothing(record: Record) -> None:
    await registered(record)
    dropped(record, "01929", os.fsdecode(b"a-vi\xean.ndjson"), GOOD % 1)
    dropped(record, "01929", "b" * 248 + ".ndjson", GOOD % 2 + "{\n")
    dropped(record, "01929", "c.ndjson", GOOD % 3)
    await worked(record)
    folder = record.settings.data_dir / drop.FOLDER / "01929"
    assert [path.name.split("-")[-1] for path in (folder / drop.DONE).iterdir()] == ["c.ndjson"]
    told = {path.name: path.read_text() for path in (folder / drop.REFUSED).glob("*.errors.*")}
    assert [text for name, text in told.items() if name.endswith("-a-vin.ndjson.errors.txt")] == [
        "the name 'a-vi\\udcean.ndjson' is not UTF-8; rename the file, or the folder it is in\n"
    ]
    assert ["not JSON" in text for name, text in told.items() if name.endswith("b.ndjson.errors.ndjson")] == [True]


async def test_a_folder_that_cannot_be_worked_on_holds_up_no_other(record: Record) -> None:
    async with record.database.acquire() as connection:
        for code in ("01001", "01929"):
            await add_facility(connection, code)
    dropped(record, "01001", drop.TAKEN, "a file where a folder should be")
    left = dropped(record, "01001", "Patient.ndjson", GOOD % 1)
    taken = dropped(record, "01929", "Patient.ndjson", GOOD % 2)
    assert await drop.collect(record) == 1
    assert (left.exists(), taken.exists()) == (True, False)


async def test_what_is_still_being_written_is_left(record: Record) -> None:
    await registered(record)
    waiting = [
        dropped(record, "01929", "young.ndjson", GOOD % 1, age_s=0),
        dropped(record, "01929", ".hidden.ndjson", GOOD % 2),
        dropped(record, "01929", "half.ndjson.part", GOOD % 3),
        dropped(record, "99999", "unknown.ndjson", GOOD % 4),
    ]
    await worked(record)
    assert all(path.exists() for path in waiting)


async def test_a_file_of_a_clock_that_is_ahead_is_not_left_until_then(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rsync and scp keep the moment at which a file was changed where it came from."""
    await registered(record)
    path = dropped(record, "01929", "Patient.ndjson", GOOD % 1, age_s=-86_400)
    await drop.collect(record)
    assert path.exists(), "it came just now"
    monkeypatch.setattr("ehr.limits.drop_quiet_s", 0)
    await worked(record)
    assert not path.exists()


async def test_a_link_to_what_is_elsewhere_is_left(record: Record) -> None:
    await registered(record)
    theirs = dropped(record, "99999", "Patient.ndjson", GOOD % 1)
    (record.settings.data_dir / drop.FOLDER / "01929").mkdir()
    (record.settings.data_dir / drop.FOLDER / "01929" / "Patient.ndjson").symlink_to(theirs)
    await worked(record)
    async with record.database.acquire() as connection:
        assert await connection.fetchval("select count(*) from job") == 0
