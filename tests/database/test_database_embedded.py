"""The embedded PostgreSQL: kill -9 of the server and of its owner, shared folders, long paths, the wrong major."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest

from ehr.database import child, embedded
from ehr.database.embedded import EmbeddedPostgres, wheel_bin
from ehr.errors import Unavailable

OWNER = """
import asyncio, sys
from pathlib import Path
from ehr.database.embedded import EmbeddedPostgres

async def main():
    print(await EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


async def value(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def write(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_settings_that_keep_what_was_acknowledged(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    url = await server.start()
    try:
        for name, wanted in (("fsync", "on"), ("synchronous_commit", "on"), ("data_checksums", "on"), ("jit", "off")):
            assert await value(url, f"select current_setting('{name}')") == wanted
        assert await value(url, "select current_setting('listen_addresses')") == ""
        collation = await value(url, "select datlocale from pg_database where datname = 'ehr'")
        assert collation == "C.UTF-8"
        if os.geteuid() == 0:
            assert psutil.Process(_postmaster(data_dir)).username() == "nobody"
    finally:
        await server.stop()


def _postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "cluster" / "postmaster.pid").read_text().splitlines()[0])


async def test_what_was_committed_survives_kill_9_of_the_whole_server(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    url = await server.start()
    rows = "insert into kept select n, repeat('x', 100) from generate_series(1, 200000) as n"
    await write(url, "create table kept (n integer, filler text)", rows)
    postmaster = psutil.Process(_postmaster(data_dir))
    for process in [postmaster, *postmaster.children()]:
        with suppress(psutil.NoSuchProcess):  # without its postmaster a process of the server leaves by itself
            process.kill()
    again = EmbeddedPostgres(data_dir)
    await server.stop()
    url = await again.start()
    try:
        assert await value(url, "select count(*) from kept") == 200_000
    finally:
        await again.stop()


async def test_the_server_ends_with_its_owner_and_starts_again(data_dir: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(data_dir)], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    url = (await asyncio.to_thread(owner.stdout.readline)).decode().strip()
    await write(url, "create table kept as select 1 as n")
    postmaster = _postmaster(data_dir)
    owner.send_signal(signal.SIGKILL)
    await asyncio.to_thread(owner.wait)
    owner.stdout.close()
    server = EmbeddedPostgres(data_dir)
    url = await server.start()
    try:
        assert server.owned
        assert await value(url, "select count(*) from kept") == 1
        assert _postmaster(data_dir) != postmaster
        assert not psutil.pid_exists(postmaster) or psutil.Process(postmaster).status() == psutil.STATUS_ZOMBIE
    finally:
        await server.stop()


async def test_the_last_words_of_a_server_say_why_it_gave_up(data_dir: Path) -> None:
    script = "echo 'UTC [7] FATAL:  no space left'; echo 'UTC [6] LOG:  shut down'"
    ended = child.Child.start(
        ["/bin/sh", "-c", script], child.account(), log_file=data_dir / "log", ending=signal.SIGTERM
    )
    assert await child.until(lambda: not ended.running(), 10)
    await ended.stop(signal.SIGTERM)
    assert ended.last_words() == "UTC [7] FATAL:  no space left"


async def test_a_second_process_uses_the_running_server_and_takes_over_when_it_ends(data_dir: Path) -> None:
    first, second = EmbeddedPostgres(data_dir), EmbeddedPostgres(data_dir)
    url = await first.start()
    assert await second.start() == url
    assert [server.owned for server in (first, second)] == [True, False]
    await second.stop()
    assert await value(url, "select 1") == 1, "the second one's stop leaves the first one's server alone"
    await first.stop()
    assert await second.start() == url
    assert second.owned
    await second.stop()


@pytest.fixture
async def stranger() -> AsyncIterator[child.Child]:
    """A process of the account that the server runs as: another's is not taken for it."""
    living = child.Child.start(["/bin/sleep", "600"], child.account(), log_file=None, ending=signal.SIGTERM)
    yield living
    await living.stop(signal.SIGTERM)


@pytest.mark.parametrize("lock", ["cluster/postmaster.pid", f"socket/{embedded.SOCKET_LOCK}"])
async def test_a_stale_pid_of_a_living_stranger_does_not_stop_the_start(
    data_dir: Path, stranger: child.Child, lock: str
) -> None:
    server = EmbeddedPostgres(data_dir)
    await server.start()
    lock_file = data_dir / "postgres" / lock
    left = lock_file.read_text().split("\n", 1)[1]
    await server.stop()
    lock_file.write_text(f"{stranger.pid}\n{left}")
    url = await server.start()
    assert await value(url, "select 1") == 1
    await server.stop()


async def test_a_path_too_long_for_a_socket_gets_a_short_one(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir / ("long" * 25))
    url = await server.start()
    assert await value(url, "select 1") == 1
    await server.stop()


async def test_a_cluster_of_another_major_version_is_refused_and_left_alone(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    await server.start()
    await server.stop()
    version = data_dir / "postgres" / "cluster" / "PG_VERSION"
    version.write_text("14\n")
    with pytest.raises(Unavailable, match="PostgreSQL 14"):
        await server.start()
    version.write_text(f"{embedded._version(wheel_bin(), 'postgres')}\n")
    assert await value(await server.start(), "select 1") == 1
    await server.stop()


async def test_a_folder_without_postgresql_is_named(data_dir: Path) -> None:
    empty = data_dir / "nothing" / "bin"
    for name in ("bin", "lib", "share"):
        (data_dir / "nothing" / name).mkdir(parents=True)
    with pytest.raises(Unavailable, match="no working initdb"):
        await EmbeddedPostgres(data_dir, empty).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that the unprivileged account cannot enter")
async def test_under_root_a_private_folder_gets_a_place_that_nobody_can_enter(data_dir: Path) -> None:
    private = data_dir / "private"
    private.mkdir(mode=0o700)
    server = EmbeddedPostgres(private)
    url = await server.start()
    place = (private / "postgres").resolve()
    try:
        assert await value(url, "select 1") == 1
        assert (private / "postgres").is_symlink()
        assert oct(private.stat().st_mode & 0o777) == "0o700", "no mode of a folder we did not make is changed"
    finally:
        await server.stop()
        await asyncio.to_thread(subprocess.run, ["rm", "-rf", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that the unprivileged account cannot enter")
async def test_under_root_programs_in_a_private_folder_are_copied_with_their_libraries(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a checkout in root's home, installed under a strict umask."""
    package, private = wheel_bin().parents[1], data_dir / "private"
    private.mkdir(mode=0o700)
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.is_dir():
            await asyncio.to_thread(shutil.copytree, folder, private / folder.name, symlinks=True)
    for path in private.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    monkeypatch.setattr(child, "FALLBACK", data_dir / "fallback")
    monkeypatch.setattr(embedded, "wheel_bin", lambda: private / package.name / "pginstall" / "bin")
    server = EmbeddedPostgres(data_dir)
    try:
        assert await value(await server.start(), "select 1") == 1
        assert Path(psutil.Process(_postmaster(data_dir)).exe()).is_relative_to(data_dir / "fallback")
    finally:
        await server.stop()
