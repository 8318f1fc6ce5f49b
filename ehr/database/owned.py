"""A server in a folder of its own: one process of ours runs it, and the others use it while it does.

In:      home   the server's folder
Out:     start() -> the server's URL, when it answers
Order:   who holds home/owner.lock (flock) owns the server. A lock ends with its process, even by kill -9, and whoever
         waits for the server then takes over; so `ehr token` and `ehr import` work beside `ehr serve`. Who goes on
         serving looks after it, and starts it anew when its owner has gone
Errors:  Unavailable, with the last line of the server's log
"""

import asyncio
import fcntl
import os
import shutil
import signal
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, ClassVar, Final

from ehr.database.child import Account, Child, account, private_folder
from ehr.errors import Unavailable

SOCKET_PATH_BYTES_MAX: Final = 100
"""sun_path holds 108 bytes on Linux and 104 on macOS, with the closing zero."""

_ANSWER_POLL_S: Final = 0.02
_OWNER_POLL_S: Final = 0.1


class OwnedServer(ABC):
    name: ClassVar[str]
    ending: ClassVar[signal.Signals]
    """Asks the server to end its sessions and to leave everything in order."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._url: str | None = None
        self._lock: IO[bytes] | None = None
        self._child: Child | None = None
        self._short: Path | None = None

    @abstractmethod
    async def _launch(self, home: Path, runner: Account) -> str:
        """Start the server as self._child; its URL when it answers."""

    @abstractmethod
    async def _running(self, home: Path) -> str | None:
        """The URL of the server another process runs, where it answers."""

    @property
    def owned(self) -> bool:
        """Whether this process runs the server, rather than using another's."""
        return self._child is not None

    async def look_after(self) -> bool:
        """Whether the server that this process started runs; another's is started here when its owner has gone."""
        if self._child is not None:
            return self._child.running()
        url = self._url
        return not self._is_left() or await self.start() == url

    def _is_left(self) -> bool:
        """Whether nobody owns it."""
        lock = _locked(self._home / "owner.lock")
        if lock is not None:
            lock.close()
        return lock is not None

    async def start(self) -> str:
        """Start the server, or find the one that another process of ours runs."""
        assert self._child is None, "start() once"
        runner = account()
        home = private_folder(self._home, runner)
        while (lock := _locked(home / "owner.lock")) is None:
            if (url := await self._running(home)) is not None:
                self._url = url
                return url
            await asyncio.sleep(_OWNER_POLL_S)
        self._lock = lock
        try:
            self._url = await self._launch(home, runner)
        except BaseException:
            await self.stop()
            raise
        return self._url

    async def stop(self) -> None:
        """End the server and wait for it. Does nothing to another's."""
        if self._child is not None:
            await self._child.stop(self.ending)
            self._child = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)
            self._short = None

    async def _answering(self, answers: Callable[[], Awaitable[bool]]) -> None:
        """Wait as long as the server lives: crash recovery may take minutes, and killing it would only repeat it."""
        assert self._child is not None
        while not await answers():
            if not self._child.running():
                raise Unavailable(f"{self.name} did not start: {self._child.last_words()}")
            await asyncio.sleep(_ANSWER_POLL_S)

    def _short_folder(self, runner: Account) -> Path:
        """A folder for a socket whose path would be too long at home; it goes when the server does."""
        self._short = Path(tempfile.mkdtemp(prefix="ehr-"))
        runner.own(self._short)
        return self._short


def fits_socket(path: Path) -> bool:
    return len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX


def _locked(path: Path) -> IO[bytes] | None:
    """The open lock file, where nobody else holds it."""
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
