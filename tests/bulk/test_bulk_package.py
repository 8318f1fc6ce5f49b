"""`ehr profile load`: what of a package is stored, under which id, and what is refused or left."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ehr import cli
from ehr.bulk.package import load
from ehr.errors import Invalid, NotFound
from ehr.store.record import Record
from tests.unit.profile_definitions import definition, element, stored

PROFILE = stored(definition("p", "Patient", element("Patient.name", min=1), id="Patient-p", version="1.0.0"))
VALUE_SET = {
    "resourceType": "ValueSet",
    "id": "v",
    "url": "http://example.org/ValueSet/v",
    "status": "active",
    "compose": {"include": [{"system": "urn:a"}]},
}
CONCEPT_MAP = {
    "resourceType": "ConceptMap",
    "id": "m",
    "url": "http://example.org/ConceptMap/m",
    "status": "active",
    "group": [{"source": "urn:a", "target": "urn:b", "element": [{"code": "x"}]}],
}
BROKEN = {"resourceType": "ValueSet", "id": "w", "url": "http://example.org/ValueSet/w"}
MANIFEST = {"name": "org.example", "fhirVersions": ["4.0.1"], "dependencies": {"hl7.fhir.r4.core": "4.0.1"}}


def package(folder: Path, *trees: dict[str, Any], **manifest: Any) -> Path:
    """As npm unpacks it, an example and a file that is no definition included."""
    inside = folder / "package"
    (inside / "example").mkdir(parents=True)
    (inside / "package.json").write_text(json.dumps(MANIFEST | manifest))
    (inside / "example" / "Patient-e.json").write_text('{"resourceType": "Patient", "id": "e"}')
    (inside / "Basic-b.json").write_text('{"resourceType": "Basic", "id": "b", "code": {"text": "a"}}')
    for tree in trees:
        (inside / f"{tree['resourceType']}-{tree['id']}.json").write_text(json.dumps(tree))
    return folder


def packed(folder: Path) -> Path:
    file = folder.with_suffix(".tgz")
    with tarfile.open(file, "w:gz") as archive:
        archive.add(folder / "package", "package")
    return file


async def count(record: Record) -> int:
    async with record.database.acquire() as connection:
        return int(await connection.fetchval("select count(*) from resource"))


async def test_a_package_is_stored_once_packed_or_not(record: Record, tmp_path: Path) -> None:
    folder = package(tmp_path / "one", PROFILE, VALUE_SET, CONCEPT_MAP)
    first = await load(record, folder)
    assert (first.stored, first.unchanged, first.refused) == (3, 0, [])
    assert first.needs == ["hl7.fhir.r4.core 4.0.1"]
    again = await load(record, packed(folder))
    assert (again.stored, again.unchanged, again.refused) == (0, 3, [])
    assert await count(record) == 3


async def test_definitions_without_a_url_are_told_apart(record: Record, tmp_path: Path) -> None:
    nameless = [{**CONCEPT_MAP, "id": one, "url": None} for one in "mn"]
    trees = [{name: value for name, value in one.items() if value is not None} for one in nameless]
    for folder in ("one", "again"):
        await load(record, package(tmp_path / folder, *trees))
        assert await count(record) == 2


async def test_versions_of_a_guide_stand_beside_each_other(record: Record, tmp_path: Path) -> None:
    await load(record, package(tmp_path / "one", PROFILE))
    await load(record, package(tmp_path / "two", {**PROFILE, "version": "2.0.0"}))
    assert await count(record) == 2


async def test_what_breaks_r4_is_refused_and_the_rest_is_stored(record: Record, tmp_path: Path) -> None:
    loaded = await load(record, package(tmp_path / "one", PROFILE, BROKEN))
    assert loaded.stored == 1
    ((refused),) = loaded.refused
    assert refused.file == "ValueSet-w.json"
    assert [issue.at for issue in refused.issues] == ["ValueSet.status"]


async def test_what_is_no_package_of_r4_is_refused(record: Record, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"5\.0\.0"):
        await load(record, package(tmp_path / "five", PROFILE, fhirVersions=["5.0.0"]))
    broken = tmp_path / "broken.tgz"
    broken.write_bytes(b"\x1f\x8b nothing")
    with pytest.raises(Invalid, match="not a whole"):
        await load(record, broken)
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(packed(package(tmp_path / "two", PROFILE)).read_bytes()[:-40])
    with pytest.raises(Invalid, match="not a whole"):
        await load(record, cut)
    with pytest.raises(NotFound):
        await load(record, tmp_path / "absent")
    assert await count(record) == 0


async def test_a_manifest_that_is_not_json_is_refused(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "odd.tgz"
    with tarfile.open(file, "w:gz") as archive:
        entry = tarfile.TarInfo("package/package.json")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"{"))
    with pytest.raises(Invalid, match=r"package\.json"):
        await load(record, file)


def test_the_command_tells_what_became_of_each_package(
    database_url: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EHR_DATABASE_URL", database_url)
    order = ["profile", "load", str(package(tmp_path / "one", PROFILE, BROKEN)), "--data-dir", str(data_dir)]
    told = CliRunner().invoke(cli.app, [*order, "--json"])
    assert told.exit_code == 1, told.output
    line = json.loads(told.stdout)
    assert (line["package"], line["stored"], [one["file"] for one in line["refused"]]) == (
        "one",
        1,
        ["ValueSet-w.json"],
    )
    shown = CliRunner().invoke(cli.app, order)
    assert "ValueSet-w.json: ValueSet.status" in shown.output
