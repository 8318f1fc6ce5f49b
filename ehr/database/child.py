"""Command line → a child process that runs unprivileged and ends when we end, even by kill -9.

Account    the ordinary user itself; under root the passwd entry "nobody", because PostgreSQL refuses uid 0.
           Nothing is added to the system and no mode of a folder we did not make is changed.
Guard      a shell that holds one end of a pipe; when our end closes without a farewell, it signals the child.
           (PR_SET_PDEATHSIG follows the starting *thread*, and exists on Linux only.)
Errors     Unavailable, with what to do
"""

import asyncio
import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from ehr.errors import Unavailable

FALLBACK: Final = Path("/var/lib/city-ehr")
"""Where the unprivileged account finds what it may not reach in root's home."""

LOG_BYTES_MAX: Final = 10 * 1024 * 1024
POLL_S: Final = 0.02
LAST_LINES: Final = 5
GIVING_UP: Final = (" FATAL: ", " PANIC: ")


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a child runs as; uid None means as ourselves."""

    uid: int | None
    gid: int | None
    name: str

    def popen_arguments(self) -> Mapping[str, Any]:
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": ()}

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def reaches(self, folder: Path) -> bool:
        """Whether this account may enter the folder, by trying it."""
        done = subprocess.run(  # noqa: S603 - our own constant command
            ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            check=False,
            **self.popen_arguments(),
        )
        return done.returncode == 0


def ourselves() -> Account:
    """No change of user."""
    return Account(None, None, "")


def account() -> Account:
    """Whom a server of ours runs as."""
    if os.geteuid() != 0:
        try:
            return Account(None, None, pwd.getpwuid(os.geteuid()).pw_name)
        except KeyError as error:
            raise Unavailable(
                f"user id {os.geteuid()} has no entry in the user database, which initdb needs: "
                "run as a named user, or set EHR_DATABASE_URL"
            ) from error
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise Unavailable("there is no user nobody to run PostgreSQL as: set EHR_DATABASE_URL") from error
    return Account(nobody.pw_uid, nobody.pw_gid, "nobody")


def _make_fallback() -> None:
    FALLBACK.mkdir(parents=True, exist_ok=True)
    FALLBACK.chmod(0o755)


def private_folder(wanted: Path, owner: Account) -> Path:
    """Make the folder for this account alone; where it could not enter, one under FALLBACK that `wanted` links to."""
    wanted = wanted.absolute()
    wanted.parent.mkdir(parents=True, exist_ok=True)
    place = wanted.resolve()
    if not wanted.is_symlink() and not owner.reaches(wanted.parent):
        place = FALLBACK / f"{wanted.name}-{hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]}"
        if wanted.exists():
            raise Unavailable(f"{wanted} exists, but user {owner.name} cannot enter {wanted.parent}")
        _make_fallback()
        wanted.symlink_to(place)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner.own(place)
    place.chmod(0o700)
    if not owner.reaches(place):
        raise Unavailable(f"user {owner.name} cannot enter {place}: choose another EHR_DATA_DIR")
    return place


def readable_tree(root: Path, runner: Account, *, needed: Sequence[str]) -> Path:
    """The tree itself where the account may enter it, else a copy of its needed folders under FALLBACK."""
    root = root.resolve()
    if runner.reaches(root / needed[0]):
        return root
    stamp = f"{root} {' '.join(needed)} {(root / needed[0]).stat().st_mtime_ns}"
    copy = FALLBACK / f"{root.name}-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    if not copy.exists():
        _make_fallback()
        partial = copy.with_name(f"{copy.name}.{os.getpid()}")
        for name in needed:
            shutil.copytree(root / name, partial / name, symlinks=True)
        for path in (partial, *partial.rglob("*")):  # installed under a strict umask, they are root's alone
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
        with contextlib.suppress(FileExistsError, OSError):
            partial.rename(copy)
        shutil.rmtree(partial, ignore_errors=True)
    if not runner.reaches(copy / needed[0]):
        raise Unavailable(
            f"user {runner.name} cannot run the programs in {root}: set EHR_POSTGRES_BIN or run as a user"
        )
    return copy


class Child:
    """One supervised process with its guard. Its output goes to the log file, or where our errors go."""

    def __init__(self, process: subprocess.Popen[bytes], guard: subprocess.Popen[bytes], log_file: Path | None) -> None:
        self._process, self._guard, self._log_file = process, guard, log_file

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        runner: Account,
        *,
        log_file: Path | None,
        ending: signal.Signals,
        killing_after_s: int | None = None,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "Child":
        """Start it in a session of its own: Ctrl-C at a terminal reaches us first.

        ending           what asks it to end, by stop() and by the guard
        killing_after_s  when the guard kills the whole session; None: never, as a database must end by itself
        """
        settings = {**runner.popen_arguments(), "start_new_session": True, "cwd": cwd or "/"}
        with _output(log_file) as output:
            process = subprocess.Popen(  # noqa: S603 - the callers' own constant commands
                list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, **settings
            )
        hard = "" if killing_after_s is None else f'; sleep {killing_after_s}; kill -KILL -- "-$1"'
        guard = subprocess.Popen(  # noqa: S603 - our own constant command
            ["/bin/sh", "-c", f'read -r _ || {{ kill -{ending.value} "$1"{hard}; }}', "sh", str(process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **settings,
        )
        return cls(process, guard, log_file)

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        """The last line of its log, for an error text; where PostgreSQL gave up just before, the one that says why."""
        lines = self._log_file.read_text(errors="replace").splitlines() if self._log_file else []
        why = [line for line in lines[-LAST_LINES:] if any(word in line for word in GIVING_UP)]
        return [*(lines or ["no log"])[-1:], *why][-1]

    async def stop(self, asking: signal.Signals, *, patience_s: float = 60.0) -> None:
        """Ask it to end and wait; after patience_s kill its session (PostgreSQL then recovers at its next start).

        One that has ended by itself may have left its own children behind: they end too.
        """
        if self.running():
            self._process.send_signal(asking)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        if not await until(lambda: not self.running(), patience_s):
            os.killpg(self._process.pid, signal.SIGKILL)
            await until(lambda: not self.running(), None)
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.write(b"farewell\n")
            self._guard.stdin.flush()
        self._guard.stdin.close()
        await until(lambda: self._guard.poll() is not None, None)


@contextlib.contextmanager
def _output(log_file: Path | None) -> Iterator[IO[bytes] | int]:
    if log_file is None:
        yield sys.stderr.fileno()
        return
    if log_file.exists() and log_file.stat().st_size > LOG_BYTES_MAX:
        log_file.replace(log_file.with_suffix(".old.log"))
    with log_file.open("ab") as log:
        yield log


async def until(condition: Callable[[], bool], patience_s: float | None) -> bool:
    """Wait for the condition, for ever where patience_s is None; whether it came true."""
    waited_s = 0.0
    while not condition():
        if patience_s is not None and waited_s >= patience_s:
            return False
        await asyncio.sleep(POLL_S)
        waited_s += POLL_S
    return True
