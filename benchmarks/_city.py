"""A city of any size for the benchmarks: distinct patients, each a rewritten copy of a patient of a sample.

Run:     python -m benchmarks._city FOLDER [--resources 200000]     one NDJSON file a type, as a bulk export writes them
In:      synthea-100 beside the checkout (100 patients, 38,472 resources), else patients of our own
Out:     City.write   files of so many more resources; the same number gives the same patient in every run
         load         files → a store, through the import, as a city is loaded
Made new ids (all of one patient by one mask, so that references hold), dates (all of one patient by the same days),
         names, numbers; organizations and practitioners are shared and written once
Why:     copies with equal ids, names and days would share their index entries, and a store of them would look small
"""

import argparse
import functools
import gzip
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import UUID, uuid5

import orjson

from ehr.bulk import job
from ehr.fhir.compartments import patient_of
from ehr.jobs.queue import Queue
from ehr.record import open_record
from ehr.settings import Settings

SHARED: Final = frozenset({"Organization", "Practitioner", "Location"})
NUMBER: Final = "http://fhir.ehealth.gov.vn/core/sid/patient-internal-id"
LOINC: Final = "http://loinc.org"
ICD_10: Final = "http://hl7.org/fhir/sid/icd-10"
FAMILIES: Final = ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Vũ", "Đặng", "Bùi", "Đỗ", "Ngô", "Dương", "Lý")
MIDDLES: Final = ("Văn", "Thị", "Đức", "Ngọc", "Minh", "Hữu", "Thu", "Quang", "Xuân", "Thanh", "Bảo", "Gia")
GIVENS: Final = (
    "An",
    "Bình",
    "Châu",
    "Dũng",
    "Đào",
    "Giang",
    "Hà",
    "Khánh",
    "Lan",
    "Mai",
    "Nam",
    "Oanh",
    "Phúc",
    "Sơn",
)
DAYS: Final = 1_000
"""How far a patient's dates lie from those of the sample, at most."""

_SLOT: Final = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    rb'|(?<=")(?:19|20)\d\d-\d\d-\d\d(?=["T])'
)
_MADE: Final = UUID("6a3c2a52-7bd0-4f0b-8d3e-3f1f6b0c9a11")


def spread(number: int, below: int) -> int:
    """A number that has nothing to do with its neighbours."""
    return int((number * 2_654_435_761 % 2**32) >> 7) % below


@dataclass(frozen=True)
class Person:
    """What tells one patient from another of the same sample patient."""

    number: int
    mask: int
    days: int
    family: str
    given: tuple[str, str]

    @classmethod
    def of(cls, number: int) -> "Person":
        given = (MIDDLES[spread(number + 11, len(MIDDLES))], GIVENS[spread(number + 37, len(GIVENS))])
        family = FAMILIES[spread(number + 5, len(FAMILIES))]
        return cls(number, uuid5(_MADE, str(number)).int, spread(number, 2 * DAYS) - DAYS, family, given)

    def id(self, sample: bytes) -> bytes:
        return str(UUID(int=UUID(sample.decode()).int ^ self.mask)).encode()

    def day(self, sample: bytes) -> bytes:
        return _day(sample, self.days)

    @property
    def name(self) -> bytes:
        return " ".join((self.family, *self.given)).encode()


@functools.lru_cache(maxsize=200_000)
def _day(sample: bytes, days: int) -> bytes:
    return date.fromordinal(date.fromisoformat(sample.decode()).toordinal() + days).isoformat().encode()


