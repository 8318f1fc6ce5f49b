"""The International Patient Summary guide: its package, its examples, and our own summary against it.

EHR_IPS_PACKAGE names the folder of the npm package hl7.fhir.uv.ips 2.0.0, unpacked.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ehr.access.policy import Caller
from ehr.bulk.package import Loaded, files_of, load
from ehr.errors import Issue
from ehr.fhir import codec
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from ehr.summary.ips import document
from tests.unit.test_summary_document import BASE, NOW, condition, patient, result
from tests.unit.test_summary_document import record as whole_record

IPS = "http://hl7.org/fhir/uv/ips/StructureDefinition/"
COMPOSITION = "Bundle.entry[0].resource"
PLACE = os.environ.get("EHR_IPS_PACKAGE")

pytestmark = [
    pytest.mark.skipif(not PLACE, reason="EHR_IPS_PACKAGE names no package hl7.fhir.uv.ips"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Record, Loaded]]:
    record = await open_record(Settings(data_dir=tmp_path_factory.mktemp("data")), module_database_url)
    yield record, await load(record, Path(str(PLACE)))
    await record.close()


async def errors(record: Record, tree: dict[str, Any], *profiles: str) -> list[Issue]:
    async with record.reading(Caller.system("test")) as uow:
        found = await record.profiles.problems(uow, tree, profiles)
    return [issue for issue in found if issue.severity == "error"]


def ours() -> dict[str, Any]:
    """A summary as we serve it, with its digits."""
    whole = whole_record(
        Condition=[condition("c1", "I10")], Observation=[result("o1", "718-7", "12.5", "2026-01-02T08:00:00+07:00")]
    )
    return codec.loads(codec.dumps(document(whole, base_url=BASE, now=NOW)))


async def test_the_package_is_stored_whole(loaded: tuple[Record, Loaded]) -> None:
    assert loaded[1].refused == []
    assert loaded[1].stored == 65


async def test_every_example_of_the_guide_conforms_to_what_it_claims(loaded: tuple[Record, Loaded]) -> None:
    record, _ = loaded
    examples = [codec.loads(body) for _, body in files_of(Path(str(PLACE)) / "package" / "example")]
    wrong = {str(tree["id"]): found for tree in examples if (found := await errors(record, tree))}
    assert len(examples) > 40
    assert wrong == {}


async def test_our_summary_is_an_ips_document(loaded: tuple[Record, Loaded]) -> None:
    assert await errors(loaded[0], ours(), f"{IPS}Bundle-uv-ips") == []


async def test_what_is_taken_out_of_our_summary_is_missed(loaded: tuple[Record, Loaded]) -> None:
    record, _ = loaded
    without_section, without_patient, without_title = ours(), ours(), ours()
    sections = without_section["entry"][0]["resource"]["section"]
    sections.remove(next(one for one in sections if one["code"]["coding"][0]["code"] == "10160-0"))
    missed = [issue.text for issue in await errors(record, without_section) if issue.at == f"{COMPOSITION}.section"]
    assert len(missed) == 1
    assert "sectionMedications" in missed[0]
    del without_patient["entry"][1]["resource"]["name"]
    assert any(
        "Patient-uv-ips" in one.text or "slice patient" in one.text for one in await errors(record, without_patient)
    )
    del without_title["entry"][0]["resource"]["section"][0]["title"]
    assert f"{COMPOSITION}.section[0].title" in [one.at for one in await errors(record, without_title)]


async def test_a_patient_of_the_guide_needs_a_name(loaded: tuple[Record, Loaded]) -> None:
    record, _ = loaded
    assert await errors(record, patient("a"), f"{IPS}Patient-uv-ips") == []
    nameless = patient("a")
    del nameless["name"]
    assert [one.at for one in await errors(record, nameless, f"{IPS}Patient-uv-ips")] == ["Patient.name"]
