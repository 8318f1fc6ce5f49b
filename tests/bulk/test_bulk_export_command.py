"""`ehr export`: files in a folder of one's own, tables for analysts, and an interrupted export gone on with."""

import csv
import functools
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from ehr import cli
from ehr.access.policy import Caller
from ehr.bulk import export_here
from ehr.bulk.export_job import HERE
from ehr.bulk.export_request import ExportRequest
from ehr.bulk.table_file import Parquet
from ehr.errors import Invalid
from ehr.fhir.views import Column
from ehr.jobs.queue import Progress, Queue
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

CITY = Caller.system("test")
WEIGHT = {
    "resourceType": "ViewDefinition",
    "resource": "Observation",
    "name": "weight",
    "select": [
        {
            "column": [
                {"name": "id", "path": "getResourceKey()", "type": "string"},
                {"name": "patient", "path": "subject.getReferenceKey(Patient)", "type": "string"},
                {"name": "value", "path": "value.ofType(Quantity).value", "type": "decimal"},
                {"name": "digits", "path": "value.ofType(Quantity).value", "type": "string"},
                {"name": "codes", "path": "code.coding.code", "collection": True},
                {"name": "final", "path": "status = 'final'", "type": "boolean"},
            ]
        }
    ],
}


def weight(number: int) -> bytes:
    return (
        f'{{"resourceType":"Observation","id":"o{number}","status":"final","code":{{"coding":[{{"code":"a"}},'
        f'{{"code":"b"}}]}},"subject":{{"reference":"Patient/p"}},"valueQuantity":{{"value":{number}.50}}}}'
    ).encode()


@pytest.fixture
async def weights(record: Record) -> Record:
    for number in range(5):

        async def create(uow: UnitOfWork, body: bytes = weight(number)) -> None:
            tree = json.loads(body)
            await uow.resources.update("Observation", tree["id"], body, tree)

        await record.run(CITY, create)
    return record


async def exported(record: Record, settings: Settings, folder: Path, **asked: Any) -> Progress:
    request = ExportRequest("system", ("Observation",), **asked)
    opener = functools.partial(open_record, settings, record.database.url)
    return await export_here.export_into(record, folder, request, opener, processes=1, seen=lambda _: None)


async def test_parquet_of_a_view_has_its_types(weights: Record, settings: Settings, tmp_path: Path) -> None:
    done = await exported(weights, settings, tmp_path, format="parquet", view=WEIGHT)
    assert done.state == "done"
    table = parquet.read_table(next(tmp_path.glob("*.parquet")))
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "string",
        "patient": "string",
        "value": "double",
        "digits": "string",
        "codes": "list<element: string>",
        "final": "bool",
    }
    rows = sorted(table.to_pylist(), key=lambda row: str(row["id"]))
    first = {"id": "Observation/o0", "patient": "Patient/p", "value": 0.5, "digits": "0.50"}
    assert rows[0] == {**first, "codes": ["a", "b"], "final": True}
    assert len(rows) == 5


async def test_parquet_without_a_view_holds_whole_resources(
    weights: Record, settings: Settings, tmp_path: Path
) -> None:
    await exported(weights, settings, tmp_path, format="parquet")
    rows = parquet.read_table(next(tmp_path.glob("*.parquet"))).to_pylist()
    assert {(row["resource_type"], row["id"], row["patient"]) for row in rows} == {
        ("Observation", f"o{number}", "p") for number in range(5)
    }
    for row in rows:
        assert '"value":' + row["id"][1:] + ".50" in row["resource"]
        assert json.loads(row["resource"])["meta"]["lastUpdated"] == row["last_updated"]


async def test_csv_and_ndjson_of_a_view_keep_digits(weights: Record, settings: Settings, tmp_path: Path) -> None:
    await exported(weights, settings, tmp_path / "csv", format="csv", view=WEIGHT)
    await exported(weights, settings, tmp_path / "lines", view=WEIGHT)
    with next((tmp_path / "csv").glob("*.csv")).open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert rows["Observation/o3"]["value"] == "3.50"
    assert rows["Observation/o3"]["codes"] == '["a","b"]'
    assert rows["Observation/o3"]["final"] == "true"
    assert b'"value":3.50,' in next((tmp_path / "lines").glob("*.ndjson")).read_bytes()


@pytest.mark.parametrize(("type_", "value"), [("decimal", "2020-01-01"), ("integer", 2**63), ("boolean", 1)])
def test_a_value_that_a_column_cannot_hold_is_refused(type_: str, value: object) -> None:
    table = Parquet(BytesIO(), [Column("x", type_, collection=False)])
    with pytest.raises(Invalid, match=f"no {type_}"):
        table.write([{"x": value}])


async def test_a_value_that_is_not_of_its_type_fails_the_export_by_name(
    weights: Record, settings: Settings, tmp_path: Path
) -> None:
    column = {"name": "id", "path": "id", "type": "integer"}
    view = {"resource": "Observation", "select": [{"column": [column]}]}
    done = await exported(weights, settings, tmp_path, format="parquet", view=view)
    assert done.state == "failed"
    assert "the column id has a value that is no integer" in done.errors[0]
    assert [place.name for place in tmp_path.iterdir()] == ["export.json"]


async def test_an_interrupted_export_is_gone_on_with_and_others_are_refused(
    weights: Record, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: Any, **__: Any) -> Progress:
        raise InterruptedError

    with monkeypatch.context() as patched:
        patched.setattr(export_here, "run_job", killed)
        with pytest.raises(InterruptedError):
            await exported(weights, settings, tmp_path)
    job_id = json.loads((tmp_path / "export.json").read_bytes())["job"]
    queue = Queue(weights.database)
    held = await queue.claim([HERE], job_id=job_id, lease_s=3600)  # as by a process that is killed
    assert held is not None
    assert await queue.fail(held, "no room on the disk", again=False) == "failed"
    with pytest.raises(Invalid, match="another export"):
        await exported(weights, settings, tmp_path, format="parquet")
    done = await exported(weights, settings, tmp_path)
    assert (done.id, done.state) == (job_id, "done")
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    assert sum(one["count"] for one in manifest["output"]) == 5
    assert all((tmp_path / one["url"]).exists() for one in manifest["output"])
    with pytest.raises(Invalid, match="whole"):
        await exported(weights, settings, tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").touch()
    with pytest.raises(Invalid, match="not empty"):
        await exported(weights, settings, tmp_path / "other")


async def test_a_folder_of_another_record_is_named(weights: Record, settings: Settings, tmp_path: Path) -> None:
    asked = json.loads(msgspec.json.encode(ExportRequest("system", ("Observation",))))
    (tmp_path / "export.json").write_text(json.dumps({"job": "elsewhere", "asked": asked}))
    with pytest.raises(Invalid, match="another record"):
        await exported(weights, settings, tmp_path)


def test_the_command_writes_files_and_says_how_many(
    weights: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EHR_DATABASE_URL", weights.database.url)
    view = tmp_path / "view.json"
    view.write_text(json.dumps(WEIGHT))
    arguments = ["export", str(tmp_path / "out"), "--view", str(view), "--format", "parquet", "--json"]
    done = CliRunner().invoke(cli.app, [*arguments, "--processes", "1", "--filter", "Observation?value-quantity=gt2"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["state"], told["lines"]) == ("done", 3)
    refused = CliRunner().invoke(cli.app, ["export", str(tmp_path / "more"), "--format", "csv"])
    assert isinstance(refused.exception, Invalid)
    assert "--view" in str(refused.exception)