@dataclass
class Group:
    """One patient of the sample: the patient, and the others' lines as a text with %b for each text that changes."""

    patient: dict[str, Any]
    lines: list[tuple[str, bytes, Callable[[Sequence[bytes]], Any]]] = field(default_factory=list)
    slots: dict[bytes, int] = field(default_factory=dict)
    codes: dict[str, list[str]] = field(default_factory=dict)
    """Type → the first code of each of its resources, as a search asks for it."""

    @property
    def name(self) -> bytes:
        name = self.patient["name"][0]
        return " ".join((*name.get("prefix", ()), *name["given"], name["family"])).encode()

    def add(self, type_name: str, tree: dict[str, Any], line: bytes, shared: frozenset[bytes]) -> None:
        if coding := tree.get("code", {}).get("coding"):
            self.codes.setdefault(type_name, []).append(f"{coding[0]['system']}|{coding[0]['code']}")
        pieces, numbers, end = [], [], 0
        for found in _SLOT.finditer(line):
            if found[0] not in shared:
                pieces.append(line[end : found.start()].replace(b"%", b"%%"))
                numbers.append(self.slots.setdefault(found[0], len(self.slots)))
                end = found.end()
        pieces.append(line[end:].replace(b"%", b"%%"))
        text = b"%b".join(pieces).replace(b'"display":"%b"' % self.name, b'"display":"\0"')
        assert len(numbers) > 1, "a resource has an id and refers to its patient"
        self.lines.append((type_name, text, itemgetter(*numbers)))

    def copy(self, person: Person) -> Iterator[tuple[str, bytes]]:
        """(type, line) of every resource, for another person."""
        yield "Patient", orjson.dumps(self._patient(person))
        texts = [person.id(slot) if len(slot) == 36 else person.day(slot) for slot in self.slots]
        name = person.name
        for type_name, text, values in self.lines:
            yield type_name, (text % values(texts)).replace(b"\0", name)

    def _patient(self, person: Person) -> dict[str, Any]:
        id = person.id(self.patient["id"].encode()).decode()
        made = {"resourceType": "Patient", "id": id, **self.patient} | {"id": id}
        made["identifier"] = [{"system": NUMBER, "value": f"{person.number:08}"}]
        made["name"] = [{"use": "official", "family": person.family, "given": list(person.given)}]
        made["telecom"] = [{"system": "phone", "value": f"09{person.number:08}", "use": "home"}]
        made["birthDate"] = person.day(self.patient["birthDate"].encode()).decode()
        return made


class City:
    def __init__(self, sample: Iterable[tuple[str, bytes]]) -> None:
        self.shared: list[tuple[str, bytes]] = []
        self.groups: list[Group] = []
        by_id: dict[str, Group] = {}
        others = []
        for type_name, line in sample:
            if type_name in SHARED:
                self.shared.append((type_name, line))
            elif type_name == "Patient":
                patient = orjson.loads(line)
                self.groups.append(by_id.setdefault(patient["id"], Group(patient)))
            else:
                others.append((type_name, line))
        ids = frozenset(orjson.loads(line)["id"].encode() for _, line in self.shared)
        for type_name, line in others:
            tree = orjson.loads(line)
            patient_id = patient_of(tree)
            if patient_id in by_id:
                by_id[patient_id].add(type_name, tree, line, ids)

    def group(self, number: int) -> Group:
        """The sample patient of whom a patient is a copy."""
        return self.groups[number % len(self.groups)]

    def patient_id(self, number: int) -> str:
        return Person.of(number).id(self.group(number).patient["id"].encode()).decode()

    def write(self, folder: Path, resources: int, *, first: int = 0) -> "Written":
        """Whole patients from a number on, until so many resources are written."""
        folder.mkdir(parents=True, exist_ok=True)
        number, count, size = first, 0, 0
        with ExitStack() as files:
            open_files: dict[str, BinaryIO] = {}

            def put(type_name: str, line: bytes) -> None:
                nonlocal count, size
                if type_name not in open_files:
                    open_files[type_name] = files.enter_context((folder / f"{type_name}.ndjson").open("wb"))
                open_files[type_name].write(line + b"\n")
                count, size = count + 1, size + len(line) + 1

            for type_name, line in self.shared if first == 0 else ():
                put(type_name, line)
            while count < resources:
                for type_name, line in self.group(number).copy(Person.of(number)):
                    put(type_name, line)
                number += 1
        return Written(first, number, count, size)


