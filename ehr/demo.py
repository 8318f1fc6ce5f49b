"""Compose the whole city in one terminal: what `ehr serve` starts, the insurer, 661 facilities and their patients.

In:      settings as for `ehr serve`, and a plan of the traffic
Out:     one line "ready …", links to open, a live table (a line every few seconds where there is no terminal), and at
         the end the report of the traffic and the balance with the insurer
"""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from ehr.access.authenticate import Authenticator, citizen_link
from ehr.access.token import LINK
from ehr.demo_screen import Seen, plain, table, tiles
from ehr.errors import Unavailable
from ehr.fhir.r4 import TYPE_IDS
from ehr.serve import City, city, environment_of
from ehr.settings import Settings
from ehr.simulate import Plan
from ehr.store.ledger import facility_status
from ehr.web.ops import OPERATOR_SCOPE
from ehr.web.ops import city as headline
from sync.gateway_sim.faults import Faults
from sync.gateway_sim.serve import gateway_sim
from sync.reconcile import balance
from sync.schedule import run_sync

LOOK_EVERY_S: Final = 2.0
PLAIN_EVERY: Final = 3
"""Looks between two lines where there is no terminal."""

LOG: Final = "demo.log"
LINKS: Final = 3
INSURER: Final = Faults(rejections=0.05, unavailable=0.01, answer_after_s=1.0)
"""An insurer as it is: some dossiers are refused, some calls fail, answers take a moment."""

ROUNDS_MAX: Final = 20
"""Insurance rounds at the end, until nothing is pending."""

_PERSONS: Final = """
SELECT person_id, count(*) AS sources FROM person_link GROUP BY person_id ORDER BY 2 DESC, 1 LIMIT $1
"""
_COUNTS: Final = """
SELECT (SELECT count(*) FROM resource WHERE type_id = $1) AS patients,
       (SELECT count(*) FROM resource WHERE type_id = $2) AS persons,
       (SELECT count(*) FROM resource WHERE type_id = $3) AS encounters,
       (SELECT count(*) FROM sync_dossier WHERE state = 'accepted') AS accepted,
       (SELECT count(*) FROM sync_dossier WHERE state = 'rejected') AS rejected,
       (SELECT count(*) FROM sync_dossier WHERE state IN ('pending', 'batched')) AS pending,
       (SELECT coalesce(sum(t_bhtt), 0) FROM sync_dossier WHERE state = 'accepted') AS dong
"""


async def demo(settings: Settings, plan: Plan, *, say: Callable[[str], None]) -> bool:
    """Run until the plan ends or somebody stops it; True when the balance with the insurer closed."""
    stop = asyncio.Event()
    for asked in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(asked, stop.set)
    with _terminal(settings.data_dir / LOG) as console:
        async with (
            gateway_sim(faults=INSURER) as insurer,
            city(settings.model_copy(update={"insurer_url": insurer.url})) as running,
        ):
            say(f"ready {running.base_url}")
            for line in _addresses(running):
                say(line)
            if console.is_terminal:
                say(f"log      {settings.data_dir / LOG}")
            seen = Seen()
            async with _traffic(running.settings, plan, seen) as process:
                await _Screen(running, plan, seen, say, console).watch(process, stop)
            return await _close_books(running, say)


