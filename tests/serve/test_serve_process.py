"""`ehr serve` as others script against it: one ready line, its own services, clean stops, kill -9, exit codes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from ehr.bulk import drop
from ehr.database.child import until
from ehr.database.embedded import EmbeddedPostgres
from tests.facility import add_facility

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "ehr"]


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """Nothing of ours from outside: `serve` alone, with the embedded services."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EHR_")}
    return kept | {"EHR_DATA_DIR": str(data_dir), "EHR_LOG_LEVEL": "WARNING"} | more


async def ehr(data_dir: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(data_dir, **more),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@asynccontextmanager
async def serving(data_dir: Path, *options: str) -> AsyncIterator[tuple["subprocess.Popen[bytes]", str]]:
    """The process and its FHIR base, once it has said that it is ready."""
    command = [*COMMAND, "serve", "--port", "0", "--mllp-port", "0", *options]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(data_dir), stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 90)).decode()
        assert line.startswith("ready http://127.0.0.1:"), line
        yield process, line.split()[1]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60)
        process.stdout.close()


def client_of(base: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=base, trust_env=False, timeout=30)


def living_in(data_dir: Path) -> list[str]:
    """Processes that belong to this installation."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("EHR_DATA_DIR") == str(data_dir)
            if ours or str(data_dir) in " ".join(process.cmdline()) or process.cwd().startswith(str(data_dir)):
                found.append(f"{process.pid} {process.name()} {process.status()}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [one for one in found if psutil.STATUS_ZOMBIE not in one]


def has_a_hand(pid: int) -> bool:
    """The command has started the process that works; a child that ended while we looked is none."""
    for child in psutil.Process(pid).children():
        try:
            if "ehr.worker" in " ".join(child.cmdline()):
                return True
        except psutil.NoSuchProcess:
            continue
    return False


async def test_serve_works_alone_stops_cleanly_and_keeps_everything(data_dir: Path, tmp_path: Path) -> None:
    lines = [f'{{"resourceType":"Basic","id":"b{n}","code":{{"text":"x"}}}}' for n in range(500)]
    file = tmp_path / "Basic.ndjson"
    file.write_text("\n".join(lines) + "\n")
    async with serving(data_dir, "--access", "open") as (process, base):
        async with client_of(base) as client:
            ready = (await client.get(base.removesuffix("/fhir") + "/readyz")).json()
            assert ready["ready"], ready
            body = {"resourceType": "Patient", "id": "p", "name": [{"text": "Nguyễn Văn Ầ"}]}
            assert (await client.put("/Patient/p", json=body)).status_code == 201
            queued = await ehr(data_dir, "import", str(file), "--background", "--json")
            assert queued.returncode == 0, queued.stderr
            await dropped(data_dir, '{"resourceType":"Basic","id":"dropped","code":{"text":"x"}}\n')
            assert await count(client, "Basic", 501) == 501, "the worker that serve brought along did both imports"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 0
    assert not living_in(data_dir)
    async with serving(data_dir, "--access", "open") as (_, base), client_of(base) as client:
        assert (await client.get("/Patient/p")).json()["name"] == [{"text": "Nguyễn Văn Ầ"}]


async def dropped(data_dir: Path, text: str) -> None:
    """A file of an hour ago in the folder of a facility, which is registered beside the process that serves."""
    beside = EmbeddedPostgres(data_dir)
    connection = await asyncpg.connect(await beside.start())
    await add_facility(connection, "01Z01")
    await connection.close()
    await beside.stop()
    place = data_dir / drop.FOLDER / "01Z01" / "Basic.ndjson"
    place.parent.mkdir(parents=True)
    place.write_text(text)
    os.utime(place, (time.time() - 3_600, time.time() - 3_600))


async def count(client: httpx.AsyncClient, type_name: str, wanted: int) -> int:
    """Wait for so many resources, a minute at most."""
    found = 0
    for _ in range(120):
        found = (await client.get(f"/{type_name}?_summary=count")).json()["total"]
        if found >= wanted:
            break
        await asyncio.sleep(0.5)
    return found


async def test_kill_9_loses_nothing_that_was_answered_and_leaves_no_process(data_dir: Path) -> None:
    async with serving(data_dir, "--access", "open") as (process, base):
        async with client_of(base) as client:
            for n in range(20):
                assert (await client.put(f"/Basic/k{n}", json=basic(f"k{n}"))).status_code == 201
        process.kill()
        await asyncio.to_thread(process.wait)
        async with serving(data_dir, "--access", "open") as (_, again), client_of(again) as client:
            for n in range(20):
                assert (await client.get(f"/Basic/k{n}")).status_code == 200
    for _ in range(100):
        if not living_in(data_dir):
            break
        await asyncio.sleep(0.2)
    assert not living_in(data_dir)


@pytest.mark.parametrize(
    ("named", "told"), [("ehr.worker", "the worker"), ("postgres", "PostgreSQL")], ids=["worker", "database"]
)
async def test_serve_leaves_when_what_it_started_is_gone(
    data_dir: Path, named: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """As the kernel does when memory is short: serving on would look well, and nothing in the background be done."""
    async with serving(data_dir) as (process, _):
        (child,) = [one for one in psutil.Process(process.pid).children() if named in " ".join(one.cmdline()[:3])]
        # the worker's hand and its clock may not outlive it
        assert await until(lambda: len(child.children()) > 1, 60)
        child.kill()
        assert await asyncio.to_thread(process.wait, 60) == 75
    assert f"{told} ended by itself" in capfd.readouterr().err
    assert living_in(data_dir) == []


@pytest.mark.parametrize("arguments", [["worker", "--hands", "1"], ["beat"]])
async def test_a_worker_of_its_own_ends_when_it_is_asked(
    data_dir: Path, database_url: str, arguments: list[str]
) -> None:
    """A service manager asks the process it started, and no other."""
    asked = environment(data_dir, EHR_DATABASE_URL=database_url)
    process = subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, env=asked, start_new_session=True)
    try:
        for _ in range(300):
            if has_a_hand(process.pid):
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(3.0)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 0
        assert not living_in(data_dir)
    finally:
        if process.poll() is None:
            process.kill()
            await asyncio.to_thread(process.wait)


def basic(id: str) -> dict[str, object]:
    return {"resourceType": "Basic", "id": id, "code": {"text": "x"}}


async def test_a_token_from_the_command_line_opens_what_its_scope_says(data_dir: Path) -> None:
    async with serving(data_dir) as (_, base):
        given = await ehr(data_dir, "token", "--client", "clinic", "--scope", "system/Patient.rs")
        assert given.returncode == 0, given.stderr
        headers = {"Authorization": f"Bearer {given.stdout.strip()}"}
        async with client_of(base) as client:
            assert (await client.get("/Patient")).status_code == 401
            assert (await client.get("/Patient", headers=headers)).status_code == 200
            assert (await client.get("/Observation", headers=headers)).status_code == 403
        (data_dir / "drop" / "99999").mkdir(parents=True)
        looked = await ehr(data_dir, "doctor", "--json")
        assert looked.returncode == 0, looked.stdout
        findings = {one["name"]: one for one in map(json.loads, looked.stdout.splitlines())}
        assert findings["migrations"]["state"] == "ok"
        assert base in findings["ports"]["text"]
        assert findings["wal_compression"]["state"] == "ok"
        assert findings["drop folders"]["state"] == "warning"
        assert "99999" in findings["drop folders"]["text"]


@pytest.mark.parametrize(
    ("arguments", "more", "code", "text"),
    [
        (["serve", "--access", "open", "--host", "0.0.0.0"], {}, 2, "loopback"),
        (["serve"], {"EHR_PORT": "many"}, 2, "port"),
        (["serve", "--no-such-option"], {}, 2, "no-such-option"),
        (["token", "--client", "x", "--scope", "everything"], {}, 2, "scope"),
        (["db", "upgrade"], {"EHR_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}, 75, "cannot be reached"),
        (["doctor"], {"EHR_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}, 1, "FAILED"),
    ],
)
async def test_exit_codes(data_dir: Path, arguments: list[str], more: dict[str, str], code: int, text: str) -> None:
    done = await ehr(data_dir, *arguments, **more)
    assert done.returncode == code, done.stderr
    assert text.lower() in (done.stdout + done.stderr).lower()
    assert "Traceback" not in done.stderr
