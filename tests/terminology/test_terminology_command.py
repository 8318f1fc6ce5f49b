"""`ehr terminology load`: one transaction for all files, precise refusals, the summary people and scripts read."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ehr import cli
from ehr.commands.terminology import load_files
from ehr.errors import Invalid, NotFound
from ehr.store.record import Record
from terminology.lists import ICD_10

GOOD = "code,name_vi,name_en\n01,Khám bệnh,Examination\n02,Khác,Other\n"
BAD = "code,name_vi\n01,Khám\n,Không mã\n"
SYSTEM = "http://example.org/kcb"


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def untold(_name: str, _done: int, _total: int) -> None:
    """Nobody looks at the bar."""


async def count(record: Record) -> int:
    async with record.database.acquire() as connection:
        return int(await connection.fetchval("select count(*) from concept"))


async def test_files_are_loaded_once_and_the_load_is_in_the_audit(record: Record, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    file = written(tmp_path, "kcb.csv", GOOD)
    (first,) = await load_files(
        record, [file], lambda *rows: told.append(rows), system=SYSTEM, version="1", title="Hình thức khám"
    )
    assert (first.kind, first.url, first.version, first.count, first.changed) == ("CodeSystem", SYSTEM, "1", 2, True)
    assert told[-1] == ("kcb.csv", 2, 2)
    (again,) = await load_files(record, [file], untold, system=SYSTEM, version="1", title="Hình thức khám")
    assert not again.changed
    async with record.database.acquire() as connection:
        assert await connection.fetchval("select title from code_system") == "Hình thức khám"
        rows = await connection.fetch("select actor, detail from audit where action = 'E' order by id")
    assert [json.loads(row["detail"])["loaded"] for row in rows] == [[f"{SYSTEM}|1"], []]


async def test_one_bad_file_leaves_nothing_of_the_others_and_is_named_with_its_line(
    record: Record, tmp_path: Path
) -> None:
    files = [written(tmp_path, "good.csv", GOOD), written(tmp_path, "bad.csv", BAD)]
    with pytest.raises(Invalid) as refused:
        await load_files(record, files, untold, system=SYSTEM)
    (issue,) = refused.value.issues
    assert issue.at == "line 3"
    assert issue.text.startswith("bad.csv: ")
    assert await count(record) == 0
    with pytest.raises(NotFound, match=r"absent\.csv"):
        await load_files(record, [files[0], tmp_path / "absent.csv"], untold, system=SYSTEM)
    assert await count(record) == 0


def test_the_command_prints_a_line_for_each_thing_loaded(
    database_url: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EHR_DATABASE_URL", database_url)
    file = str(written(tmp_path, "kcb.csv", GOOD))
    order = ["terminology", "load", file, "--system", SYSTEM, "--data-dir", str(data_dir)]
    loaded = CliRunner().invoke(cli.app, [*order, "--version", "7", "--json"])
    assert loaded.exit_code == 0, loaded.output
    assert json.loads(loaded.stdout) == {
        "kind": "CodeSystem", "url": SYSTEM, "version": "7", "count": 2, "changed": True,
    }  # fmt: skip
    table = CliRunner().invoke(cli.app, [*order, "--version", "7"])
    assert table.exit_code == 0, table.output
    assert "as it was" in table.stdout


async def test_the_ministrys_icd_10_is_loaded(record: Record, shared_data: Path) -> None:
    (loaded,) = await load_files(record, [shared_data / "vn" / "icd" / "icd10_qd4469.csv.gz"], untold)
    assert (loaded.url, loaded.count, loaded.changed) == (ICD_10, 12_137, True)
    assert await count(record) == 12_137
