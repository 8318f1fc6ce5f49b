"""Write an episode as the HL7 v2.5.1 messages a hospital information system sends, in order of time.

In:      Episode
Out:     Outgoing: visits A04, A08, ORU, RDE, DFT, A03; stays A01, A08, ORM, ORU …, RDE, DFT, A03; vaccinations VXU
Order:   charges go before the discharge, so that whoever reads "finished" finds the bill there
Keeps:   digits of results; claim columns in ZCC segments
Limits:  MSH-10 has 19 characters: facility, hour, number of the arrival, number of the message
Source:  HL7 v2.5.1 chapters 3 (ADT), 4 (ORM, RDE, VXU), 6 (DFT), 7 (ORU)
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from adapters.facilities import claim_columns, claim_xml
from adapters.facilities import hl7_segments as segments
from adapters.facilities.episode import Episode, Medicine, Order, Result, Service, Vaccine, Vitals, plain
from adapters.facilities.hl7_segments import clinician, columns, segment, stamp, text
from adapters.facilities.outgoing import Outgoing
from ehr.fhir import vital_signs

_SECTION: Final = {"1": "LAB", "2": "RAD", "3": "EC", "18": "EN"}
_VITALS: Final = (
    (vital_signs.PULSE, "Mạch", "/min"),
    (vital_signs.TEMPERATURE, "Nhiệt độ", "Cel"),
    (vital_signs.SYSTOLIC, "Huyết áp tâm thu", "mm[Hg]"),
    (vital_signs.DIASTOLIC, "Huyết áp tâm trương", "mm[Hg]"),
    (vital_signs.BREATHS, "Nhịp thở", "/min"),
    (vital_signs.OXYGEN, "SpO2", "%"),
    (vital_signs.WEIGHT, "Cân nặng", "kg"),
    (vital_signs.HEIGHT, "Chiều cao", "cm"),
)


def messages(episode: Episode) -> list[Outgoing]:
    """Every message of an episode; at is when the facility's system writes it."""
    found = list(_Writer(episode).all())
    return sorted(found, key=lambda message: message.at)


