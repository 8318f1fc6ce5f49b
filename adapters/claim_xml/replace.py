"""Find what an earlier file of the same episode wrote and this one does not name any more: to be deleted with it.

In:      the Bundle of an envelope; the record, as this facility's feed sees it
Out:     DELETE entries for the same transaction
Why:     a later file with the same MA_LK replaces the earlier one; a row that was taken out must not stay on the bill
Source:  QĐ 4750 annex (MA_LK is the key of the episode); at the portal a re-sent file replaces all its tables
"""

from collections.abc import Mapping
from typing import Any, Final

from ehr.access.policy import Caller, predicate
from ehr.fhir import codec
from ehr.fhir.vietnam import EPISODE_LINK, identifier_of
from ehr.store.criteria import Criteria, matches_many
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

ROWS_MAX: Final = 10_000
"""Rows of one episode in one type; a stay of months has some thousands."""
BY_VISIT: Final[Mapping[str, str]] = {
    "ChargeItem": "context",
    "ClinicalImpression": "encounter",
    "Condition": "encounter",
    "DiagnosticReport": "encounter",
    "DocumentReference": "encounter",
    "MedicationRequest": "encounter",
    "Observation": "encounter",
    "Procedure": "encounter",
    "ServiceRequest": "encounter",
}
"""Type → the search parameter that names its Encounter."""


async def replaced(record: Record, caller: Caller, bundle: Mapping[str, Any]) -> list[dict[str, Any]]:
    links = [
        link
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] == "Encounter" and (link := identifier_of(entry["resource"], EPISODE_LINK))
    ]
    named = {
        (entry["resource"]["resourceType"], identifier["value"])
        for entry in bundle["entry"]
        for identifier in entry["resource"].get("identifier", ())
    }
    asked = {link: Criteria("Encounter", (("identifier", f"{EPISODE_LINK}|{link}"),)) for link in links}
    gone: list[dict[str, Any]] = []
    async with record.reading(caller) as uow:
        found = await matches_many(uow, caller, predicate(caller), list(asked.values()))
        for link, criteria in asked.items():
            for visit_id in found.get(criteria, ()):
                gone += await _left(uow, caller, link, visit_id, named)
    return gone


async def _left(
    uow: UnitOfWork, caller: Caller, link: str, visit_id: str, named: set[tuple[str, str]]
) -> list[dict[str, Any]]:
    """What of one visit is to go."""
    matcher = uow.record.matcher
    assert matcher is not None, "an opened record has its search"
    gone: list[dict[str, Any]] = []
    for type_name, parameter in BY_VISIT.items():
        criteria = [(parameter, f"Encounter/{visit_id}")]
        ids = await matcher(
            uow.connection, type_name, criteria, predicate(caller), source=caller.facility_id, limit=ROWS_MAX
        )
        for id in ids:
            version = await uow.resources.read(type_name, id)
            assert version.body is not None, "a current version has a body"
            if _left_out(codec.loads(version.body), link, named):
                gone.append({"request": {"method": "DELETE", "url": f"{type_name}/{id}"}})
    return gone


def _left_out(tree: Mapping[str, Any], link: str, named: set[tuple[str, str]]) -> bool:
    """It came from a file of this episode, and this file does not have it."""
    values = [str(identifier.get("value", "")) for identifier in tree.get("identifier", ())]
    ours = any(value.startswith(f"{link}/") for value in values)
    return ours and not any((tree["resourceType"], value) in named for value in values)
