"""Who is asking, and what part of the record that lets them see: Caller → AccessPredicate.

An AccessPredicate is an argument of every query and every write, never a filter applied afterwards.
No path can be built without a Caller; the only all-seeing one names its reason and is audited.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Action = Literal["c", "r", "u", "d", "s"]
"""SMART v2 permissions: create, read, update, delete, search."""

CallerKind = Literal["system", "client", "facility", "citizen", "anonymous"]


@dataclass(frozen=True, slots=True)
class Grants:
    """What the scopes of a token allow: resource type (or "*") → actions. Nothing is granted by default."""

    actions: Mapping[str, frozenset[Action]] = field(default_factory=dict)

    def allow(self, type_name: str, action: Action) -> bool:
        return action in self.actions.get(type_name, frozenset()) or action in self.actions.get("*", frozenset())


ALL_GRANTS = Grants({"*": frozenset[Action](("c", "r", "u", "d", "s"))})


@dataclass(frozen=True, slots=True)
class AccessPredicate:
    """What the database must enforce for one caller.

    grants     checked per resource type before any SQL is built: matches, chains, _has and includes alike
    person_id  set: rows of patient-compartment types must lie in that person's shards (person_link),
               and of the other types only those in open_types are seen
    """

    grants: Grants
    person_id: str | None = None
    open_types: frozenset[str] = frozenset()


DIRECTORY_TYPES: frozenset[str] = frozenset(
    {"Organization", "Location", "Practitioner", "PractitionerRole", "HealthcareService", "Medication", "Substance"}
)
"""Types that tell nothing about a patient: a confined caller may read them to resolve references."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated party of one request, message or task.

    kind         system (the city's own tasks), client (SMART backend), facility (a feed), citizen
    id           client id, facility code, or person id; goes to the audit
    facility_id  facility.id for facility callers and clients bound to one, else 0
    person_id    Person.id a citizen token is confined to, else None
    purpose      why, as the citizen reads it beside each access: v3-ActReason
    reason       why a system caller acts ("summary refresh"); empty for others
    access       what that lets it see. Consent and links are applied by the query itself, at its moment
    """

    kind: CallerKind
    id: str
    grants: Grants
    facility_id: int = 0
    person_id: str | None = None
    purpose: str = "TREAT"
    reason: str = ""
    access: AccessPredicate = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        access = AccessPredicate(self.grants)
        if self.kind == "citizen":
            assert self.person_id, "a citizen is confined to a person"
            access = AccessPredicate(self.grants, self.person_id, DIRECTORY_TYPES)
        object.__setattr__(self, "access", access)

    @property
    def owner(self) -> str:
        """Who may ask for what this caller began, a job above all."""
        return f"{self.kind}/{self.id}"

    @staticmethod
    def system(reason: str, *, facility_id: int = 0, purpose: str = "HOPERAT") -> "Caller":
        """The city acting for itself; every use states its reason."""
        assert reason, "a system caller states its reason"
        return Caller("system", f"system/{reason}", ALL_GRANTS, facility_id, purpose=purpose, reason=reason)

    @staticmethod
    def of_facility(facility_id: int, code: str) -> "Caller":
        """A facility's feed, known by its listener or token."""
        return Caller("facility", code, ALL_GRANTS, facility_id=facility_id)
