"""This installation → what is well, what is not, and what to do about each.

Out:     Finding per check, in the order in which things depend on one another
Keeps:   everything as it is: it starts the embedded database if nobody runs it, and neither migrates nor repairs
"""

import os
import platform
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Final, Literal

import asyncpg
import psutil

from ehr.access.authenticate import is_loopback
from ehr.bulk import drop
from ehr.clock import Clock
from ehr.database import migrate
from ehr.database.child import account
from ehr.database.embedded import EmbeddedPostgres, wheel_bin
from ehr.errors import EhrError
from ehr.index import formats
from ehr.jobs.broker import wheel_folder
from ehr.serve import running
from ehr.settings import Settings

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

State = Literal["ok", "warning", "failed"]

GIB: Final = 1024**3
DISK_FREE_MIN: Final = 2 * GIB
DISK_FREE_LEAST: Final = GIB // 4
"""Below it the next log files of PostgreSQL may not fit, and nothing is acknowledged any more."""
MEMORY_MIN: Final = 1 * GIB
CLOCK_DIFFERENCE_MAX_S: Final = 2.0
MESSAGE_AGE_MAX_S: Final = 300
TRANSACTION_AGE_MAX_S: Final = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. fix is empty where it is ok."""

    name: str
    state: State
    text: str
    fix: str = ""


_CHECKS: Final = """
select (select count(*) from intake_message
        where state in ('received', 'failed') and received < now() - $1 * interval '1 second') as messages,
       (select count(*) from job where state = 'failed' and finished > now() - interval '7 days') as jobs,
       (select count(*) from outbox where due = 'infinity') as outbox,
       (select count(*) from pg_stat_activity where datname = current_database()
        and xact_start < now() - $2 * interval '1 second' and backend_type = 'client backend') as transactions
