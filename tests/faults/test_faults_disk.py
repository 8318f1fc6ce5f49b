"""Promise C13: the disk of a city becomes full while it serves, and has room again.

What is stored is acknowledged, what is not is told to come again, and everything goes on by itself. Needs a file system
of its own, in memory, which only root may mount.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from adapters.mllp.client import MllpClient, NotAnswered
from ehr.database.backup import backup
from ehr.database.embedded import EmbeddedPostgres
from ehr.errors import Unavailable
from tests.faults.serving import Serving
from tests.faults.test_faults_ends import patient, registered
from tests.mllp.mothers import admission, code_of

SIZE = "400m"
MIB = 1024 * 1024
WRITES_MAX = 400


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder that holds no more than SIZE."""
    folder = Path(tempfile.mkdtemp(prefix="ehr-disk-"))
    mounted = os.geteuid() == 0 and not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", "tmpfs", str(folder)], stderr=subprocess.DEVNULL
    )
    if not mounted:
        folder.rmdir()
        pytest.skip("this user may not mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    place = disk / "another's"
    with place.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(MIB)) == MIB:
                pass
        except OSError:
            pass
    return place


async def put(http: httpx.AsyncClient, serving: Serving, id: str) -> httpx.Response:
    text = {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{os.urandom(8_000).hex()}</div>'}
    return await http.put(f"{serving.base}/Patient/{id}", json=patient(id) | {"text": text})


async def until_not_answered(client: MllpClient) -> str:
    """Send messages until one is not acknowledged; its control id."""
    for n in range(WRITES_MAX):
        try:
            answer = await client.send(admission(f"FULL{n}"), timeout_s=1.0)
        except NotAnswered:
            return f"FULL{n}"
        assert code_of(answer) == "AA"
    raise AssertionError("there was room for everything")


async def test_a_full_disk_refuses_what_it_cannot_keep_and_goes_on_by_itself(small_disk: Path) -> None:
    data_dir = small_disk / "data"
    data_dir.mkdir()
    async with Serving(data_dir) as serving, httpx.AsyncClient(trust_env=False, timeout=30) as http:
        await registered(data_dir)
        assert (await put(http, serving, "before")).status_code == 201
        anothers, kept = fill(small_disk), ["before"]
        while (answer := await put(http, serving, f"p{len(kept)}")).status_code == 201:
            kept.append(f"p{len(kept)}")
            assert len(kept) < WRITES_MAX, "there was room for everything"
        told = answer.json()
        assert answer.status_code == 503, answer.text
        assert "retry-after" in answer.headers
        assert told["issue"][0]["code"] == "no-store"
        assert "no room on its disk" in told["issue"][0]["details"]["text"]
        client = MllpClient("127.0.0.1", serving.mllp_port)
        refused = await until_not_answered(client)
        assert (await http.get(f"{serving.root}/livez")).status_code == 200

        anothers.unlink()
        assert (await put(http, serving, f"p{len(kept)}")).status_code == 201
        assert code_of(await client.send(admission(refused))) == "AA"
        await client.close()
        for id in kept:
            assert (await http.get(f"{serving.base}/Patient/{id}")).status_code == 200


async def test_a_backup_onto_a_full_disk_says_why(data_dir: Path, small_disk: Path) -> None:
    server = EmbeddedPostgres(data_dir, durable=False)
    try:
        await server.start()
        fill(small_disk)
        with pytest.raises(Unavailable, match="No space left on device"):
            await backup(data_dir, small_disk / "copy")
    finally:
        await server.stop()
