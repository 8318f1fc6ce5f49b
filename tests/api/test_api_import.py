"""$import: files by path and by address, as an asynchronous job whose status tells what became of every line."""

import gzip
import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from ehr import limits
from ehr.bulk import job
from ehr.jobs.queue import Queue
from ehr.jobs.work import work
from ehr.settings import Settings
from tests.api.conftest import City

GOOD = '{"resourceType":"Patient","id":"i%d"}\n'


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "Patient.ndjson").write_text(GOOD % 1 + '{"resourceType":"Patient","gender":"robot"}\n')
    (folder / "more.ndjson.gz").write_bytes(gzip.compress((GOOD % 2).encode()))
    return folder


class Quiet(SimpleHTTPRequestHandler):
    """A file server that begins a file called silent, and then says nothing for as long as the test goes on; it sends
    those called moved elsewhere, packs those called packed, and breaks those called short off.
    """

    over: Event

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        if "moved" in self.path:
            self.send_response(302)
            self.send_header("Location", "/Patient.ndjson")
            self.end_headers()
        elif "packed" in self.path:
            self._send(gzip.compress(GOOD.encode() % 5), ("Content-Encoding", "gzip"))
        elif "short" in self.path:
            self._send(GOOD.encode() % 6, ("Content-Length", "1000"))
        elif "silent" in self.path:
            self._begin()
        else:
            super().do_GET()

    def _send(self, content: bytes, header: tuple[str, str]) -> None:
        self.send_response(200)
        self.send_header(*header)
        self.end_headers()
        self.wfile.write(content)

    def _begin(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(GOOD.encode() % 1)
        self.wfile.flush()
        self.over.wait()


@pytest.fixture
def address(files: Path) -> Iterator[str]:
    Quiet.over = Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(files)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        Quiet.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def settings(data_dir: Path, files: Path, address: str) -> Settings:
    options: dict[str, Any] = {"import_root": files, "import_urls": (address,), "import_private": True}
    return Settings(data_dir=data_dir, port=0, pool_connections_max=6, **options)


def asked(*urls: str, **more: dict[str, Any]) -> dict[str, Any]:
    inputs = [
        {"name": "input", "part": [{"name": "type", "valueCode": "Patient"}, {"name": "url", "valueUri": url}]}
        for url in urls
    ]
    others = [{"name": name, **value} for name, value in more.items()]
    return {"resourceType": "Parameters", "parameter": [*others, *inputs]}


async def worked(city: City) -> None:
    handlers = {job.KIND: job.handler(city.record)}
    await work(Queue(city.record.database), handlers, city.record.clock)


@pytest.mark.parametrize("remote", [False, True])
async def test_files_are_fetched_stored_and_told(city: City, address: str, remote: bool) -> None:
    client = city.system()
    urls = [f"{address if remote else ''}{name}" for name in ("Patient.ndjson", "more.ndjson.gz")]
    begun = await client.post(
        "$import",
        json=asked(*urls, inputFormat={"valueCode": "application/fhir+ndjson"}, mode={"valueCode": "InitialLoad"}),
    )
    assert begun.status_code == 202, begun.text
    where = begun.headers["content-location"]
    waiting = await client.get(where)
    assert waiting.status_code == 202
    assert int(waiting.headers["retry-after"]) >= 1
    assert "parts" in waiting.headers["x-progress"]
    await worked(city)
    done = await client.get(where)
    assert done.status_code == 200, done.text
    manifest = done.json()
    assert manifest["output"] == [{"inputUrl": url, "count": 1} for url in urls]
    (error,) = manifest["error"]
    assert error["count"] == 1
    told = json.loads((await client.get(error["url"])).content)
    assert (told["file"], told["line"]) == (urls[0], 2)
    assert told["outcome"]["issue"][0]["expression"] == ["Patient.gender"]
    assert (await client.get("Patient/i2")).status_code == 200


@pytest.mark.parametrize(
    ("url", "status", "text"),
    [
        ("../secret.ndjson", 403, "below the folder"),
        ("absent.ndjson", 404, "no such file"),
        ("Patient.csv", 400, "name ends"),
        ("https://elsewhere.example/a.ndjson", 403, "EHR_IMPORT_URLS"),
        ("ftp://files.example/a.ndjson", 400, "by its path"),
        ("a%00b.ndjson", 400, "U+0000"),
        ("http://[::1/a.ndjson", 400, "no address"),
        (f"{'a' * 300}.ndjson", 404, "no such file"),
        ("circle.ndjson", 404, "no such file"),
        ("secret.ndjson", 403, "below the folder"),
    ],
)
async def test_what_may_not_be_fetched_is_refused_at_once(
    city: City, files: Path, url: str, status: int, text: str
) -> None:
    (files / "circle.ndjson").symlink_to("circle.ndjson")
    (files / "secret.ndjson").symlink_to("/etc/passwd")
    answer = await city.system().post("$import", json=asked(url))
    assert answer.status_code == status, answer.text
    assert text in answer.text
    assert "input[0].url" in answer.text


async def test_private_networks_are_refused_unless_allowed(
    city: City, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(city.record, "settings", city.record.settings.model_copy(update={"import_private": False}))
    client = city.system()
    begun = await client.post("$import", json=asked(f"{address}Patient.ndjson"))
    assert begun.status_code == 202
    await worked(city)
    failed = await client.get(begun.headers["content-location"])
    assert failed.status_code == 500
    assert "EHR_IMPORT_PRIVATE" in failed.text


async def test_references_that_lead_nowhere_are_a_file_of_the_manifest(city: City, files: Path) -> None:
    (files / "Patient.ndjson").write_text(
        '{"resourceType":"Patient","id":"i1","managingOrganization":{"reference":"Organization/none"}}\n' + GOOD % 3
    )
    client = city.system()
    begun = await client.post("$import", json=asked("Patient.ndjson"))
    await worked(city)
    manifest = (await client.get(begun.headers["content-location"])).json()
    assert manifest["output"] == [{"inputUrl": "Patient.ndjson", "count": 2}]
    (told,) = manifest["error"]
    assert told["count"] == 1
    line = json.loads((await client.get(told["url"])).content)
    assert (line["file"], line["line"], line["reference"]) == ("Patient.ndjson", 1, "Organization/none")
    assert line["outcome"]["issue"][0]["severity"] == "warning"


async def test_references_that_lead_nowhere_are_refused_if_asked(city: City, files: Path) -> None:
    (files / "Patient.ndjson").write_text(
        '{"resourceType":"Patient","id":"i1","managingOrganization":{"reference":"Organization/none"}}\n' + GOOD % 3
    )
    client = city.system()
    begun = await client.post("$import", json=asked("Patient.ndjson", references={"valueCode": "refuse"}))
    assert begun.status_code == 202, begun.text
    await worked(city)
    manifest = (await client.get(begun.headers["content-location"])).json()
    assert manifest["output"] == [{"inputUrl": "Patient.ndjson", "count": 1}]
    (error,) = manifest["error"]
    told = json.loads((await client.get(error["url"])).content)
    assert (told["file"], told["line"]) == ("Patient.ndjson", 1)
    assert told["outcome"]["issue"][0]["expression"] == ["Patient.managingOrganization.reference"]
    assert (await client.get("Patient/i1")).status_code == 404
    wrong = await client.post("$import", json=asked("Patient.ndjson", references={"valueCode": "forbid"}))
    assert (wrong.status_code, wrong.json()["issue"][0]["expression"]) == (400, ["references"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("absent.ndjson", "answered 404 for {url}"),
        ("moved.ndjson", "answered 302 for {url}; redirects are not followed"),
    ],
)
async def test_a_file_that_will_not_come_ends_the_job(city: City, address: str, name: str, text: str) -> None:
    client = city.system()
    begun = await client.post("$import", json=asked(f"{address}{name}"))
    await worked(city)
    failed = await client.get(begun.headers["content-location"])
    assert failed.status_code == 500
    assert text.format(url=f"{address}{name}") in failed.text


async def test_what_was_fetched_is_not_fetched_again(city: City, address: str, files: Path) -> None:
    """A server may compress what it was not asked to; one that breaks off is asked again, and the others are not."""
    client = city.system()
    begun = await client.post("$import", json=asked(f"{address}packed.ndjson", f"{address}short.ndjson"))
    where = begun.headers["content-location"]
    await worked(city)
    assert (await client.get(where)).status_code == 202, "it waits for its next attempt"
    spool = city.record.settings.data_dir / job.IMPORTS / where.rpartition("/")[2] / "spool"
    assert (spool / "000000.fetched").read_text() == GOOD % 5
    (spool / "000001.fetched").write_text(GOOD % 6)
    async with city.record.database.acquire() as connection:
        await connection.execute("update job_chunk set due = now()")
    await worked(city)
    assert [one["count"] for one in (await client.get(where)).json()["output"]] == [1, 1]


async def test_the_proposal_s_own_form_says_the_same(city: City) -> None:
    client = city.system()
    body: dict[str, Any] = {
        "inputFormat": "application/fhir+ndjson",
        "inputSource": "https://hospital.example/fhir",
        "storageDetail": {"type": "https"},
        "input": [{"type": "Patient", "url": "Patient.ndjson"}, {"type": "Patient", "url": "more.ndjson.gz"}],
    }
    begun = await client.post("$import", json=body)
    assert begun.status_code == 202, begun.text
    await worked(city)
    manifest = (await client.get(begun.headers["content-location"])).json()
    assert [one["inputUrl"] for one in manifest["output"]] == ["Patient.ndjson", "more.ndjson.gz"]
    twice = await client.post("$import", json={"input": [body["input"][0]] * 2})
    assert (twice.status_code, twice.json()["issue"][0]["expression"]) == (400, ["input[1].url"])
    wrong: dict[str, Any]
    for wrong in ({"input": [{"type": "Patient"}]}, {"inputs": []}, {"input": "x"}, {"input": [{"url": None}]}, {}):
        assert 400 <= (await client.post("$import", json=wrong)).status_code < 500


async def test_a_client_has_so_many_imports_under_way(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "import_jobs_max", 2)
    client = city.system()
    begun = [await client.post("$import", json=asked("Patient.ndjson")) for _ in range(3)]
    assert [one.status_code for one in begun] == [202, 202, 429]
    assert "2 imports are under way" in begun[2].text
    assert (await city.system(name="other").post("$import", json=asked("Patient.ndjson"))).status_code == 202
    await worked(city)
    assert (await client.post("$import", json=asked("Patient.ndjson"))).status_code == 202


async def test_a_file_that_is_too_long_ends_the_job(city: City, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "import_file_bytes_max", 20)
    client = city.system()
    begun = await client.post("$import", json=asked(f"{address}Patient.ndjson"))
    await worked(city)
    failed = await client.get(begun.headers["content-location"])
    assert failed.status_code == 500
    assert "more than 20 bytes" in failed.text
    assert (await client.get("Patient/i1")).status_code == 404


async def test_a_server_that_says_nothing_is_given_up_and_asked_again_later(
    city: City, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "import_silence_s", 0.2)
    client = city.system()
    begun = await client.post("$import", json=asked(f"{address}silent.ndjson"))
    await worked(city)
    where = begun.headers["content-location"]
    assert (await client.get(where)).status_code == 202, "it waits for its next attempt"
    async with city.record.database.acquire() as connection:
        (row,) = await connection.fetch(
            "select state, error from job_chunk where job_id = $1", where.rpartition("/")[2]
        )
    assert row["state"] == "queued"
    assert "silent.ndjson could not be fetched: ReadTimeout" in row["error"]


async def test_an_import_needs_every_right_and_is_its_owner_s(city: City) -> None:
    body = asked("Patient.ndjson")
    assert (await city.system("system/Patient.cruds").post("$import", json=body)).status_code == 403
    begun = await city.system().post("$import", json=body)
    where = begun.headers["content-location"]
    assert (await city.system(name="other").get(where)).status_code == 404
    assert (await city.system().delete(where)).status_code == 202
    await worked(city)
    assert (await city.system().get(where)).status_code == 404
    assert (await city.system().get("Patient/i1")).status_code == 404


async def test_what_is_asked_wrongly_is_named(city: City) -> None:
    client = city.system()
    for name, value in (("mode", {"valueCode": "Sideways"}), ("inputFormat", {"valueCode": "csv"})):
        answer = await client.post("$import", json=asked("Patient.ndjson", **{name: value}))
        assert answer.status_code == 400
        assert answer.json()["issue"][0]["expression"] == [name]
    nothing = await client.post("$import", json=asked(mode={"valueCode": "InitialLoad"}))
    assert nothing.status_code == 400
    assert "input" in nothing.text
