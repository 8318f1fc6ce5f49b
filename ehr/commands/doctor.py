"""`ehr doctor`: every check of this installation, as a line each.

Exit:    1 where one has failed
"""

import asyncio

import typer

from ehr.clock import SystemClock
from ehr.commands.terminal import AsJson, DataDir, end, say, say_json, settings_of
from ehr.doctor import examine

app = typer.Typer()


@app.command()
def doctor(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Look at this installation and say what to do."""

    async def look() -> bool:
        well = True
        async for finding in examine(settings_of(data_dir=data_dir), SystemClock()):
            well = well and finding.state != "failed"
            if as_json:
                say_json({name: getattr(finding, name) for name in ("name", "state", "text", "fix")})
            else:
                mark = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}[finding.state]
                say(f"{mark}  {finding.name}: {finding.text}" + (f"\n         → {finding.fix}" if finding.fix else ""))
        return well

    end(well=asyncio.run(look()))