@contextmanager
def _terminal(place: Path) -> Iterator[Console]:
    """The terminal for the table alone: what any process of the city logs goes to a file then."""
    if not sys.stderr.isatty():
        yield Console(stderr=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as screen, place.open("ab") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
        try:
            yield Console(file=screen)
        finally:
            os.dup2(screen.fileno(), sys.stderr.fileno())


@asynccontextmanager
async def _traffic(settings: Settings, plan: Plan, seen: Seen) -> AsyncIterator[asyncio.subprocess.Process]:
    """`ehr simulate` as a child; what it tells goes into seen."""
    options = {
        "--facilities": plan.facilities,
        "--speed": plan.speed,
        "--seed": plan.seed,
        "--citizens": plan.citizens,
        "--faults": plan.faults,
        "--visits": plan.visits or 0,
        "--duration": plan.duration_s,
    }
    given = [str(word) for name, value in options.items() if value is not None for word in (name, value)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ehr",
        "simulate",
        "--json",
        *given,
        env=environment_of(settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None, "asked for a pipe"

    async def listen(stream: asyncio.StreamReader) -> None:
        async for line in stream:
            seen.traffic = orjson.loads(line)

    listening = asyncio.create_task(listen(process.stdout))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
        await listening


class _Screen:
    """What the terminal shows: a live table, or a line now and then where there is no terminal."""

    def __init__(self, running: City, plan: Plan, seen: Seen, say: Callable[[str], None], console: Console) -> None:
        self._running = running
        self._seen = seen
        self._say = say
        self._console = console
        self._progress = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[shown]}"))
        self._task = self._progress.add_task("traffic", total=plan.duration_s, shown="")
        self._looks = 0
        self._linked = False

    async def watch(self, process: asyncio.subprocess.Process, stop: asyncio.Event) -> None:
        """Look at the city every two seconds until the traffic ends or somebody stops us."""
        ended, stopped = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
        with Live(console=self._console, refresh_per_second=2, redirect_stdout=False, redirect_stderr=False) as live:
            while not (ended.done() or stopped.done()):
                await asyncio.wait({ended, stopped}, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                await self._show(live)
        stopped.cancel()
        if not ended.done():
            process.send_signal(signal.SIGTERM)
        if await ended not in (0, -signal.SIGTERM):
            raise Unavailable(f"the simulated facilities ended with status {process.returncode}: see the log above")
        await _look(self._running, self._seen)
        self._say(plain(self._seen))

    async def _show(self, live: Live) -> None:
        seen = self._seen
        await _look(self._running, seen)
        passed_s = float(seen.traffic.get("seconds") or 0.0)
        moment = str(seen.traffic.get("simulated", ""))[:16].replace("T", " ")
        shown = f"{seen.traffic.get('phase', 'starting')} {moment}"
        self._progress.update(self._task, completed=passed_s, shown=shown)
        if not self._linked and len(seen.persons) >= LINKS:
            self._linked = True
            for line in _citizen_links(self._running, seen.persons):
                self._tell(line)
        if self._console.is_terminal:
            live.update(Group(self._progress, tiles(seen), table(seen)))
        elif self._looks % PLAIN_EVERY == 0:
            self._say(plain(seen))
        self._looks += 1

    def _tell(self, line: str) -> None:
        """Above the table where both are on one terminal; never cut into lines, so that a link can be followed."""
        if self._console.is_terminal and sys.stdout.isatty():
            self._console.print(Text(line), soft_wrap=True)
        else:
            self._say(line)


async def _look(running: City, seen: Seen) -> None:
    async with running.record.database.acquire() as connection:
        seen.facilities = await facility_status(connection)
        types = (TYPE_IDS[name] for name in ("Patient", "Person", "Encounter"))
        row = await connection.fetchrow(_COUNTS, *types)
        assert row is not None, "an aggregate has one row"
        seen.counts = dict(row)
        seen.persons = [row["person_id"] for row in await connection.fetch(_PERSONS, LINKS)]
    seen.headline = headline(seen.facilities, running.record.clock.now())


def _root(running: City) -> str:
    return running.base_url.removesuffix("/fhir")


def _addresses(running: City) -> list[str]:
    tokens = Authenticator(running.record, running.settings).tokens
    operator = tokens.issue("demo-operator", OPERATOR_SCOPE, typ=LINK)  # good as long as its terminal is looked at
    place = str(running.settings.data_dir)
    return [
        f"console  {_root(running)}/ops/enter?link={operator}",
        f"mllp     {running.settings.host}:{running.mllp_port}",
        f"insurer  {running.settings.insurer_url} (simulated)",
        f"token    .venv/bin/ehr token --client demo --scope 'system/*.rs' --data-dir {shlex.quote(place)}",
    ]


def _citizen_links(running: City, persons: list[str]) -> list[str]:
    tokens = Authenticator(running.record, running.settings).tokens
    return [f"citizen  {_root(running)}/citizen/enter?link={citizen_link(tokens, one)}" for one in persons]


async def _close_books(running: City, say: Callable[[str], None]) -> bool:
    """Send what is finished, take the answers, and show the balance."""
    made = await balance(running.record)
    for _ in range(ROUNDS_MAX):
        await run_sync(running.record, running.settings)
        made = await balance(running.record)
        if made.closed and made.city.pending == 0:
            break
        await asyncio.sleep(1.0)
    say(replace(made, facilities=()).as_text())  # a line a facility: `ehr sync report`
    return made.closed
