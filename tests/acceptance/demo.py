"""The real `ehr demo` on a terminal of its own: what a person sees and types, and nothing behind it.

In:      a data folder; options of the command
Out:     .base, .console, .citizens, .mllp once they were printed; screen(), everything the terminal was sent
"""

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
ROWS: Final = 45
COLUMNS: Final = 150
START_S: Final = 60.0
END_S: Final = 60.0


class Demo:
    """A running demo."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self._seen = bytearray()
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ehr", "demo", "--port", "0", "--mllp-port", "0", *options],
            cwd=ROOT,
            env=environment(data_dir),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        while True:
            try:
                got = os.read(self._terminal, 65_536)
            except OSError:  # Linux says so when the last process has left the terminal
                return
            if not got:
                return
            self._seen += got

    def screen(self) -> str:
        """Everything so far, without what moves the cursor or colours the text."""
        text = bytes(self._seen).decode("utf-8", "replace").replace("\r\n", "\n")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)

    def found(self, pattern: str) -> list[str]:
        return re.findall(pattern, self.screen(), re.MULTILINE)

    async def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """The first group of each match, once there are so many."""
        async with asyncio.timeout(START_S):
            while len(found := self.found(pattern)) < count:
                assert self.process.poll() is None, self.screen()[-2_000:]
                await asyncio.sleep(0.1)
        return found

    async def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return await self.ended()

    async def ended(self) -> int:
        code = await asyncio.to_thread(self.process.wait, END_S)
        await asyncio.to_thread(self._reading.join, 5.0)
        return code

    async def close(self) -> None:
        """However the test ended: no process, no open terminal."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(self.process.wait, END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                await asyncio.to_thread(self.process.wait)
        await asyncio.to_thread(self._reading.join, 5.0)
        os.close(self._terminal)

    def command(self, *arguments: str) -> str:
        """What another `ehr` command on this data folder prints."""
        done = subprocess.run(
            [sys.executable, "-m", "ehr", *arguments],
            cwd=ROOT,
            env=environment(self.data_dir),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def environment(data_dir: Path) -> dict[str, str]:
    """Nothing of ours from outside, and a terminal that can do what terminals can."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EHR_", "COLUMNS", "LINES"))}
    return kept | {"EHR_DATA_DIR": str(data_dir), "TERM": "xterm-256color"}


@asynccontextmanager
async def demo(data_dir: Path, *options: str) -> AsyncIterator[Demo]:
    running = Demo(data_dir, *options)
    try:
        yield running
    finally:
        await running.close()
