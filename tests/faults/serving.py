"""A real `ehr serve` process that a test starts, kills at any moment, and starts again on the same data folder.

In:      a data folder; options and EHR_* variables of the command; nothing else of ours comes from outside
Out:     .base and .mllp_port of the running process, new at every start; log lines in the folder's serve.log
Kinds    kill()               SIGKILL to the serving process; its guard then ends the embedded database in order
         kill(database=True)  SIGKILL to the postmaster first: the next start recovers from the WAL
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from ehr.serve import running

ROOT: Final = Path(__file__).resolve().parents[2]
COMMAND: Final = [sys.executable, "-m", "ehr", "serve"]
READY_S: Final = 90.0
END_S: Final = 60.0
LOOK_S: Final = 0.1
NO_BROKER: Final = "redis://127.0.0.1:1/0"
"""Named and never there: `serve` then brings neither broker nor worker, and starts in half the time."""


class Serving:
    """One installation. `async with Serving(data_dir) as serving` starts it, and leaves no process behind."""

    base: str
    mllp_port: int
    pid: int

    def __init__(self, data_dir: Path, *options: str, broker: bool = False, **environment: str) -> None:
        """broker: bring one, with a worker. environment: EHR_* variables; without EHR_DATABASE_URL the database is
        the folder's own.
        """
        self.data_dir = data_dir
        self.starts = 0
        self._options = options or ("--port", "0", "--mllp-port", "0", "--access", "open")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EHR_")}
        own = {"EHR_DATA_DIR": str(data_dir), "EHR_LOG_LEVEL": "WARNING"}
        self._environment = kept | own | ({} if broker else {"EHR_BROKER_URL": NO_BROKER}) | environment
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            await self.stop()
        await self.gone()

    async def start(self) -> None:
        """Returns when it has said that it is ready."""
        assert self._process is None, "it runs already"
        with (self.data_dir / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*COMMAND, *self._options], cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(READY_S):
            line = (await asyncio.to_thread(self._process.stdout.readline)).decode()
        assert line.startswith("ready http://"), f"{line!r}: {self.last_words()}"
        told = running(self.data_dir)
        self.base, self.pid = line.split()[1], self._process.pid
        self.mllp_port = int(str(told["mllp_port"]))
        self.starts += 1

    async def kill(self, *, database: bool = False) -> None:
        """SIGKILL, without a word; the database first where it is to fall too."""
        if self._process is None:
            return
        if database:
            os.kill(self.postmaster(), signal.SIGKILL)
        self._process.send_signal(signal.SIGKILL)
        await self.ended()

    async def kill_database(self) -> None:
        """SIGKILL to the postmaster alone; returns when its last backend has noticed, which may serve until then."""
        os.kill(self.postmaster(), signal.SIGKILL)
        await until_empty(self.data_dir / "postgres" / "cluster")

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.ask_to_end()
        return await self.ended()

    def ask_to_end(self) -> None:
        """SIGTERM, without waiting."""
        assert self._process is not None, "it does not run"
        self._process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for its end; its exit code."""
        process, self._process = self._process, None
        assert process is not None, "it does not run"
        assert process.stdout is not None, "its output is a pipe"
        try:
            code = await asyncio.to_thread(process.wait, END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
            raise
        finally:
            process.stdout.close()
        return code

    @property
    def root(self) -> str:
        """Where /readyz and the other pages of the process are."""
        return self.base.removesuffix("/fhir")

    def postmaster(self) -> int:
        """The pid of the embedded PostgreSQL, by its pid file."""
        pid_file = self.data_dir / "postgres" / "cluster" / "postmaster.pid"
        return int(pid_file.read_text().split("\n", 1)[0])

    def last_words(self) -> str:
        return "\n".join((self.data_dir / "serve.log").read_text(errors="replace").splitlines()[-5:])

    async def gone(self) -> None:
        """Wait until nothing of this installation runs any more."""
        await until_empty(self.data_dir)


async def until_empty(folder: Path) -> None:
    """Wait until no process lives in the folder."""
    for _ in range(int(END_S / LOOK_S)):
        if not living_in(folder):
            return
        await asyncio.sleep(LOOK_S)
    raise AssertionError(f"still running after {END_S:g} s: {living_in(folder)}")


def living_in(folder: Path) -> list[int]:
    """Processes whose command line or working folder names this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if str(folder) in " ".join(process.cmdline()) or process.cwd().startswith(str(folder)):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
