"""What of the record belongs to one episode: the resources a dossier is composed from, as trees."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ehr.fhir.elements import identifier_of, target_of
from ehr.fhir.vietnam import EPISODE_LINK, INSURANCE_NUMBER, OBSERVATION_CATEGORY, PRACTISING_CERTIFICATE

Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Episode:
    """One finished, insured Encounter with everything its claim may need.

    facility_code      MACSKCB of the sender; facility_kind as in the facility table (station, centre, hospital, other)
    coverages          BHYT cards of the patient that were valid in the episode, in the order of validity
    referred           "Type/id" → resource, for everything in the patient's compartment a charge may point at
    certificates       "Practitioner/id" → practising certificate
    """

    facility_code: str
    facility_kind: str
    encounter: Tree
    encounter_version: int
    patient: Tree
    coverages: Sequence[Tree]
    charges: Sequence[Tree]
    observations: Sequence[Tree]
    notes: Sequence[Tree]
    referred: Mapping[str, Tree]
    certificates: Mapping[str, str]

    @property
    def ma_lk(self) -> str:
        return identifier_of(self.encounter, EPISODE_LINK) or ""

    def conditions(self, roles: frozenset[str] | None = None) -> Iterator[Tree]:
        """Diagnoses that hold, by rank, of the given roles (diagnosis-role codes) or all."""
        listed = sorted(
            enumerate(self.encounter.get("diagnosis", ())), key=lambda one: (one[1].get("rank", 1 << 30), one[0])
        )
        for _, diagnosis in listed:
            role = {coding.get("code") for coding in diagnosis.get("use", {}).get("coding", ())}
            condition = self.referred.get(target_of(diagnosis.get("condition")))
            if condition is not None and holds(condition) and (roles is None or role & roles):
                yield condition

    def certificate(self, *candidates: Tree | None) -> str:
        """The first practising certificate that one of some references leads to; "" where none does."""
        for candidate in candidates:
            if not candidate:
                continue
            logical = candidate.get("identifier", {})
            if logical.get("system") == PRACTISING_CERTIFICATE and logical.get("value"):
                return str(logical["value"])
            known = self.certificates.get(target_of(candidate))
            if known:
                return known
        return ""

    @property
    def clinician(self) -> Tree | None:
        """Who was responsible: the first participant of the Encounter."""
        for participant in self.encounter.get("participant", ()):
            individual = participant.get("individual")
            if individual:
                return dict(individual)
        return None


def holds(tree: Tree) -> bool:
    """Neither called off, nor entered in error, nor refuted."""
    verified = {coding.get("code") for coding in tree.get("verificationStatus", {}).get("coding", ())}
    return not {tree.get("status"), *verified} & {"cancelled", "entered-in-error", "refuted"}


def card_of(coverage: Tree) -> str:
    """The BHYT card number of a Coverage; "" where it is no BHYT card."""
    return identifier_of(coverage, INSURANCE_NUMBER) or ""


def has_category(observation: Tree, code: str) -> bool:
    return any(
        coding.get("code") == code and coding.get("system", OBSERVATION_CATEGORY) == OBSERVATION_CATEGORY
        for concept in observation.get("category", ())
        for coding in concept.get("coding", ())
    )
