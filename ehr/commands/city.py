"""`ehr demo` and `ehr simulate`: arguments → the whole city, or its traffic alone.

Prints:  links and reports on standard output, the live table on standard error; JSON lines with --json
"""

import asyncio
import signal
from typing import Annotated

import typer

from ehr.commands.terminal import Access, DataDir, Host, MllpPort, Port, end, say, say_json, settings_of
from ehr.demo import demo
from ehr.ops import logging
from ehr.simulate import Plan, Standing, simulate

Facilities = Annotated[int, typer.Option(min=1, max=661, help="How many facilities take part.")]
Speed = Annotated[float, typer.Option(min=0.1, help="Simulated seconds in one second.")]
Duration = Annotated[float | None, typer.Option(help="Seconds to run; until stopped if not given.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same city.")]
Citizens = Annotated[int, typer.Option(min=1_000, help="People who live in it; few make return visits frequent.")]
Visits = Annotated[int, typer.Option(min=0, help="Visits a day of one facility at most; 0 for as many as it has.")]
Faults = Annotated[float, typer.Option(min=0, max=1, help="Share of messages that are spoilt on purpose.")]

_PLAN = Plan()

app = typer.Typer()


@app.command("demo")
def demo_command(  # noqa: PLR0917 - options of a command
    duration: Duration = None,
    facilities: Facilities = _PLAN.facilities,
    speed: Speed = _PLAN.speed,
    seed: Seed = _PLAN.seed,
    citizens: Citizens = _PLAN.citizens,
    faults: Faults = _PLAN.faults,
    visits: Visits = _PLAN.visits or 0,
    host: Host = None,
    port: Port = None,
    mllp_port: MllpPort = None,
    data_dir: DataDir = None,
    access: Access = None,
) -> None:
    """Run the whole city: database, broker, worker, API, MLLP, insurer, 661 facilities and their patients."""
    settings = settings_of(host=host, port=port, mllp_port=mllp_port, data_dir=data_dir, access=access)
    if settings.log_level == "INFO":
        settings = settings.model_copy(update={"log_level": "WARNING"})
    logging.configure(settings.log_level, settings.log_format)
    plan = Plan(facilities, speed, duration, None, seed, citizens, faults, visits or None)
    end(well=asyncio.run(demo(settings, plan, say=say)))


@app.command("simulate")
def simulate_command(  # noqa: PLR0917 - options of a command
    duration: Duration = None,
    facilities: Facilities = _PLAN.facilities,
    speed: Speed = _PLAN.speed,
    seed: Seed = _PLAN.seed,
    citizens: Citizens = _PLAN.citizens,
    faults: Faults = _PLAN.faults,
    visits: Visits = _PLAN.visits or 0,
    messages: Annotated[int | None, typer.Option(min=1, help="Stop after this many messages.")] = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line about every second.")] = False,
) -> None:
    """Let simulated facilities send to the city that serves from this data folder."""
    settings = settings_of(data_dir=data_dir)
    logging.configure(settings.log_level, settings.log_format)

    def told(now: Standing) -> None:
        if as_json:
            say_json(now.as_json())
        else:
            say(f"{now.phase} sent {now.sent} accepted {now.accepted} refused {now.refused} p50 {now.p50_ms} ms")

    async def run() -> None:
        stop = asyncio.Event()
        for asked in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(asked, stop.set)
        plan = Plan(facilities, speed, duration, messages, seed, citizens, faults, visits or None)
        await simulate(settings, plan, told=told, stop=stop)

    asyncio.run(run())
