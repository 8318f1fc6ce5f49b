"""Read one episode out of the record: the encounter, its patient's compartment and the clinicians named in it.

Access:  with the unit of work of a system caller whose reason is the claim; sealing a batch writes the audit rows
Cost:    three statements an episode; observations are bounded by the time of the stay
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from ehr.clock import us_of
from ehr.fhir import codec
from ehr.fhir.elements import identifier_of, target_of
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.fhir.references import find
from ehr.fhir.vietnam import PRACTISING_CERTIFICATE
from ehr.store.unit_of_work import UnitOfWork
from sync.episode import Episode, Tree, card_of
from sync.moments import moment

_LATE_RESULTS: Final = timedelta(days=60)
"""Results may come up to 60 days after the episode (QĐ 4750, XML3.NGAY_KQ)."""

_ENCOUNTER: Final = """
SELECT r.body, r.version, r.shard, f.code, f.kind, f.id AS facility_id
FROM resource r JOIN facility f ON f.id = r.source
WHERE r.type_id = $1 AND r.id = $2
"""
_COMPARTMENT: Final = """
SELECT type_id, id, body FROM resource WHERE shard = $1 AND (type_id = ANY($2::smallint[])
  OR (type_id = $3 AND (date_lo_us IS NULL OR date_lo_us BETWEEN $4 AND $5)))
"""
_PRACTITIONERS: Final = "SELECT id, body FROM resource WHERE type_id = $1 AND id = ANY($2::text[])"
_PLACE: Final = "SELECT body, shard FROM resource WHERE type_id = $1 AND id = $2"
_COVERAGES: Final = "SELECT id, body FROM resource WHERE type_id = $1 AND shard = $2 ORDER BY rid"
_TYPES: Final = (
    "Patient",
    "Coverage",
    "Condition",
    "ChargeItem",
    "MedicationRequest",
    "MedicationAdministration",
    "MedicationDispense",
    "Procedure",
    "ServiceRequest",
    "DiagnosticReport",
    "ClinicalImpression",
)


@dataclass(frozen=True, slots=True)
class Found:
    """An episode and where it lies."""

    episode: Episode
    shard: int
    facility_id: int


async def episode_of(uow: UnitOfWork, encounter_id: str) -> Found | None:
    """The episode of an encounter; None where it is not (or no longer) a finished, insured one of a facility."""
    row = await uow.connection.fetchrow(_ENCOUNTER, TYPE_IDS["Encounter"], encounter_id)
    if row is None:
        return None
    encounter = tree_of(uow, row["body"])
    period = encounter.get("period", {})
    if encounter.get("status") != "finished" or "start" not in period or "end" not in period:
        return None
    held = await _compartment(uow, row["shard"], period)
    patient = held.get(target_of(encounter.get("subject")))
    if patient is None:
        return None
    coverages = valid_coverages(held.values(), str(period["start"]), str(period["end"]))
    if not coverages:
        return None
    own = f"Encounter/{encounter_id}"
    mine = [tree for tree in held.values() if target_of(tree.get("encounter") or tree.get("context")) == own]
    episode = Episode(
        facility_code=row["code"],
        facility_kind=row["kind"],
        encounter=encounter,
        encounter_version=row["version"],
        patient=patient,
        coverages=coverages,
        charges=_of_type(mine, "ChargeItem"),
        observations=_of_type(mine, "Observation"),
        notes=_of_type(mine, "ClinicalImpression"),
        referred=held,
        certificates=await _certificates(uow, [encounter, *mine]),
    )
    return Found(episode, row["shard"], row["facility_id"])


async def claimant_of(uow: UnitOfWork, encounter_id: str, card: str) -> tuple[str, str] | None:
    """(Patient id, Coverage id) of a claim already sealed; None where one of them is gone."""
    row = await uow.connection.fetchrow(_PLACE, TYPE_IDS["Encounter"], encounter_id)
    if row is None:
        return None
    patient = target_of(tree_of(uow, row["body"]).get("subject"))
    for held in await uow.connection.fetch(_COVERAGES, TYPE_IDS["Coverage"], row["shard"]):
        if card_of(tree_of(uow, held["body"])) == card:
            return patient.removeprefix("Patient/"), held["id"]
    return None


def valid_coverages(held: Any, start: str, end: str) -> list[Tree]:
    """The BHYT cards that were valid on a day of the stay, the first valid first."""
    cards = [
        tree
        for tree in held
        if tree["resourceType"] == "Coverage"
        and tree.get("status") == "active"
        and card_of(tree)
        and str(tree.get("period", {}).get("start", ""))[:10] <= end[:10]
        and (str(tree.get("period", {}).get("end", "")) or "9999")[:10] >= start[:10]
    ]
    return sorted(cards, key=lambda tree: (str(tree.get("period", {}).get("start", "")), card_of(tree), tree["id"]))


async def _compartment(uow: UnitOfWork, shard: int, period: Mapping[str, Any]) -> dict[str, Tree]:
    """Everything of the patient a claim may need, by reference."""
    first = moment(str(period["start"]), "Encounter.period.start") - timedelta(days=1)
    last = moment(str(period["end"]), "Encounter.period.end") + _LATE_RESULTS
    rows = await uow.connection.fetch(
        _COMPARTMENT,
        shard,
        [TYPE_IDS[name] for name in _TYPES],
        TYPE_IDS["Observation"],
        us_of(first),
        us_of(last),
    )
    return {f"{TYPE_NAMES[row['type_id']]}/{row['id']}": tree_of(uow, row["body"]) for row in rows}


async def _certificates(uow: UnitOfWork, trees: Sequence[Tree]) -> dict[str, str]:
    """Practising certificates of the practitioners that the resources refer to."""
    named = {found.value for tree in trees for found in find(tree) if found.value.startswith("Practitioner/")}
    ids = sorted({value.split("/")[1] for value in named})
    if not ids:
        return {}
    rows = await uow.connection.fetch(_PRACTITIONERS, TYPE_IDS["Practitioner"], ids)
    known = {
        f"Practitioner/{row['id']}": identifier_of(tree_of(uow, row["body"]), PRACTISING_CERTIFICATE) for row in rows
    }
    return {name: certificate for name, certificate in known.items() if certificate}


def _of_type(trees: Sequence[Tree], type_name: str) -> list[Tree]:
    return sorted((tree for tree in trees if tree["resourceType"] == type_name), key=lambda tree: str(tree["id"]))


def tree_of(uow: UnitOfWork, frame: bytes) -> dict[str, Any]:
    """A resource from its stored bytes."""
    return codec.loads(uow.record.bodies.decompress(frame))
