"""`ehr …` as it is, with clocks of CPU around the stages of a facility's transaction.

Run:     python -m benchmarks._stages FILE serve …
Out:     at each SIGUSR1, FILE: seconds of CPU by stage since the last one
Counts   what a stage spends itself: not what it calls of another stage, nor what others do while it waits
Cost:    some hundred clocks a Bundle, too little to be measured
"""

import functools
import inspect
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, Final

import orjson

from adapters import fhir_push
from ehr import cli, intake
from ehr.api import exchange, fhir_system
from ehr.identity.link import PersonLinker
from ehr.store import bundle_resolution, bundles, resources, writes

STAGES: Final[tuple[tuple[str, Any, str], ...]] = (
    ("receive", exchange, "read_body"),
    ("receive", fhir_system, "_is_batch"),
    ("receive", fhir_push, "control_id"),
    ("keep", intake.Intake, "keep"),
    ("parse", fhir_push, "bundle_of"),
    ("gate", bundles, "checked"),
    ("references", bundles, "resolve"),
    ("references", bundle_resolution.Resolution, "rewritten"),
    ("entries", bundles, "transaction"),
    ("entries", resources.Resources, "apply"),
    ("plan", resources.Resources, "_plan"),
    ("rows", writes, "_arguments"),
    ("SQL", writes, "flush"),
    ("persons", PersonLinker, "written"),
    ("answer", bundles, "_answer"),
    ("answer", fhir_push, "packed"),
)
"""Stage, where its function is looked up, and its name there."""


class Clocks:
    """Seconds of CPU of each stage, in whatever thread it runs."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._here = threading.local()

    def taken(self) -> dict[str, float]:
        taken, self._seconds = self._seconds, {}
        return taken

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed; of a coroutine every step from an awakening to the next wait."""

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            return self._step(stage, lambda: function(*arguments, **named))

        @functools.wraps(function)
        async def steps(*arguments: Any, **named: Any) -> Any:
            return await _Steps(function(*arguments, **named), functools.partial(self._step, stage))

        return steps if inspect.iscoroutinefunction(function) else timed

    def _step(self, stage: str, act: Callable[[], Any]) -> Any:
        before_s = getattr(self._here, "inner_s", 0.0)
        self._here.inner_s = 0.0
        began_s = time.thread_time()
        try:
            return act()
        finally:
            took_s = time.thread_time() - began_s
            self._seconds[stage] = self._seconds.get(stage, 0.0) + took_s - self._here.inner_s
            self._here.inner_s = before_s + took_s


class _Steps:
    """An awaited coroutine whose steps are run by `step`."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], step: Callable[[Callable[[], Any]], Any]) -> None:
        self._coroutine = coroutine
        self._step = step

    def __await__(self) -> Generator[Any, Any, Any]:
        act: Callable[[], Any] = functools.partial(self._coroutine.send, None)
        while True:
            try:
                waits_for = self._step(act)
            except StopIteration as ended:
                return ended.value
            try:
                act = functools.partial(self._coroutine.send, (yield waits_for))
            except BaseException as error:  # noqa: BLE001 - the coroutine is told, and decides
                act = functools.partial(self._coroutine.throw, error)


def main() -> None:
    place, clocks = Path(sys.argv.pop(1)), Clocks()
    for stage, owner, name in STAGES:
        setattr(owner, name, clocks.around(stage, getattr(owner, name)))

    def tell(*_: object) -> None:
        whole = place.with_suffix(".new")
        whole.write_bytes(orjson.dumps(clocks.taken()))
        whole.replace(place)

    signal.signal(signal.SIGUSR1, tell)
    cli.main()


if __name__ == "__main__":
    main()
