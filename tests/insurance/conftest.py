"""Insured episodes as facilities send them: FHIR trees of one patient, for the pure tests and for a real record."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from ehr.access.policy import Caller
from ehr.database.engine import Database
from ehr.fhir import vietnam
from ehr.fhir.codec import dumps, loads
from ehr.identity import PersonLinker
from ehr.settings import Settings
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from sync.episode import Episode
from tests.facility import add_facility

Tree = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One charge. columns win over what the builder would write."""

    table: str = "XML3"
    code: str = "02.1896.1897"
    name: str = "Khám Nội"
    quantity: str = "1"
    price: str = "36500"
    columns: tuple[tuple[str, str], ...] = (("MA_NHOM", "13"),)


DRUG = Item(
    "XML2",
    "40.155",
    "Amoxicilin 500mg",
    "20",
    "1150.5",
    (
        ("MA_NHOM", "4"),
        ("HAM_LUONG", "500mg"),
        ("DUONG_DUNG", "1.01"),
        ("LIEU_DUNG", "1 viên/lần * 2 lần/ngày * 10 ngày [2 viên/ngày]"),
        ("SO_DANG_KY", "VD-12345-20"),
        ("TT_THAU", "120/QĐ-SYT;G2;N3;2025;01"),
    ),
)
EXAMINATION = Item()
BED = Item(
    code="K03.1911",
    name="Giường Nội khoa loại 1",
    quantity="4",
    price="245700",
    columns=(("MA_NHOM", "15"), ("MA_GIUONG", "H001")),
)
LABORATORY = Item(
    code="23.0075.1494",
    name="Định lượng Glucose",
    price="21800",
    columns=(("MA_NHOM", "1"), ("NGAY_KQ", "202611200905")),
)


@dataclass(frozen=True)
class Visit:
    """What happened to one insured person. number makes every id and identifier its own."""

    number: int = 1
    facility: str = "01Z01"
    inpatient: bool = False
    card: str = "GD4010123456789"
    main: str = "J20.9"
    weight: str | None = "56.5"
    items: tuple[Item, ...] = (EXAMINATION, DRUG)
    status: str = "finished"

    @property
    def ma_lk(self) -> str:
        return f"{self.facility}.{self.number:06d}"


def patient_of(visit: Visit) -> Tree:
    return {
        "resourceType": "Patient",
        "id": f"p{visit.number}-{visit.facility}",
        "extension": [
            vietnam.columns_extension(
                {"MA_DANTOC": "01", "MATINH_CU_TRU": "01", "MAXA_CU_TRU": "00004", "MA_NGHE_NGHIEP": "00000"}
            )
        ],
        "identifier": [
            {"system": vietnam.PATIENT_NUMBER, "value": f"BN{visit.number:06d}"},
            {"system": vietnam.NATIONAL_ID, "value": f"0010{visit.number:08d}"},
        ],
        "name": [{"text": "Nguyễn Thị Minh Khai"}],
        "gender": "female",
        "birthDate": "1987-03-12",
        "address": [{"text": "12 Phố Huế, Phường Ba Đình, Hà Nội"}],
    }