@dataclass(frozen=True)
class Written:
    """Patients first to end (without), and what they are."""

    first: int
    end: int
    resources: int
    bytes: int


# ---- the sample


def city() -> City:
    shared = Path(os.environ.get("EHR_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    paths = sorted((shared / "data" / "synthea-100" / "ndjson").glob("*.ndjson.gz"))
    return City(_lines(paths) if paths else _made())


def _lines(paths: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        for line in gzip.decompress(path.read_bytes()).splitlines():
            yield path.name.partition(".")[0], line


def _made(patients: int = 20, visits: int = 12, results: int = 10) -> Iterator[tuple[str, bytes]]:
    """Patients of our own where there is no shared data: visits, a diagnosis and results of each."""

    def line(type_name: str, key: str, **members: Any) -> tuple[str, bytes]:
        made = {"resourceType": type_name, "id": str(uuid5(_MADE, f"{type_name} {key}"))} | members
        return type_name, orjson.dumps(made)

    def reference(type_name: str, key: str) -> dict[str, str]:
        return {"reference": f"{type_name}/{uuid5(_MADE, f'{type_name} {key}')}"}

    yield line("Organization", "0", name="Trạm Y tế phường Hàng Bạc")
    for p in range(patients):
        name = {"family": FAMILIES[p % len(FAMILIES)], "given": [MIDDLES[p % len(MIDDLES)], f"Đào{p}"]}
        yield line(
            "Patient",
            f"{p}",
            name=[name],
            gender=("female", "male")[p % 2],
            birthDate=f"{1930 + p * 4}-03-0{p % 9 + 1}",
        )
        subject = reference("Patient", f"{p}")
        for v in range(visits):
            at, visit = f"{2006 + v}-{(p + v) % 12 + 1:02}-{(p * 7 + v) % 28 + 1:02}T08:00:00+07:00", f"{p} {v}"
            period, service = {"start": at, "end": at}, reference("Organization", "0")
            yield line(
                "Encounter",
                visit,
                status="finished",
                **{"class": {"code": "AMB"}},
                subject=subject,
                period=period,
                serviceProvider=service,
            )
            yield line(
                "Condition",
                visit,
                code=_concept(ICD_10, f"J{(p + v) % 99}"),
                subject=subject,
                encounter=reference("Encounter", visit),
                onsetDateTime=at,
            )
            for r in range(results):
                value = {
                    "value": (p + v + r) % 90,
                    "unit": "mmol/L",
                    "system": "http://unitsofmeasure.org",
                    "code": "mmol/L",
                }
                yield line(
                    "Observation",
                    f"{visit} {r}",
                    status="final",
                    code=_concept(LOINC, f"{r * r % 70}-1"),
                    subject=subject,
                    encounter=reference("Encounter", visit),
                    effectiveDateTime=at,
                    valueQuantity=value,
                )


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


# ---- the store


async def load(url: str, folder: Path, source: Path, *, processes: int = 2) -> int:
    """Every line of the NDJSON files in a folder into the store; how many resources."""
    settings = Settings(data_dir=folder, pool_connections_max=2)
    record = await open_record(settings, url)
    try:
        queue = Queue(record.database)
        planned = await job.plan(queue, [source], folder / "imports")
        opener = functools.partial(open_record, settings, url)
        done = await job.run_here(record, queue, planned, opener, processes=processes, seen=lambda _: None)
        assert (done.state, done.refused, done.stored) == ("done", 0, done.lines), done
    finally:
        await record.close()
    return done.stored


def main() -> None:
    parser = argparse.ArgumentParser(description="NDJSON files of distinct patients")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resources", type=int, default=200_000)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first patient, to go on after an earlier run"
    )
    given = parser.parse_args()
    print(city().write(given.folder, given.resources, first=given.first))


if __name__ == "__main__":
    main()