class _Writer:
    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self._rows = claim_xml.rows(episode)
        self._summary = self._rows["XML1"][0]
        self._number = 0

    def all(self) -> Iterator[Outgoing]:
        episode = self._episode
        admission = "ADT^A01" if episode.kind == "inpatient" else "ADT^A04"
        yield self._movement(admission, episode.arrival)
        for number, vitals in enumerate(episode.vitals, start=1):
            yield self._observed(number, vitals)
        for at, orders in groupby(episode.orders, key=lambda order: order.service.ordered):
            batch = list(orders)
            if episode.kind == "inpatient":
                yield self._ordered(at, batch)
            yield self._resulted(batch)
        for number, vaccine in enumerate(episode.vaccines, start=1):
            yield self._vaccinated(number, vaccine)
        if episode.medicines:
            yield self._prescribed()
        yield self._charged()
        yield self._movement("ADT^A03", episode.paid)

    def _sealed(self, kind: str, at: datetime, *parts: list[str]) -> Outgoing:
        episode = self._episode
        self._number += 1
        # The link "01Z01.26112408.0012" without its points, and a number of two digits: 19 characters.
        control_id = f"{episode.link.replace('.', '')}{self._number:02d}"
        lines = [segments.header(kind, control_id, episode.facility.code, at)]
        if kind.startswith("ADT"):
            lines.append(segments.event(kind, at, self._episode.end if kind == "ADT^A03" else at))
        lines += [line for part in parts for line in part]
        return Outgoing(at, kind, control_id, ("\r".join(lines) + "\r").encode())

    def _who(self) -> list[str]:
        return [segments.patient(self._episode), *columns(self._summary, claim_columns.PATIENT)]

    def _movement(self, kind: str, at: datetime) -> Outgoing:
        """Arrival or discharge; only the discharge knows how it ended."""
        episode = self._episode
        ended = kind == "ADT^A03"
        visit = [segments.visit(episode, ended=ended)]
        if ended:
            visit += columns(self._summary, claim_columns.VISIT)
        parts = [self._who(), visit, [segments.reason(episode)], segments.allergies(episode)]
        parts.append(segments.diagnoses(episode, at, final=ended))
        if ended:
            parts.append(self._procedures())
        return self._sealed(kind, at, *parts, segments.insurance(episode))

    def _observed(self, number: int, vitals: Vitals) -> Outgoing:
        """A08 with the vital signs of one round."""
        lines: list[str] = []
        for (loinc, name, unit), value in zip(_VITALS, _values(vitals), strict=True):
            if value:
                fields = {
                    1: str(len(lines) + 1),
                    2: "NM",
                    3: f"{loinc}^{name}^LN",
                    5: value,
                    6: f"{unit}^{unit}^UCUM",
                    11: "F",
                    14: stamp(vitals.at),
                    16: clinician(self._episode.nurse),
                    21: f"{self._episode.link}/V{number}/{loinc}^HIS",
                }
                lines.append(segment("OBX", fields))
        visit = [segments.visit(self._episode), segments.reason(self._episode)]
        return self._sealed("ADT^A08", vitals.at + timedelta(minutes=1), self._who(), visit, lines)

    def _ordered(self, at: datetime, orders: list[Order]) -> Outgoing:
        lines: list[str] = []
        for order in orders:
            lines += [self._common(order.number, at), self._request(order, resulted=None)]
        return self._sealed("ORM^O01", at, self._who(), [segments.visit(self._episode)], lines)

    def _resulted(self, orders: list[Order]) -> Outgoing:
        """One ORU for what was ordered together, when the last of it is there."""
        at = max(order.service.resulted or order.service.done for order in orders)
        lines: list[str] = []
        for order in orders:
            lines.append(self._request(order, resulted=order.service.resulted))
            if order.conclusion:
                lines.append(segment("NTE", {1: "1", 3: text(order.conclusion)}))
            lines += self._answers(order)
        return self._sealed("ORU^R01", at, self._who(), [segments.visit(self._episode)], lines)

    def _place(self, number: str) -> str:
        return f"{self._episode.link}/{number}^HIS"

    def _common(self, number: str, at: datetime) -> str:
        return segment("ORC", {1: "NW", 2: self._place(number), 9: stamp(at), 12: clinician(self._episode.doctor)})

    def _request(self, order: Order, *, resulted: datetime | None) -> str:
        service = order.service
        fields = {
            1: "1",
            2: self._place(order.number),
            4: f"{service.code}^{text(service.name)}^DVKT",
            7: stamp(service.done),
            16: clinician(self._episode.doctor),
        }
        if resulted is not None:
            fields |= {
                3: f"{self._episode.link}/{order.number}^LIS",
                22: stamp(resulted),
                24: _SECTION.get(service.group, "OTH"),
                25: "F",
            }
        return segment("OBR", fields)

    def _answers(self, order: Order) -> list[str]:
        if not order.results:
            value = text(f"{order.description} {order.conclusion}".strip())
            code = f"{order.service.code}^{text(order.service.name)}^DVKT"
            return [self._answer(order, 1, {2: "TX", 3: code, 5: value, 21: f"{order.number}/T"})]
        return [
            self._answer(order, number, _fields(result) | {21: f"{order.number}/{result.loinc}"})
            for number, result in enumerate(order.results, start=1)
        ]

    def _answer(self, order: Order, number: int, fields: dict[int, str]) -> str:
        performer = order.service.performer or self._episode.doctor
        common = {1: str(number), 11: "F", 14: stamp(order.service.done), 16: clinician(performer)}
        return segment("OBX", {**fields, **common, 21: f"{self._episode.link}/{fields[21]}^LIS"})

    def _procedures(self) -> list[str]:
        """PR1 for what was done and has no report of its own."""
        done = [line for line in self._episode.services if line.is_procedure]
        return [
            segment(
                "PR1",
                {
                    1: str(number),
                    3: f"{line.code}^{text(line.name)}^DVKT",
                    5: stamp(line.done),
                    11: clinician(line.performer or self._episode.doctor),
                    19: f"{self._episode.link}/P{number}^HIS",
                },
            )
            for number, line in enumerate(done, start=1)
        ]

    def _prescribed(self) -> Outgoing:
        at = self._episode.medicines[0].ordered
        lines: list[str] = []
        for number, medicine in enumerate(self._episode.medicines, start=1):
            lines.append(self._common(f"R{number}", medicine.ordered))
            lines += _medicine(medicine)
        return self._sealed("RDE^O11", at, self._who(), [segments.visit(self._episode)], lines)

    def _vaccinated(self, number: int, vaccine: Vaccine) -> Outgoing:
        rxa = segment(
            "RXA",
            {
                1: "0",
                2: "1",
                3: stamp(vaccine.at),
                4: stamp(vaccine.at),
                5: f"{vaccine.code}^{text(vaccine.name)}^CVX",
                6: "999",
                9: "00",
                10: clinician(self._episode.nurse),
                15: vaccine.lot,
                16: f"{vaccine.expires:%Y%m%d}",
                20: "CP",
                21: "A",
            },
        )
        rxr = segment("RXR", {1: f"{vaccine.route}^^HL70162", 2: f"{vaccine.site}^^HL70163" if vaccine.site else ""})
        common = segment("ORC", {1: "RE", 3: self._place(f"I{number}"), 12: clinician(self._episode.doctor)})
        at = vaccine.at + timedelta(minutes=2)
        return self._sealed("VXU^V04", at, self._who(), [segments.visit(self._episode)], [common, rxa, rxr])

    def _charged(self) -> Outgoing:
        """DFT with every row of XML2 and XML3."""
        episode = self._episode
        lines: list[str] = []
        for place, (medicine, row) in enumerate(
            zip(episode.medicines, self._rows.get("XML2", ()), strict=True), start=1
        ):
            item = f"{medicine.code}^{text(medicine.name)}^THUOC"
            lines += self._charge(f"XML2/{place}", item, row, medicine)
        for place, (service, row) in enumerate(zip(episode.services, self._rows["XML3"], strict=True), start=1):
            item = f"{service.code}^{text(service.name)}^DVKT"
            lines += self._charge(f"XML3/{place}", item, row, service)
        event = [segments.event("DFT^P03", episode.end, episode.end)]
        parts = [event, self._who(), [segments.visit(episode, ended=True)], lines, segments.insurance(episode)]
        return self._sealed("DFT^P03", episode.end, *parts)

    def _charge(self, place: str, item: str, row: claim_xml.Row, line: Medicine | Service) -> list[str]:
        performer = line.performer if isinstance(line, Service) else None
        done = line.done if isinstance(line, Service) else line.given
        fields = {
            1: place.partition("/")[2],
            2: f"{self._episode.link}/{place}",
            4: stamp(done),
            5: stamp(line.ordered),
            6: "CG",
            7: item,
            10: plain(line.quantity),
            11: f"{line.amounts.hospital:.2f}&VND",
            12: f"{line.price:.3f}&VND",
            13: self._episode.department,
            19: f"{self._episode.main.code}^{text(self._episode.main.text)}^I10",
            20: clinician(performer) if performer is not None else "",
            21: clinician(self._episode.doctor),
        }
        return [segment("FT1", fields), *columns(row, claim_columns.CHARGE_IN_HL7)]