def trees(visit: Visit) -> list[Tree]:
    """Every resource of the visit, referring to each other by id."""
    me = f"{visit.number}-{visit.facility}"
    patient, encounter = {"reference": f"Patient/p{me}"}, {"reference": f"Encounter/e{me}"}
    doctor = {"identifier": {"system": vietnam.PRACTISING_CERTIFICATE, "value": "001234/HNO-CCHN"}}
    found: list[Tree] = [
        patient_of(visit),
        {
            "resourceType": "Coverage",
            "id": f"c{me}",
            "extension": [vietnam.columns_extension({"MA_DKBD": visit.facility})],
            "identifier": [{"system": vietnam.INSURANCE_NUMBER, "value": visit.card}],
            "status": "active",
            "beneficiary": patient,
            "period": {"start": "2026-01-01", "end": "2026-12-31"},
            "payor": [{"display": "Bảo hiểm xã hội Việt Nam"}],
        },
        _condition(visit, me, "a", visit.main, "Viêm phế quản cấp"),
        _condition(visit, me, "b", "I10", "Tăng huyết áp vô căn"),
        _encounter(visit, me, patient, doctor),
        {
            "resourceType": "Observation",
            "id": f"o{me}",
            "status": "final",
            "category": [{"coding": [{"system": vietnam.OBSERVATION_CATEGORY, "code": "laboratory"}]}],
            "code": {"coding": [{"system": vietnam.LOINC, "code": "2345-7"}], "text": "Glucose"},
            "subject": patient,
            "encounter": encounter,
            "effectiveDateTime": "2026-11-20T08:40:00+07:00",
            "issued": "2026-11-20T09:05:00+07:00",
            "performer": [doctor],
            "valueQuantity": {"value": Decimal("5.60"), "unit": "mmol/L", "system": vietnam.UCUM, "code": "mmol/L"},
        },
    ]
    if visit.weight is not None:
        found.append(_vital(visit, me, "29463-7", "Cân nặng", visit.weight, "kg"))
    if visit.inpatient:
        found += [
            _vital(visit, me, "8867-4", "Mạch", "75", "/min"),
            _vital(visit, me, "8310-5", "Nhiệt độ", "37.2", "Cel"),
        ]
    found += [_charge(visit, me, number, item, doctor) for number, item in enumerate(visit.items)]
    return found


def _encounter(visit: Visit, me: str, patient: Tree, doctor: Tree) -> Tree:
    end = "2026-11-23T15:30:00+07:00" if visit.inpatient else "2026-11-20T10:15:00+07:00"
    return {
        "resourceType": "Encounter",
        "id": f"e{me}",
        "extension": [vietnam.columns_extension({"MA_DOITUONG_KCB": "1.1", "KET_QUA_DTRI": "2"})],
        "identifier": [
            {"system": vietnam.EPISODE_LINK, "value": visit.ma_lk},
            {"system": vietnam.RECORD_NUMBER, "value": f"HS{visit.number:06d}"},
        ],
        "status": visit.status,
        "class": {"system": vietnam.ENCOUNTER_CLASS, "code": "IMP" if visit.inpatient else "AMB"},
        "type": [{"coding": [{"system": vietnam.MA_LOAI_KCB, "code": "03" if visit.inpatient else "01"}]}],
        "serviceType": {"coding": [{"system": vietnam.MA_KHOA, "code": "K03" if visit.inpatient else "K01"}]},
        "subject": patient,
        "participant": [{"individual": doctor}],
        "period": {"start": "2026-11-20T08:05:00+07:00", "end": end},
        "reasonCode": [{"text": "Ho, sốt 3 ngày"}],
        "diagnosis": [
            {"condition": {"reference": f"Condition/da{me}"}, "rank": 1},
            {"condition": {"reference": f"Condition/db{me}"}, "rank": 2},
        ],
        "hospitalization": {"dischargeDisposition": {"coding": [{"system": vietnam.MA_LOAI_RV, "code": "1"}]}},
    }


def _condition(visit: Visit, me: str, letter: str, code: str, text: str) -> Tree:
    return {
        "resourceType": "Condition",
        "id": f"d{letter}{me}",
        "code": {"coding": [{"system": vietnam.ICD_10, "code": code}], "text": text},
        "subject": {"reference": f"Patient/p{me}"},
        "encounter": {"reference": f"Encounter/e{me}"},
    }