"""


async def examine(settings: Settings, clock: Clock) -> AsyncIterator[Finding]:
    """Every check; those that need the database are left out when it cannot be reached."""
    for check in (_python, _machine, _data_folder, _disk, _memory, _access, _signing_key, _ports):
        yield check(settings)
    yield _programs(settings)
    async with AsyncExitStack() as stack:
        try:
            url = await _database(settings, stack)
            connection = await asyncpg.connect(url, timeout=10)
        except (EhrError, OSError, asyncpg.PostgresError, TimeoutError, ValueError) as error:
            fix = "look at postgres.log in the data folder, or check EHR_DATABASE_URL and that its server runs"
            yield Finding("database", "failed", f"cannot be reached: {type(error).__name__}", fix)
            return
        stack.push_async_callback(connection.close)
        async for finding in _inside(connection, url, settings, clock):
            yield finding


async def _database(settings: Settings, stack: AsyncExitStack) -> str:
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    embedded = EmbeddedPostgres(settings.data_dir, settings.postgres_bin)
    stack.push_async_callback(embedded.stop)
    return await embedded.start()


async def _inside(connection: "Connection", url: str, settings: Settings, clock: Clock) -> AsyncIterator[Finding]:
    number = connection.get_server_version().major
    if number < 15:
        yield Finding("database", "failed", f"PostgreSQL {number}", "use PostgreSQL 15 or newer")
    else:
        yield Finding("database", "ok", f"PostgreSQL {number} answers")
    for name, wanted, fix in (
        ("fsync", "on", "set fsync = on: without it a power cut loses acknowledged messages"),
        ("data_checksums", "on", "stop the server and run pg_checksums --enable"),
        ("server_encoding", "UTF8", "make the database anew with encoding UTF8"),
    ):
        found = await connection.fetchval("select current_setting($1)", name)
        yield Finding(name, "ok" if found == wanted else "failed", f"{name} is {found}", "" if found == wanted else fix)
    yield await _log_compression(connection)
    apart_s = abs((await connection.fetchval("select clock_timestamp()") - clock.now().astimezone(UTC)).total_seconds())
    well = apart_s <= CLOCK_DIFFERENCE_MAX_S
    text = f"this machine and the database are {apart_s:.1f} s apart"
    yield Finding("clock", "ok" if well else "warning", text, "" if well else "run NTP on both machines")
    found, needed = await migrate.current(url), migrate.newest()
    if found is None:
        yield Finding("migrations", "warning", "the database is empty", "ehr serve or ehr db upgrade will fill it")
        return
    if found != needed:
        yield Finding("migrations", "failed", f"the database is at {found}, not {needed}", "ehr db upgrade")
        return
    yield Finding("migrations", "ok", f"at {found}")
    yield await _index(connection)
    yield await _drop_folders(connection, settings)
    row = await connection.fetchrow(_CHECKS, MESSAGE_AGE_MAX_S, TRANSACTION_AGE_MAX_S)
    assert row is not None, "a row of counts"
    for name, text, fix in (
        ("messages", "kept messages not applied after 5 minutes", "ehr message list --state failed; is a worker up?"),
        ("jobs", "jobs failed in the last 7 days", "look at their errors, then run them again"),
        ("outbox", "outbox rows given up", "look at outbox.error; set due = now() to try again"),
        ("transactions", "transactions open for over a minute: they hold the change feed back", "end their sessions"),
    ):
        count = row[name]
        yield Finding(name, "warning" if count else "ok", f"{count} {text}", fix if count else "")


async def _log_compression(connection: "Connection") -> Finding:
    """Pages of the record are full of hashes and zstd frames (docs/performance.md)."""
    found = await connection.fetchval("select current_setting('wal_compression')")
    text = f"wal_compression is {found}"
    if found == "off":
        return Finding("wal_compression", "ok", text)
    fix = "set wal_compression = off: pages of the record become hardly shorter, and trying doubles the cost of imports"
    return Finding("wal_compression", "warning", text, fix)


async def _drop_folders(connection: "Connection", settings: Settings) -> Finding:
    home = settings.data_dir / drop.FOLDER
    codes = {row["code"] for row in await connection.fetch("select code from facility where active")}
    folders = {place.name for place in home.iterdir() if place.is_dir()} if home.is_dir() else set()
    if not (strange := sorted(folders - codes)):
        return Finding("drop folders", "ok", f"{len(folders)}, each of a facility")
    text = f"files in {', '.join(strange[:5])} are not taken: no active facility has this code"
    return Finding("drop folders", "warning", text, "name folders by codes of facilities that are active")


async def _index(connection: "Connection") -> Finding:
    found = await formats.standing(connection)
    if found >= formats.FORMAT:
        return Finding("index", "ok", f"every row is indexed in format {found}")
    text = f"rows may be indexed in format {found}, not {formats.FORMAT}: searches that need more are refused"
    return Finding("index", "warning", text, "workers index them anew; if the job failed, ehr db reindex")


def _python(_: Settings) -> Finding:
    return Finding("python", "ok", f"{platform.python_implementation()} {platform.python_version()}")


def _machine(_: Settings) -> Finding:
    system = f"{platform.system()} {platform.machine()}"
    if platform.system() not in ("Linux", "Darwin"):
        return Finding("machine", "failed", system, "use Linux or macOS, or WSL")
    return Finding("machine", "ok", f"{system}, {os.cpu_count()} processors")


def _data_folder(settings: Settings) -> Finding:
    folder = settings.data_dir.absolute()
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("data folder", "failed", f"{existing} is not writable", "choose another EHR_DATA_DIR")
    try:
        runner = account()
    except EhrError as error:
        return Finding("data folder", "failed", str(error), "set EHR_DATABASE_URL")
    if settings.database_url is None and not runner.reaches(existing):
        text = f"user {runner.name} cannot enter it: the embedded database lives under /var/lib/city-ehr instead"
        return Finding("data folder", "warning", text, "choose an EHR_DATA_DIR outside a private home")
    return Finding("data folder", "ok", str(folder))


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free >= DISK_FREE_MIN:
        return Finding("disk", "ok", f"{free / GIB:.1f} GiB free")
    state: State = "warning" if free >= DISK_FREE_LEAST else "failed"
    text = f"{free / GIB:.1f} GiB free at {folder}: when it is full, nothing is stored or acknowledged until it is not"
    return Finding("disk", state, text, "move the data folder to a larger disk, or old exports out of it")


def _memory(_: Settings) -> Finding:
    total = psutil.virtual_memory().total
    well = total >= MEMORY_MIN
    return Finding(
        "memory", "ok" if well else "warning", f"{total / GIB:.1f} GiB", "" if well else "1 GiB is the least"
    )


def _access(settings: Settings) -> Finding:
    if settings.access == "open" and not is_loopback(settings.host):
        return Finding("access", "failed", f"open on {settings.host}", "bind 127.0.0.1, or EHR_ACCESS=enforced")
    return Finding("access", "ok", f"{settings.access} on {settings.host}")


def _signing_key(settings: Settings) -> Finding:
    key = settings.data_dir / "keys" / "token-signing.jwk"
    if not key.exists():
        return Finding("signing key", "ok", "will be made at the first start")
    if stat.S_IMODE(key.stat().st_mode) & 0o077:
        return Finding("signing key", "failed", "others may read it", f"chmod 600 {key}, and rotate it")
    return Finding("signing key", "ok", "only its owner may read it")


def _ports(settings: Settings) -> Finding:
    if told := running(settings.data_dir):
        if psutil.pid_exists(int(str(told["pid"]))):
            return Finding("ports", "ok", f"this data folder is served at {told['base_url']}")
        text = f"what served this data folder at {told['base_url']} ended without a word (kill -9, power, memory)"
        return Finding(
            "ports", "warning", text, "look at the end of its log, then start ehr serve: it recovers by itself"
        )
    taken = [str(port) for port in (settings.port, settings.mllp_port) if port and _is_taken(settings.host, port)]
    if taken:
        return Finding("ports", "failed", f"taken: {', '.join(taken)}", "choose others with --port and --mllp-port")
    return Finding("ports", "ok", f"{settings.port} and {settings.mllp_port} are free")


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


def _programs(settings: Settings) -> Finding:
    needed: list[Callable[[], object]] = []
    if settings.database_url is None:
        needed.append(lambda: settings.postgres_bin or wheel_bin())
    if settings.broker_url is None:
        needed.append(wheel_folder)
    try:
        for one in needed:
            one()
    except EhrError as error:
        return Finding("programs", "failed", str(error), "make install")
    return Finding(
        "programs", "ok", "PostgreSQL and the broker are installed" if needed else "outside services are used"
    )
