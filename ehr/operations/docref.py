"""$docref: references to the documents of a patient, those that are made when they are asked for included.

In:      Wanted: whose, of which care dates and type
Out:     Documents: stored DocumentReferences that are current, a page of them; without dates the most recent of each
         type. on_demand: a reference to the International Patient Summary, which is made when it is read
Limits:  limits.docref_documents_max are looked through for the most recent; TooMuch beyond
Errors:  NotFound where there is no such Patient for the caller; Forbidden without the right to search
Source:  International Patient Access, operation docref; FHIR R4 documentreference.html
"""

from dataclasses import dataclass
from typing import Any, Final

from ehr import limits
from ehr.access.policy import Caller
from ehr.clock import day_of, instant
from ehr.errors import TooMuch
from ehr.fhir import codec
from ehr.fhir.elements import coded, reference
from ehr.search.found import Found
from ehr.search.page import Page
from ehr.search.parse import CURSOR, parse
from ehr.search.run import run
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

LOINC: Final = "http://loinc.org"
SUMMARY: Final = "60591-5"
"""LOINC: Patient summary Document."""

_IPS: Final = {"system": "urn:ietf:rfc:3986", "code": "http://hl7.org/fhir/uv/ips/StructureDefinition/Bundle-uv-ips"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """start, end: care dates. type: a CodeableConcept with one coding. on_demand: only what is made when asked for."""

    patient: str
    start: str | None = None
    end: str | None = None
    type: dict[str, Any] | None = None
    on_demand: bool = False
    count: int | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Documents:
    stored: list[Found]
    on_demand: dict[str, Any] | None
    next_cursor: str | None


async def docref(record: Record, caller: Caller, wanted: Wanted, *, base_url: str) -> Documents:
    """The documents; their audit rows are committed before anything is answered."""
    async with record.reading(caller) as uow:
        await uow.resources.read("Patient", wanted.patient)
        page = Page() if wanted.on_demand else await _stored(uow, wanted)
        first = wanted.cursor is None
        made = _summary(uow, wanted, base_url) if first and _means_summary(uow, wanted) else None
        return Documents(page.matches, made, page.next_cursor)


async def _stored(uow: UnitOfWork, wanted: Wanted) -> Page:
    query = [("patient", wanted.patient), ("status", "current"), ("_sort", "-date")]
    query += [("type", _token(coding)) for coding in (wanted.type or {}).get("coding", ())]
    query += [("period", f"ge{wanted.start}")] if wanted.start else []
    query += [("period", f"le{wanted.end}")] if wanted.end else []
    query += [(CURSOR, wanted.cursor)] if wanted.cursor else []
    if not (wanted.start or wanted.end):
        return await _most_recent(uow, query)
    count = min(wanted.count or limits.page_count_default, limits.page_count_max)
    return await run(uow, parse("DocumentReference", [*query, ("_count", str(count))]))


async def _most_recent(uow: UnitOfWork, query: list[tuple[str, str]]) -> Page:
    """The first of each type, which is the most recent one."""
    page = await run(uow, parse("DocumentReference", [*query, ("_count", str(limits.docref_documents_max))]))
    if page.next_cursor is not None:
        raise TooMuch(f"over {limits.docref_documents_max} documents match; name care dates or a type", at="start")
    seen: dict[bytes, Found] = {}
    for one in page.matches:
        seen.setdefault(codec.dumps({"type": codec.loads(one.body).get("type")}), one)
    return Page(matches=list(seen.values()))


def _token(coding: dict[str, Any]) -> str:
    code = "".join(f"\\{one}" if one in "\\,|$" else one for one in coding.get("code", ""))
    return f"{coding['system']}|{code}" if "system" in coding else code


def _means_summary(uow: UnitOfWork, wanted: Wanted) -> bool:
    codings = (wanted.type or {}).get("coding", [{"code": SUMMARY}])
    named = any(one.get("code") == SUMMARY and one.get("system", LOINC) == LOINC for one in codings)
    today = day_of(uow.now).isoformat()
    ended = wanted.end is not None and wanted.end[:10] < today[: len(wanted.end)]
    return named and not ended and uow.access.grants.allow("Patient", "r")


def _summary(uow: UnitOfWork, wanted: Wanted, base_url: str) -> dict[str, Any]:
    """It is not stored, so it has no id; its attachment is made when it is read."""
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "type": coded(LOINC, SUMMARY, "Patient summary"),
        "subject": reference(f"Patient/{wanted.patient}"),
        "date": instant(uow.now),
        "content": [
            {
                "attachment": {
                    "contentType": "application/fhir+json",
                    "url": f"{base_url}/Patient/{wanted.patient}/$summary",
                },
                "format": _IPS,
            }
        ],
    }