def _vital(visit: Visit, me: str, code: str, text: str, value: str, unit: str) -> Tree:
    return {
        "resourceType": "Observation",
        "id": f"v{code}-{me}",
        "status": "final",
        "category": [{"coding": [{"system": vietnam.OBSERVATION_CATEGORY, "code": "vital-signs"}]}],
        "code": {"coding": [{"system": vietnam.LOINC, "code": code}], "text": text},
        "subject": {"reference": f"Patient/p{me}"},
        "encounter": {"reference": f"Encounter/e{me}"},
        "effectiveDateTime": "2026-11-20T08:10:00+07:00",
        "valueQuantity": {"value": Decimal(value), "unit": unit, "system": vietnam.UCUM, "code": unit},
    }


def _charge(visit: Visit, me: str, number: int, item: Item, doctor: Tree) -> Tree:
    system = vietnam.MA_THUOC if item.table == "XML2" else vietnam.MA_DICH_VU
    price = "DON_GIA" if item.table == "XML2" else "DON_GIA_BV"
    columns = {price: item.price, **dict(item.columns)}
    return {
        "resourceType": "ChargeItem",
        "id": f"i{number}-{me}",
        "extension": [vietnam.columns_extension(columns)],
        "identifier": [{"system": vietnam.CHARGE_NUMBER, "value": f"{visit.ma_lk}/{item.table}/{number}"}],
        "status": "billable",
        "code": {"coding": [{"system": system, "code": item.code}], "text": item.name},
        "subject": {"reference": f"Patient/p{me}"},
        "context": {"reference": f"Encounter/e{me}"},
        "occurrenceDateTime": "2026-11-20T09:00:00+07:00",
        "performer": [{"actor": doctor}],
        "quantity": {"value": Decimal(item.quantity), "unit": "viên" if item.table == "XML2" else "lần"},
        "enterer": doctor,
        "enteredDate": "2026-11-20T08:30:00+07:00",
    }


class Episodes:
    """The builder, as a fixture, because test files cannot import each other."""

    DRUG, EXAMINATION, BED, LABORATORY = DRUG, EXAMINATION, BED, LABORATORY
    trees = staticmethod(trees)

    def outpatient(self, **changes: Any) -> Visit:
        return replace(Visit(items=(EXAMINATION, LABORATORY, DRUG)), **changes)

    def inpatient(self, **changes: Any) -> Visit:
        return replace(Visit(inpatient=True, items=(EXAMINATION, BED, LABORATORY, DRUG)), **changes)

    def episode(self, visit: Visit, *, kind: str = "hospital") -> Episode:
        """As sync.read would find it."""
        held = {f"{tree['resourceType']}/{tree['id']}": loads(dumps(tree)) for tree in trees(visit)}

        def of(type_name: str) -> list[Tree]:
            return [tree for name, tree in sorted(held.items()) if name.startswith(type_name + "/")]

        return Episode(
            facility_code=visit.facility,
            facility_kind=kind,
            encounter=of("Encounter")[0],
            encounter_version=1,
            patient=of("Patient")[0],
            coverages=of("Coverage"),
            charges=of("ChargeItem"),
            observations=of("Observation"),
            notes=of("ClinicalImpression"),
            referred=held,
            certificates={},
        )

    async def facility(self, record: Record, code: str, kind: str = "hospital") -> int:
        async with record.database.acquire() as connection:
            return await add_facility(connection, code, kind=kind, feed="fhir")

    async def write(self, record: Record, visit: Visit, resources: Sequence[Tree] | None = None) -> None:
        """Write a visit as its facility would."""
        caller = Caller.of_facility(await self.facility(record, visit.facility), visit.facility)

        async def work(uow: UnitOfWork) -> None:
            for tree in trees(visit) if resources is None else resources:
                await uow.resources.update(tree["resourceType"], tree["id"], None, tree)

        await record.run(caller, work)


@pytest.fixture(scope="session")
def episodes() -> Episodes:
    return Episodes()


@pytest.fixture
async def record(database_url: str) -> AsyncIterator[Record]:
    settings = Settings()
    database = await Database.open(database_url, connections_max=20)
    yield Record(database, settings, followers=[PersonLinker(settings)])
    await database.close()
