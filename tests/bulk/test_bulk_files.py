"""Files as people and web servers leave them: packed under any name, in folders, changed while they are imported."""

import bz2
import gzip
import io
import os
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import orjson
import pytest
import zstandard

from ehr import limits
from ehr.bulk import job
from ehr.errors import Invalid, Malformed, NotFound, TooMuch, Unavailable
from ehr.jobs.queue import Queue
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record

LINE = b'{"resourceType":"Patient","id":"%b"}\n'
NAMELESS = b'{"resourceType":"Basic","code":{"text":"%b"}}\n'


def archive(content: bytes) -> bytes:
    """A tar file with one file in it."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as packed:
        entry = tarfile.TarInfo("Patient.ndjson")
        entry.size = len(content)
        packed.addfile(entry, io.BytesIO(content))
    return made.getvalue()


class Import:
    """Imports of one record, one process each."""

    def __init__(self, record: Record, settings: Settings) -> None:
        self.queue = Queue(record.database)
        self.home = settings.data_dir / job.IMPORTS
        self.record = record
        self._settings = settings

    async def run(self, *paths: Path) -> job.Summary:
        return await self.finish(await job.plan(self.queue, paths, self.home))

    async def finish(self, job_id: str) -> job.Summary:
        opener = partial(open_record, self._settings, self.record.database.url)
        return await job.run_here(self.record, self.queue, job_id, opener, processes=1, seen=lambda _: None)


@pytest.fixture
def imports(record: Record, settings: Settings) -> Import:
    return Import(record, settings)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mark.ndjson", b"\xef\xbb\xbf" + LINE % b"a" + LINE % b"b"),
        ("ends.ndjson", (LINE % b"a" + LINE % b"b").replace(b"\n", b"\r\n")),
        ("last.ndjson", (LINE % b"a" + LINE % b"b").rstrip()),
        ("gzip.ndjson", gzip.compress(LINE % b"a") + gzip.compress(LINE % b"b")),
        ("zstd.jsonl", zstandard.compress(b"\xef\xbb\xbf" + LINE % b"a" + LINE % b"b")),
        ("plain.ndjson.gz", LINE % b"a" + LINE % b"b"),
    ],
    ids=["mark", "ends", "last", "gzip", "zstd", "plain"],
)
async def test_a_file_is_read_by_what_it_holds(imports: Import, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    done = await imports.run(tmp_path)
    assert (done.state, done.lines, done.stored, done.refused) == ("done", 2, 2, 0)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (bz2.compress(LINE % b"a"), "bzip2"),
        ((LINE % b"a").decode().encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04 and so on", "ZIP"),
        (gzip.compress(LINE % b"a" * 1_000)[:-9], "not a whole gzip file"),
        (gzip.compress(zstandard.compress(LINE % b"a")), "packed twice"),
        (zstandard.compress((LINE % b"a").decode().encode("utf-16")), "UTF-16"),
        (archive(LINE % b"a"), "tar archive"),
        (gzip.compress(archive(LINE % b"a")), "tar archive"),
    ],
    ids=["bzip2", "utf-16", "zip", "cut-gzip", "packed-twice", "packed-utf-16", "tar", "packed-tar"],
)
async def test_what_cannot_be_read_is_said_and_leaves_nothing(
    imports: Import, tmp_path: Path, content: bytes, text: str
) -> None:
    (tmp_path / "Patient.ndjson").write_bytes(gzip.compress(LINE % b"good"))
    (tmp_path / "bad.ndjson").write_bytes(content)
    with pytest.raises(Malformed, match=text) as refused:
        await imports.run(tmp_path)
    assert "bad.ndjson" in str(refused.value)
    assert not list(imports.home.rglob("*"))


async def test_a_name_that_is_not_utf_8_is_said(imports: Import, tmp_path: Path) -> None:
    os.close(os.open(bytes(tmp_path) + b"/vi\xean.ndjson", os.O_CREAT))
    with pytest.raises(Invalid, match=r"vi\\udcean\.ndjson' is not UTF-8"):
        await imports.run(tmp_path)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
async def test_a_file_that_becomes_far_more_than_it_is_fills_no_disk(
    imports: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "Patient.ndjson"
    path.write_bytes(pack(LINE % b"a" * 20_000))
    monkeypatch.setattr(limits, "import_unpacked_bytes_free", 100_000)
    monkeypatch.setattr(limits, "import_unpacked_times_max", 10)
    with pytest.raises(TooMuch, match=r"Patient\.ndjson becomes more than 10 times its size"):
        await imports.run(tmp_path)
    assert not list(imports.home.rglob("*"))
    monkeypatch.setattr(limits, "import_unpacked_bytes_free", 100_000_000)
    assert (await imports.run(tmp_path)).lines == 20_000


async def test_folders_are_opened_and_files_of_one_name_told_apart(
    record: Record, imports: Import, tmp_path: Path
) -> None:
    """Lines without an id get one of their file's name: none may be taken for another's."""
    for year in ("2016", "2017"):
        (tmp_path / year / "bv").mkdir(parents=True)
        (tmp_path / year / "bv" / "Basic.ndjson").write_bytes(NAMELESS % year.encode() + b"no JSON\n")
    (tmp_path / "2017" / "._Basic.ndjson").write_bytes(b"what a Mac leaves beside a file")
    (tmp_path / "folder.ndjson").mkdir()
    (tmp_path / "again.ndjson").symlink_to(tmp_path / "2016" / "bv" / "Basic.ndjson")
    done = await imports.run(tmp_path, tmp_path / "2016")
    assert (done.lines, done.stored, done.superseded, done.refused) == (4, 2, 0, 2)
    assert done.error_file is not None
    told = [orjson.loads(line) for line in Path(done.error_file).read_bytes().splitlines()]
    assert {one["file"] for one in told} <= {"2016/bv/Basic.ndjson", "2017/bv/Basic.ndjson", "again.ndjson"}
    assert len({one["file"] for one in told}) == 2
    with pytest.raises(NotFound, match=r"no \.ndjson"):
        await imports.run(tmp_path / "folder.ndjson")


async def test_what_each_chunk_is_given_does_not_grow_with_the_files(imports: Import, tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.ndjson").write_bytes(LINE % b"a")
    job_id = await job.plan(imports.queue, [tmp_path], imports.home)
    progress = await imports.queue.progress(job_id)
    assert progress is not None
    assert len(orjson.dumps(progress.params)) < 60 * len(str(tmp_path))
    done = await imports.finish(job_id)
    assert (done.state, done.lines, done.stored) == ("done", 60, 1)


async def test_a_file_that_changed_is_not_read_on(imports: Import, tmp_path: Path) -> None:
    path = tmp_path / "Patient.ndjson"
    path.write_bytes(LINE % b"a")
    job_id = await job.plan(imports.queue, [tmp_path], imports.home)
    path.write_bytes(LINE % b"b")
    os.utime(path, (1, 1))  # a clock may stand still for a moment
    failed = await imports.finish(job_id)
    assert (failed.state, failed.stored) == ("failed", 0)
    assert failed.errors == ["Invalid: Patient.ndjson has changed since this import of it began; import it anew"]
    with pytest.raises(Invalid, match=r"Patient\.ndjson; import anew"):
        await job.resume(imports.queue, [tmp_path])
    assert (await imports.run(tmp_path)).stored == 1


async def test_a_folder_with_a_new_file_is_not_gone_on_with(imports: Import, tmp_path: Path) -> None:
    (tmp_path / "Patient.ndjson").write_bytes(LINE % b"a")
    await job.plan(imports.queue, [tmp_path], imports.home)
    (tmp_path / "late.ndjson").write_bytes(LINE % b"b")
    with pytest.raises(Invalid, match=r"late\.ndjson"):
        await job.resume(imports.queue, [tmp_path])


async def test_a_file_that_is_gone_is_named(imports: Import, tmp_path: Path) -> None:
    path = tmp_path / "Patient.ndjson"
    path.write_bytes(LINE % b"a")
    job_id = await job.plan(imports.queue, [path], imports.home)
    path.unlink()
    chunk = await imports.queue.claim([job.KIND], job_id=job_id)
    assert chunk is not None
    with pytest.raises(Unavailable, match=r"Patient\.ndjson cannot be read: No such file"):
        await job.handler(imports.record)(chunk)


async def test_what_an_import_told_is_removed_when_its_time_is_over(
    record: Record, imports: Import, tmp_path: Path
) -> None:
    path = tmp_path / "Patient.ndjson"
    path.write_bytes(gzip.compress(LINE % b"a" + b"no JSON\n"))
    old, new = await imports.run(path), await imports.run(path)
    assert old.error_file is not None
    assert new.error_file is not None
    assert not list(imports.home.rglob("spool"))
    async with record.database.acquire() as connection:
        await connection.execute("update job set finished = finished - interval '8 days' where id = $1", old.job_id)
    assert await job.clean(imports.queue, imports.home) == 1
    assert [place.name for place in imports.home.iterdir()] == [new.job_id]
    assert (await job.summary(imports.queue, old.job_id)).error_file is None
    async with record.database.acquire() as connection:
        await connection.execute("update job set finished = finished - interval '23 days' where id = $1", old.job_id)
    await job.clean(imports.queue, imports.home)
    assert await imports.queue.progress(old.job_id) is None, "its time is over, too"
    assert await imports.queue.progress(new.job_id) is not None


async def test_a_failed_import_is_begun_anew_when_its_time_is_over(
    record: Record, imports: Import, tmp_path: Path
) -> None:
    path = tmp_path / "Patient.ndjson"
    path.write_bytes(gzip.compress(LINE % b"a"))
    job_id = await job.plan(imports.queue, [path], imports.home)
    async with record.database.acquire() as connection:
        ended = "update job set state = 'failed', finished = now() - $2 * interval '1 day' where id = $1"
        await connection.execute(ended, job_id, 6)
        assert await job.resume(imports.queue, [path]) == job_id
        await connection.execute(ended, job_id, 8)
    assert await job.resume(imports.queue, [path]) is None
