"""One JSON object → the invariants of its type that it breaks.

In:      type or backbone path, object whose structure has been found right
Out:     keys and texts of the broken ones
Why:     plain Python for the constraints of severity error that senders break most; each has its key of the
         specification, and the text says what to change. Constraints of severity warning are not checked.
Source:  FHIR R4 4.0.1 StructureDefinitions, ElementDefinition.constraint
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from ehr.fhir.bundle_invariants import BUNDLE_INVARIANTS
from ehr.fhir.invariant import Invariant, choice, coding_of, has, implies

UCUM: Final = "http://unitsofmeasure.org"
_CLINICAL: Final = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_CONDITION_VERIFICATION: Final = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_ALLERGY_VERIFICATION: Final = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"

Node = Mapping[str, Any]


def _period_in_order(node: Node) -> bool:
    """Compared as far as both are precise; zones are compared only when both moments have the same one."""
    start, end = node.get("start"), node.get("end")
    if not isinstance(start, str) or not isinstance(end, str):
        return True
    if "T" in start and "T" in end and (start[-6:] != end[-6:] and not (start[-1] == end[-1] == "Z")):
        return _instant(start) <= _instant(end)
    length = min(len(start.split("T")[0]), len(end.split("T")[0]))
    if "T" in start and "T" in end:
        return _instant(start) <= _instant(end)
    return start[:length] <= end[:length]


def _instant(text: str) -> tuple[int, Decimal]:
    """Minutes since year 0 in UTC, and seconds: enough to compare two moments, leap seconds included."""
    day, clock = text.split("T")
    offset = 0
    if clock.endswith("Z"):
        clock = clock[:-1]
    else:
        sign = -1 if clock[-6] == "-" else 1
        offset = sign * (int(clock[-5:-3]) * 60 + int(clock[-2:]))
        clock = clock[:-6]
    hour, minute, second = clock.split(":")
    days = _day_number(*map(int, day.split("-")))
    return days * 1440 + int(hour) * 60 + int(minute) - offset, Decimal(second)


def _day_number(year: int, month: int, day: int) -> int:
    before = year - 1
    start_of_month = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)[month - 1]
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return before * 365 + before // 4 - before // 100 + before // 400 + start_of_month + day + (is_leap and month > 2)


def _range_in_order(node: Node) -> bool:
    low, high = node.get("low", {}), node.get("high", {})
    if "value" not in low or "value" not in high or low.get("code") != high.get("code"):
        return True
    return bool(Decimal(str(low["value"])) <= Decimal(str(high["value"])))


def _component_codes_differ(node: Node) -> bool:
    if not choice(node, "value"):
        return True
    own = {(coding.get("system"), coding.get("code")) for coding in coding_of(node.get("code", {}))}
    return not any(
        (coding.get("system"), coding.get("code")) in own
        for component in node.get("component", [])
        for coding in coding_of(component.get("code", {}))
    )


def _status(node: Node, name: str, system: str) -> set[str]:
    return {
        str(coding.get("code")) for coding in coding_of(node.get(name, {})) if coding.get("system") in (system, None)
    }


def _abated_is_inactive(node: Node) -> bool:
    inactive = {"resolved", "remission", "inactive"}
    return not choice(node, "abatement") or bool(_status(node, "clinicalStatus", _CLINICAL) & inactive)


def _ratio_whole(node: Node) -> bool:
    if has(node, "numerator") != has(node, "denominator"):
        return False
    return has(node, "numerator") or has(node, "extension")


def _value_with_unit(node: Node) -> bool:
    return (has(node, "code") or not has(node, "value")) and node.get("system", UCUM) == UCUM


def _one_of_parameter(node: Node) -> bool:
    kinds = [has(node, "part"), bool(choice(node, "value")), has(node, "resource")]
    return sum(kinds) == 1


def _no_home(uses: str) -> Callable[[Node], bool]:
    return lambda node: all(entry.get("use") != "home" for entry in node.get(uses, []))


_QUANTITY: Final = Invariant("qty-3", "a code needs the system it is of", lambda node: implies(node, "code", "system"))
_TIMING: Final = (
    Invariant("tim-1", "duration needs durationUnit", lambda node: implies(node, "duration", "durationUnit")),
    Invariant("tim-2", "period needs periodUnit", lambda node: implies(node, "period", "periodUnit")),
    Invariant("tim-4", "duration must not be negative", lambda node: node.get("duration", 0) >= 0),
    Invariant("tim-5", "period must not be negative", lambda node: node.get("period", 0) >= 0),
    Invariant("tim-6", "periodMax needs period", lambda node: implies(node, "periodMax", "period")),
    Invariant("tim-7", "durationMax needs duration", lambda node: implies(node, "durationMax", "duration")),
    Invariant("tim-8", "countMax needs count", lambda node: implies(node, "countMax", "count")),
    Invariant(
        "tim-9",
        "offset needs when, and one that is not a meal itself (C, CM, CD, CV)",
        lambda node: not has(node, "offset") or bool(set(node.get("when", [])) - {"C", "CM", "CD", "CV"}),
    ),
    Invariant("tim-10", "timeOfDay and when exclude each other", lambda node: not (has(node, "timeOfDay", "when"))),
)

INVARIANTS: Final[Mapping[str, tuple[Invariant, ...]]] = {
    "Extension": (
        Invariant(
            "ext-1",
            "either a value or extensions, not both",
            lambda node: has(node, "extension") ^ bool(choice(node, "value")),
        ),
    ),
    "Period": (Invariant("per-1", "start must not be after end", _period_in_order),),
    "Quantity": (_QUANTITY,),
    "Age": (_QUANTITY, Invariant("age-1", "a value needs a UCUM code", _value_with_unit)),
    "Duration": (
        _QUANTITY,
        Invariant(
            "drt-1",
            "a code needs a value, in UCUM",
            lambda node: not has(node, "code") or (has(node, "value") and node.get("system") == UCUM),
        ),
    ),
    "Count": (
        _QUANTITY,
        Invariant(
            "cnt-3",
            "a value needs the UCUM code 1",
            lambda node: _value_with_unit(node) and node.get("code", "1") == "1",
        ),
    ),
    "Distance": (_QUANTITY, Invariant("dis-1", "a value needs a UCUM code", _value_with_unit)),
    "Range": (Invariant("rng-2", "low must not be above high", _range_in_order),),
    "Ratio": (Invariant("rat-1", "numerator and denominator, or neither and an extension", _ratio_whole),),
    "Attachment": (Invariant("att-1", "data needs contentType", lambda node: implies(node, "data", "contentType")),),
    "ContactPoint": (Invariant("cpt-2", "a value needs a system", lambda node: implies(node, "value", "system")),),
    "Timing.repeat": _TIMING,
    "Observation": (
        Invariant(
            "obs-6",
            "dataAbsentReason only where there is no value",
            lambda node: not (has(node, "dataAbsentReason") and choice(node, "value")),
        ),
        Invariant(
            "obs-7", "no value where a component has the code of the observation itself", _component_codes_differ
        ),
    ),
    "Observation.referenceRange": (
        Invariant(
            "obs-3", "at least low, high or text", lambda node: any(has(node, name) for name in ("low", "high", "text"))
        ),
    ),
    "Patient.contact": (
        Invariant(
            "pat-1",
            "at least a name, telecom, address or organization",
            lambda node: any(has(node, name) for name in ("name", "telecom", "address", "organization")),
        ),
    ),
    "Condition": (
        Invariant(
            "con-4", "an abated condition has the clinical status inactive, resolved or remission", _abated_is_inactive
        ),
        Invariant(
            "con-5",
            "no clinicalStatus where the record was entered in error",
            lambda node: (
                not (
                    has(node, "clinicalStatus")
                    and "entered-in-error" in _status(node, "verificationStatus", _CONDITION_VERIFICATION)
                )
            ),
        ),
    ),
    "Condition.stage": (
        Invariant("con-1", "a summary or an assessment", lambda node: has(node, "summary") or has(node, "assessment")),
    ),
    "Condition.evidence": (
        Invariant("con-2", "a code or details", lambda node: has(node, "code") or has(node, "detail")),
    ),
    "AllergyIntolerance": (
        Invariant(
            "ait-1",
            "clinicalStatus unless the record was entered in error",
            lambda node: (
                has(node, "clinicalStatus")
                or "entered-in-error" in _status(node, "verificationStatus", _ALLERGY_VERIFICATION)
            ),
        ),
        Invariant(
            "ait-2",
            "no clinicalStatus where the record was entered in error",
            lambda node: (
                not (
                    has(node, "clinicalStatus")
                    and "entered-in-error" in _status(node, "verificationStatus", _ALLERGY_VERIFICATION)
                )
            ),
        ),
    ),
    "Organization": (
        Invariant(
            "org-1", "at least a name or an identifier", lambda node: has(node, "name") or has(node, "identifier")
        ),
        Invariant("org-2", "an organization's address is never of use home", _no_home("address")),
        Invariant("org-3", "an organization's telecom is never of use home", _no_home("telecom")),
    ),
    "Immunization.education": (
        Invariant(
            "imm-1", "documentType or reference", lambda node: has(node, "documentType") or has(node, "reference")
        ),
    ),
    "CarePlan.activity": (
        Invariant("cpl-3", "a detail or a reference, not both", lambda node: not has(node, "detail", "reference")),
    ),
    "Appointment": (
        Invariant("app-2", "start and end, or neither", lambda node: has(node, "start") == has(node, "end")),
        Invariant(
            "app-3",
            "start and end unless proposed, cancelled or waitlist",
            lambda node: has(node, "start", "end") or node.get("status") in ("proposed", "cancelled", "waitlist"),
        ),
        Invariant(
            "app-4",
            "cancelationReason only where cancelled or noshow",
            lambda node: not has(node, "cancelationReason") or node.get("status") in ("cancelled", "noshow"),
        ),
    ),
    "Appointment.participant": (
        Invariant("app-1", "a type or an actor", lambda node: has(node, "type") or has(node, "actor")),
    ),
    "Composition.section": (
        Invariant(
            "cmp-1",
            "text, entries or sections",
            lambda node: any(has(node, name) for name in ("text", "entry", "section")),
        ),
        Invariant(
            "cmp-2", "emptyReason only where there are no entries", lambda node: not has(node, "emptyReason", "entry")
        ),
    ),
    "FamilyMemberHistory": (
        Invariant("fhs-1", "age or born, not both", lambda node: not (choice(node, "age") and choice(node, "born"))),
        Invariant(
            "fhs-2",
            "estimatedAge needs an age",
            lambda node: not has(node, "estimatedAge") or bool(choice(node, "age")),
        ),
    ),
    "List": (
        Invariant(
            "lst-1", "emptyReason only where there are no entries", lambda node: not has(node, "emptyReason", "entry")
        ),
        Invariant(
            "lst-2",
            "deleted only in a list of changes",
            lambda node: (
                node.get("mode") == "changes" or all("deleted" not in entry for entry in node.get("entry", []))
            ),
        ),
    ),
    "Group": (
        Invariant(
            "grp-1",
            "members only where the group is actual",
            lambda node: not has(node, "member") or node.get("actual") is True,
        ),
    ),
    "QuestionnaireResponse.item": (
        Invariant("qrs-1", "answers or items, not both", lambda node: not has(node, "answer", "item")),
    ),
    "Parameters.parameter": (Invariant("inv-1", "exactly one of value, resource and parts", _one_of_parameter),),
    "AuditEvent.entity": (
        Invariant("sev-1", "a name or a query, not both", lambda node: not has(node, "name", "query")),
    ),
    "Goal.target": (
        Invariant("gol-1", "a detail needs a measure", lambda node: not choice(node, "detail") or has(node, "measure")),
    ),
    **BUNDLE_INVARIANTS,
}


def broken(kind: str, node: Node) -> list[Invariant]:
    """The invariants of a type that an object of right structure breaks."""
    return [invariant for invariant in INVARIANTS.get(kind, ()) if not invariant.holds(node)]