def _values(vitals: Vitals) -> tuple[str, ...]:
    return (
        str(vitals.pulse),
        vitals.temperature,
        "" if vitals.systolic is None else str(vitals.systolic),
        "" if vitals.diastolic is None else str(vitals.diastolic),
        str(vitals.breaths),
        str(vitals.oxygen),
        vitals.weight_kg,
        str(vitals.height_cm),
    )


def _fields(result: Result) -> dict[int, str]:
    return {
        2: "NM" if result.unit else "ST",
        3: f"{result.loinc}^{text(result.name)}^LN",
        5: text(result.value),
        6: f"{text(result.unit)}^{text(result.unit)}^UCUM" if result.unit else "",
        7: f"{result.low}-{result.high}" if result.low else "",
        8: result.flag,
    }


def _medicine(medicine: Medicine) -> list[str]:
    alternate = f"^{medicine.atc}^{text(medicine.ingredient)}^ATC" if medicine.atc else ""
    fields = {
        2: f"{medicine.code}^{text(medicine.name)}^THUOC{alternate}",
        3: "" if medicine.whole_pack else plain(medicine.each),
        5: "" if medicine.whole_pack else f"^{text(medicine.unit)}",
        10: plain(medicine.quantity),
        11: f"^{text(medicine.unit)}",
        21: f"^{text(medicine.dose)}",
    }
    return [segment("RXE", fields), segment("RXR", {1: f"^{text(medicine.route_name)}"})]
