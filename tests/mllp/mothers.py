"""HL7 messages of our own, and short ways to look at answers and at the record."""

from typing import Any

from ehr.access.policy import Caller
from ehr.fhir import codec
from ehr.store.record import Record

FACILITY = "01Z01"
MRN = "4242"
CCCD = "001080012345"
LINK = "01Z01.26112308.0001"


def header(kind: str, control_id: str, *, at: str = "20261123080000+0700", facility: str = FACILITY) -> str:
    return f"MSH|^~\\&|HIS|{facility}|EHR|HANOI|{at}||{kind}|{control_id}|P|2.5.1||||||UNICODE UTF-8"


def pid(*, name: str = "Nguyễn^An^Văn", phone: str = "0912345678", mrn: str = MRN) -> str:
    numbers = f"{mrn}^^^{FACILITY}^PI~{CCCD}^^^BCA^NI~DN4010123456789^^^BHXH^SB"
    return f"PID|1||{numbers}||{name}||19800101|M|||12 Phố Huế^^^Hà Nội||{phone}^PRS^CP"


def pv1(*, link: str = LINK, ended: str = "", disposition: str = "") -> str:
    fields = [""] * 51
    fields[1:3] = ["1", "O"]
    fields[3] = f"K01^^^{FACILITY}"
    fields[7] = "000123/HNO-CCHN^Trần^Bình^Thị^^^^^BYT^^^^LN"
    fields[10], fields[18], fields[19] = "K01", "01", link
    fields[36], fields[44], fields[45] = disposition, "20261123080000+0700", ended
    return "PV1|" + "|".join(fields[1:])


def message(*segments: str) -> bytes:
    return ("\r".join(segments) + "\r").encode()


def admission(control_id: str = "A1", *, at: str = "20261123080000+0700", **changes: str) -> bytes:
    return message(header("ADT^A04^ADT_A01", control_id, at=at), f"EVN|A04|{at}", pid(**changes), pv1())


def update(control_id: str, *, at: str, **changes: str) -> bytes:
    return message(header("ADT^A08^ADT_A01", control_id, at=at), f"EVN|A08|{at}", pid(**changes), pv1())


def discharge(control_id: str = "A3", *, at: str = "20261123100000+0700") -> bytes:
    visit = pv1(ended="20261123095500+0700", disposition="1")
    diagnosis = "DG1|1||I10^Tăng huyết áp vô căn^I10||20261123095000+0700|F|||||||||1"
    return message(header("ADT^A03^ADT_A03", control_id, at=at), f"EVN|A03|{at}", pid(), visit, diagnosis)


def result(
    control_id: str = "R1", *, value: str = "13.50", status: str = "F", at: str = "20261123090000+0700"
) -> bytes:
    return message(
        header("ORU^R01^ORU_R01", control_id, at=at),
        pid(),
        pv1(),
        f"OBR|1|P1^HIS|F1^LIS|24331-1^Lipid panel^LN|||20261123083000+0700|||||||||||||||{at}||LAB|{status}",
        f"OBX|1|NM|718-7^Hemoglobin^LN||{value}|g/dL^^UCUM|12.0-16.0|N|||{status}|||20261123083000+0700",
    )


def code_of(answer: bytes) -> str:
    """MSA-1."""
    return answer.decode().split("\r")[1].split("|")[1]


def in_production(sent: str) -> str:
    """Samples of makers' tests say in MSH-11 that they are tests."""
    header, end, rest = sent.partition("\r")
    fields = header.split(sent[3])
    if len(fields) > 10:
        fields[10] = "P"
    return sent[3].join(fields) + end + rest


def errors_of(answer: bytes) -> list[tuple[str, str]]:
    """(ERR-2, ERR-3.1) of every ERR."""
    lines = [line.split("|") for line in answer.decode().split("\r") if line.startswith("ERR|")]
    return [(line[2], line[3].split("^")[0]) for line in lines]


async def search(record: Record, type_name: str, **criteria: str) -> list[dict[str, Any]]:
    """What the search of the FHIR API finds, as trees."""
    caller = Caller.system("test")
    pairs = list(criteria.items())
    assert record.matcher is not None, "open_record gives the record its search"
    async with record.reading(caller) as uow:
        ids = await record.matcher(uow.connection, type_name, pairs, caller.access, source=None, limit=500)
        versions = [await uow.resources.read(type_name, id) for id in ids]
    return [codec.loads(version.body) for version in versions if version.body]


async def ledger(record: Record) -> list[tuple[str, str, int]]:
    """(state, control id, facility) of every message, in the order of arrival."""
    async with record.database.acquire() as connection:
        rows = await connection.fetch("SELECT state, control_id, facility_id FROM intake_message ORDER BY id")
    return [(row["state"], row["control_id"], row["facility_id"]) for row in rows]
