"""A running embedded database → a data folder of its own, as of one moment, while everybody goes on writing.

In:      the data folder of the installation; a folder that is empty or not there yet
Out:     what `ehr serve --data-dir` starts from: the cluster, proved by its own checksums and log, and the keys
Not:     files that wait in drop folders, and what imports and exports keep: they are no part of the record
Errors:  Invalid where there is nothing to copy, or the folder is in use; Unavailable with PostgreSQL's last words
Source:  PostgreSQL documentation, pg_basebackup, pg_verifybackup
"""

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from ehr.database.child import Account, account, private_folder
from ehr.database.embedded import ROLE, EmbeddedPostgres, programs
from ehr.errors import Invalid, Unavailable

KEYS: Final = "keys"


async def backup(data_dir: Path, target: Path, bin_dir: Path | None = None) -> None:
    """Make `target` a data folder that holds everything committed until now."""
    await asyncio.to_thread(_check, data_dir, target)
    server = EmbeddedPostgres(data_dir, bin_dir)
    try:
        url = await server.start()
        await asyncio.to_thread(_copy, url, data_dir, target, bin_dir)
    finally:
        await server.stop()


def _check(data_dir: Path, target: Path) -> None:
    if not (data_dir / "postgres" / "cluster").exists():
        raise Invalid(f"{data_dir} has no embedded database", at="--data-dir")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Invalid(f"{target} is not empty: name a new folder", at="FOLDER")


def _copy(url: str, data_dir: Path, target: Path, bin_dir: Path | None) -> None:
    runner = account()
    bin_dir = programs(bin_dir, runner)
    home = private_folder(target / "postgres", runner)
    partial = home / "cluster.partial"
    (socket_folder,) = parse_qs(urlsplit(url).query)["host"]
    _run([bin_dir / "pg_basebackup", "-h", socket_folder, "-U", ROLE, "-D", partial, "-c", "fast"], runner)
    _run([bin_dir / "pg_verifybackup", "-q", partial], runner)
    shutil.copytree(data_dir / KEYS, target / KEYS)
    partial.rename(home / "cluster")


def _run(command: list[str | Path], runner: Account) -> None:
    done = subprocess.run(  # noqa: S603 - our own constant commands
        [str(word) for word in command],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        **runner.popen_arguments(),
    )
    if done.returncode != 0:
        name = Path(command[0]).name
        words = done.stderr.decode(errors="replace").strip().removeprefix(f"{name}: ").splitlines()
        raise Unavailable(f"{name}: {words[0] if words else 'failed'}")
