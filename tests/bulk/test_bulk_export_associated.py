"""What goes with an export: Provenance and what is referred to, against every resource looked at by itself."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ehr import limits
from ehr.bulk.export_request import LATEST, REFERENCED, RELEVANT
from ehr.store.record import Record
from tests.bulk.test_bulk_export import begin, finish, lines_of, put

ROUNDS = 3
Tree = dict[str, Any]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Provenance of resources in several chunks, and several chunks of Provenance."""
    monkeypatch.setattr(limits, "export_chunk_resources", 3)
    monkeypatch.setattr(limits, "export_chunk_patients", 1)


def city(rng: random.Random) -> dict[str, Tree]:
    """Patients with results by practitioners of an organization, and Provenance of any of them."""
    made: list[Tree] = [{"resourceType": "Organization", "id": f"o{n}"} for n in range(3)]
    made += [{"resourceType": "Practitioner", "id": f"d{n}"} for n in range(3)]
    for n in range(4):
        made.append({"resourceType": "Patient", "id": f"p{n}", "managingOrganization": at(f"Organization/o{n % 2}")})
        made += [
            {
                "resourceType": "Observation",
                "id": f"r{n}-{k}",
                "status": "final",
                "code": {"text": "x"},
                "subject": at(f"Patient/p{n}"),
                "performer": [at(f"Practitioner/d{rng.randrange(2)}")],
            }
            for k in range(3)
        ]
    targets = [key(one) for one in made]
    for n in range(25):
        made.append(
            {
                "resourceType": "Provenance",
                "id": f"v{n}",
                "recorded": f"20{rng.randrange(10, 26)}-01-{n + 1:02}T00:00:00Z",
                "target": [at(one) for one in rng.sample(targets, rng.randrange(1, 4))],
                "agent": [{"who": at("Practitioner/d2")}],
            }
        )
    return {key(one): one for one in made}


def at(reference: str) -> dict[str, str]:
    return {"reference": reference}


def key(tree: Tree) -> str:
    return f"{tree['resourceType']}/{tree['id']}"


def provenance_of(exported: set[str], everything: dict[str, Tree], *, latest: bool) -> set[str]:
    found: set[str] = set()
    for name in exported:
        own = [one for one in everything.values() if one["resourceType"] == "Provenance" and at(name) in one["target"]]
        own.sort(key=lambda one: one["recorded"])
        found.update(key(one) for one in (own[-1:] if latest else own))
    return found


async def keys_of(record: Record, data_dir: Path, **asked: Any) -> set[str]:
    done = await finish(record, await begin(record, data_dir, **asked))
    lines = [key(json.loads(line)) for line in lines_of(done)]
    assert len(set(lines)) == len(lines), "nothing is exported twice"
    return set(lines)


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_provenance_of_what_is_exported_goes_with_it_once(record: Record, data_dir: Path, seed: int) -> None:
    everything = city(random.Random(seed))
    for one in everything.values():
        await put(record, json.dumps(one).encode())
    for types in (("Observation",), ("Organization", "Patient")):
        content = {name for name in everything if name.partition("/")[0] in types}
        for value in (LATEST, RELEVANT):
            found = await keys_of(record, data_dir, types=types, associated=(value,))
            assert found == content | provenance_of(content, everything, latest=value == LATEST)
    patients = ("p1", "p3")
    content = {f"Patient/{id}" for id in patients} | {f"Observation/r{id[1:]}-{k}" for id in patients for k in range(3)}
    found = await keys_of(
        record,
        data_dir,
        level="patient",
        patients=patients,
        types=("Observation", "Patient"),
        associated=(LATEST, REFERENCED),
    )
    named = {one["reference"] for name in content for one in everything[name].get("performer", [])}
    assert found == content | named | {"Organization/o1"} | provenance_of(content, everything, latest=True)


async def test_provenance_is_that_of_the_snapshot(record: Record, data_dir: Path) -> None:
    everything = city(random.Random(9))
    for one in everything.values():
        await put(record, json.dumps(one).encode())
    job_id = await begin(record, data_dir, types=("Patient",), associated=(LATEST,))
    later = {**everything["Provenance/v0"], "id": "later", "recorded": "2030-01-01T00:00:00Z"}
    await put(record, json.dumps({**later, "target": [at("Patient/p0")]}).encode())
    found = {key(json.loads(line)) for line in lines_of(await finish(record, job_id))}
    content = {f"Patient/p{n}" for n in range(4)}
    assert found == content | provenance_of(content, everything, latest=True)
