"""`ehr import` as an operator meets it: one line and an exit code say what is wrong; interruptions cost nothing."""

import asyncio
import gzip
import os
import resource
import signal
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import asyncpg
import pytest

from ehr import cli
from ehr.bulk import job
from ehr.errors import Unavailable
from ehr.jobs.queue import Queue
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record

LINE = '{"resourceType":"Patient","id":"p%d"}\n'


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.database_url is not None
    monkeypatch.setenv("EHR_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("EHR_DATA_DIR", str(settings.data_dir))


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run it as the shell does; its exit code."""
    monkeypatch.setattr("sys.argv", ["ehr", "import", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nothing.ndjson"], "nothing.ndjson"),
        (["x" * 300 + ".ndjson"], "File name too long"),
        (["made.ndjson", "--references", "perhaps"], "report"),
        (["made.ndjson", "--processes", "0"], "greater than or equal to 1"),
        (["made.ndjson", "--facility", "00000"], "no facility 00000"),
    ],
)
@pytest.mark.usefixtures("environment")
def test_what_is_asked_wrongly_is_exit_2(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("made.ndjson").write_text(LINE % 1)
    assert command(monkeypatch, *arguments) == 2
    assert text in capfd.readouterr().err


@pytest.mark.usefixtures("environment")
def test_interrupted_it_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, plan = tmp_path / "Patient.ndjson", job.plan
    path.write_text(LINE % 1)

    async def planned(*arguments: Any, **more: Any) -> str:
        job_id = await plan(*arguments, **more)
        os.kill(os.getpid(), signal.SIGINT)
        return job_id

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        with monkeypatch.context() as patched:
            patched.setattr(job, "plan", planned)
            assert command(patched, str(path)) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "--resume goes on" in capfd.readouterr().err
    assert command(monkeypatch, str(path), "--resume", "--json") == 0
    assert '"stored": 1' in capfd.readouterr().out


@pytest.mark.usefixtures("environment")
def test_a_disk_without_room_is_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "Patient.ndjson.gz"
    path.write_bytes(gzip.compress((LINE % 1).encode() * 50_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        assert command(monkeypatch, str(path)) == 75
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "the disk does not take what is written: File too large" in capfd.readouterr().err


async def _end_others(url: str) -> None:
    """What a restart of the server does to its connections."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    await connection.close()


async def test_a_database_that_is_restarted_is_waited_for(record: Record, settings: Settings, tmp_path: Path) -> None:
    path, queue, ended = tmp_path / "Patient.ndjson", Queue(record.database), 0
    path.write_text("".join(LINE % n for n in range(30)))
    job_id = await job.plan(queue, [path], settings.data_dir / job.IMPORTS, part_bytes=100)

    def seen(told: job.Summary) -> None:
        nonlocal ended
        if ended < 3 or told.over:
            ended += 1
            thread = Thread(target=asyncio.run, args=[_end_others(record.database.url)])
            thread.start()
            thread.join()

    opener = partial(open_record, settings, record.database.url)
    done = await job.run_here(record, queue, job_id, opener, processes=1, seen=seen)
    assert (done.state, done.stored) == ("done", 30)
    assert ended


async def test_a_database_that_stays_away_ends_the_wait(
    record: Record, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, queue = tmp_path / "Patient.ndjson", Queue(record.database)
    path.write_text(LINE % 1)
    job_id = await job.plan(queue, [path], settings.data_dir / job.IMPORTS)
    monkeypatch.setattr("ehr.limits.job_lease_s", 0.3)

    async def refused(*_: object, **__: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(Queue, "claim", refused)
    opener = partial(open_record, settings, record.database.url)
    with pytest.raises(Unavailable, match="what is stored stays stored"):
        await job.run_here(record, queue, job_id, opener, processes=1, seen=lambda _: None)
